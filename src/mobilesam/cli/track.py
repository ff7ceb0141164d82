"""``mobilesam track``: objects followed through a video or a camera's pictures."""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import click

from mobilesam.annotate.sources import Source
from mobilesam.annotate.tracks import KIND_ENDINGS, KINDS, MASKS, TrackWriters, VideoOut, names_of
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import BoxType, ModelOptions, PointType, load_model, place_box, place_point
from mobilesam.cli.progress import StatusLine, time_left
from mobilesam.cli.results import ResultOptions, choose_kinds, save_option
from mobilesam.core.allocator import return_large_blocks
from mobilesam.core.arrays import Size
from mobilesam.core.errors import ImageWarning, PromptError, PromptWarning
from mobilesam.core.text import counted, printable
from mobilesam.core.types import Prompt
from mobilesam.formats.camera import LatestFrames, open_camera
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.prompt_file import read_track_prompts
from mobilesam.formats.video import read_video, read_video_facts
from mobilesam.segment.model import Model
from mobilesam.segment.track.prompts import TrackPrompt
from mobilesam.segment.track.results import TrackedFrame
from mobilesam.segment.track.stream import TrackOptions

DEFAULT_SAVE = "overlay,masks"
FRAME = re.compile(r"(?P<rest>[^@]*)@(?P<frame>\d{1,9})")


class OnFrame(click.ParamType):
    """A point or a box, with ``@FRAME`` behind it if it is not on the first frame."""

    def __init__(self, inner: click.ParamType) -> None:
        self.inner = inner
        self.name = f"{inner.name}[@FRAME]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the frame's number from 1, and what comes before the @."""
        frame, rest = 1, value
        if "@" in value:
            parts = FRAME.fullmatch(value)
            if parts is None or int(parts["frame"]) < 1:
                self.fail(f"{value!r}: after @ comes the number of a frame, from 1", param, ctx)
            frame, rest = int(parts["frame"]), parts["rest"]
        return frame, self.inner.convert(rest, param, ctx)


@dataclass(frozen=True)
class FollowOptions:
    """What is followed.

    Attributes:
        point: a point on the object, on frame 1 or another; LABEL 0 means off it. All points are of one object; those on
            later frames correct it.
        box: a box around an object, on frame 1 or another. Repeat for more objects.
        prompts: prompts for any number of objects on any frames.
        both: follow objects backwards, too, from the frames they are pointed at.
        search: on how many frames a lost object is looked for; 0 for all.
        fine: look more closely, for small objects in large frames; half as fast.
        camera: follow what a camera shows: its number, or FORMAT:NAME of an FFmpeg device.
        frames: end after this many frames.
    """

    point: tuple = option_field((), multiple=True, type=OnFrame(PointType()))
    box: tuple = option_field((), multiple=True, type=OnFrame(BoxType()))
    prompts: str | None = option_field(None, metavar="FILE.json")
    both: bool = False
    search: int = TrackOptions.search
    fine: bool = False
    camera: str | None = option_field(None, metavar="DEVICE")
    frames: int | None = option_field(None, type=click.IntRange(1), metavar="N")

    def __post_init__(self) -> None:
        if self.prompts is not None and (self.point or self.box):
            raise PromptError(
                "--prompts: cannot be joined with --point or --box; put all into the file", code="U"
            )
        if self.prompts is None and not (self.point or self.box):
            raise PromptError(
                "no prompt: give --point, --box or --prompts, with @FRAME for a frame other than 1"
            )
        if self.camera is not None and self.both:
            raise click.UsageError("--both: a camera cannot be gone through backwards; leave it out")


@click.command()
@click.argument("video", required=False, metavar="[VIDEO]")
@options_from(FollowOptions, "follow")
@save_option(KINDS, DEFAULT_SAVE)
@options_from(ResultOptions, "results")
@options_from(ModelOptions, "model")
def track(
    video: str | None,
    follow: FollowOptions,
    save: str | None,
    results: ResultOptions,
    model: ModelOptions,
) -> int:
    """Follow objects through a video or a camera's pictures.

    VIDEO is a file, or a folder of pictures. Coordinates are pixels of the upright frame, or per cent of its
    sides; @FRAME says on which frame, from 1. Each --box is an object of its own; all --point are one object, and
    together with one --box they describe it. What is lost is reported, and looked for on the frames that follow.

    \b
    mobilesam track dog.mp4 --box 120,40,380,300
    mobilesam track dog.mp4 --box 120,40,380,300 --box 400,60,560,280 -o dogs.mp4
    mobilesam track dog.mp4 --point 50%,40% --point 210,90@75 --out masks --save masks,coco
    mobilesam track dog.mp4 --box 120,40,380,300@75 --both -o dog.webm
    mobilesam track --camera 0 --point 50%,50% --frames 300 -o seen.mp4

    Results are DIR/NAME_overlay.mp4, DIR/NAME_masks/00001.png and so on; docs/how-to/video.md lists all of them.
    """
    if (video is None) == (follow.camera is None):
        raise click.UsageError("VIDEO: give a video's name, or --camera, and not both")
    if results.to_stdout:
        raise click.UsageError("--out -: a video is not printed; give a folder, or a file's name")
    kinds = choose_kinds(save, results, KIND_ENDINGS, DEFAULT_SAVE)
    name = "camera" if video is None else video
    source = Source(name, Path(name).stem, Path(name))
    destination = results.destination([source] if video else [], [follow.prompts])
    place = destination.place(source, names_of(kinds))
    given = None if follow.prompts is None else read_track_prompts(follow.prompts)
    out = VideoOut(source.stem, overwrite=results.overwrite)
    if video is not None and not Path(video).is_dir():
        facts = read_video_facts(video)
        out = replace(
            out, rate=facts.rate, sound=Path(video) if facts.sound and follow.frames is None else None
        )
    return_large_blocks()
    loaded = load_model(model, quiet=results.quiet)
    tale = Tale(quiet=results.quiet)
    with _told(tale), _frames(video, follow, results) as (frames, size):
        prompts = given if given is not None else _prompts(follow, size)
        options = TrackOptions("both" if follow.both else "forward", follow.search, follow.fine)
        with TrackWriters(place, kinds, out) as writers:
            _go_through(loaded, frames, prompts, options, follow, writers, tale, results.max_pixels)
    tale.end(name, writers.paths, as_json=results.json)
    return 0


def _go_through(
    model: Model,
    frames: Any,
    prompts: Any,
    options: TrackOptions,
    follow: FollowOptions,
    writers: TrackWriters,
    tale: Tale,
    max_pixels: int,
) -> None:
    """Write every frame; a camera ends when it is interrupted."""
    tracked = model.track(frames, prompts, options=options, max_pixels=max_pixels, progress=tale.progress)
    try:
        for frame in islice(tracked, follow.frames):
            writers.add(frame)
            tale.tell(frame)
    except KeyboardInterrupt:
        if follow.camera is None or not tale.frames:
            raise


@contextmanager
def _frames(video: str | None, follow: FollowOptions, results: ResultOptions) -> Iterator[tuple[Any, Size]]:
    """Yield the frames to go through, and the size of the first."""
    if video is not None:
        path = Path(video)
        if path.is_dir():
            from mobilesam.segment.track.frames import open_frames

            first = next(open_frames(path, max_pixels=results.max_pixels).forward())
        else:
            first = next(read_video(path, max_pixels=results.max_pixels))
        yield path, first.image.shape[:2]
        return
    assert follow.camera is not None
    with LatestFrames(open_camera(follow.camera, max_pixels=results.max_pixels)) as latest:
        yield latest, latest.size()


def _prompts(follow: FollowOptions, size: Size) -> list[TrackPrompt]:
    """Return the prompts of --point and --box on a frame of (height, width)."""
    prompts: list[TrackPrompt] = []
    points: dict[int, list[tuple[list[float], float]]] = {}
    for frame, (x, y, label) in follow.point:
        points.setdefault(frame, []).append((place_point(x, y, size), label))
    boxes = [(frame, place_box(box, size)) for frame, box in follow.box]
    if points and len(boxes) > 1:
        raise PromptError(
            f"--box: {len(boxes)} boxes together with points can be meant in several ways; "
            "write them as objects into a file for --prompts",
            code="U",
        )
    if not points:
        return [TrackPrompt(Prompt(box=box), frame, i) for i, (frame, box) in enumerate(boxes, start=1)]
    for frame in sorted({*points, *(frame for frame, _ in boxes)}):
        box = next((box for at, box in boxes if at == frame), None)
        here = points.get(frame, [])
        prompt = Prompt([one for one, _ in here] or None, [label for _, label in here] or None, box)
        prompts.append(TrackPrompt(prompt, frame, 1))
    return prompts


@dataclass
class Tale:
    """Reports how far it is, what is lost and what is found again.

    Attributes:
        quiet: print errors only.
        frames: how many are done.
        lost: spans of frames on which an object was lost, by object; the last may still go on.
    """

    quiet: bool
    line: StatusLine = field(default_factory=StatusLine)
    start: float = field(default_factory=time.monotonic)
    frames: int = 0
    objects: dict[int, str | None] = field(default_factory=dict)
    lost: dict[int, list[list[int | str]]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.line.on_terminal &= not self.quiet

    def progress(self, done: int, total: int | None) -> None:
        """Redraw the line."""
        seconds = time.monotonic() - self.start
        rate = done / max(seconds, 1e-6)
        of = "" if total is None else f" of {total:,}"
        left = "" if total is None else f", {time_left((total - done) / max(rate, 1e-6))}"
        self.line.draw(lambda: f"frame {done:,}{of}, {rate:.1f} frames/s{left}")

    def tell(self, frame: TrackedFrame) -> None:
        """Take note of a frame."""
        self.frames = frame.number
        for one in frame.objects:
            self.objects.setdefault(one.id, one.label)
            spans = self.lost.setdefault(one.id, [])
            going_on = bool(spans) and spans[-1][1] == frame.number - 1
            if one.lost and going_on:
                spans[-1][1] = frame.number
            elif one.lost:
                spans.append([frame.number, frame.number, one.question])
                self.warn(f"frame {frame.number}: object {one.caption}: {one.question}")
            elif going_on:
                self.warn(f"frame {frame.number}: object {one.caption}: found again")

    def warn(self, text: str) -> None:
        """Print a remark on its own line."""
        self.remarks.append(text)
        if not self.quiet:
            self.line.clear()
            click.echo(f"warning: {printable(text)}", err=True)

    def end(self, name: str, paths: dict[str, Path], *, as_json: bool) -> None:
        """Print the record."""
        self.line.clear()
        seconds = time.monotonic() - self.start
        if as_json:
            objects = [
                {
                    "id": number,
                    "label": label,
                    "lost": [{"from": a, "to": b, "question": q} for a, b, q in self.lost.get(number, [])],
                }
                for number, label in sorted(self.objects.items())
            ]
            record = {"file": name, "frames": self.frames, "seconds": round(seconds, 3), "objects": objects}
            files = {kind: str(path) for kind, path in paths.items()}
            click.echo(json.dumps(record | {"files": files, "warnings": self.remarks}))
            return
        if self.quiet:
            return
        click.echo(
            f"{shown(name)}: {counted(self.frames, 'frames')} in {seconds:.1f} s, {self.frames / max(seconds, 1e-6):.1f} a second"
        )
        for number, label in sorted(self.objects.items()):
            spans = [f"{a}" if a == b else f"{a} to {b}" for a, b, _ in self.lost.get(number, [])]
            seen = f"lost on frames {', '.join(spans)}" if spans else "seen on all frames"
            click.echo(f"  object {number}{f' {printable(label)}' if label else ''}: {seen}")
        for kind, path in paths.items():
            click.echo(f"  {kind}: {printable(str(path))}{'/' if kind == MASKS else ''}")


@contextmanager
def _told(tale: Tale) -> Iterator[None]:
    """Print warnings as they come."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, PromptWarning | ImageWarning):
            tale.warn(str(message))
        else:
            before(message, category, *where, **more)

    with warnings.catch_warnings():
        for kind in (PromptWarning, ImageWarning):
            warnings.simplefilter("always", kind)
        warnings.showwarning = show
        yield
