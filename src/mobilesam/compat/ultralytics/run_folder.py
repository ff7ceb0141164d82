"""The files that ``predict`` writes: which folder is a run's, and what lies in it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from mobilesam.compat.ultralytics.options import PredictOptions
from mobilesam.compat.ultralytics.results import Results
from mobilesam.core.errors import OutputError
from mobilesam.core.text import printable

PROJECT, NAME = "runs/segment", "predict"


class RunFolder:
    """Writes what is asked for of each result; the folder is made with the first file.

    ``STEM.jpg`` with the masks drawn in, ``labels/STEM.txt`` and ``crops/CLASS/STEM.jpg``,
    where a video's stem ends in the frame's number. Images that share a name get a number.

    Args:
        options: what is written, and where.
    """

    def __init__(self, options: PredictOptions) -> None:
        self._options = options
        self._folder: Path | None = None
        self._taken: set[str] = set()

    def write(self, result: Results, stem: str) -> None:
        """Write one result's files.

        Raises:
            OutputError: if one cannot be written.
        """
        options = self._options
        if not (options.save or options.save_txt or options.save_crop):
            return
        if self._folder is None:
            self._folder = make_run_folder(options.project, options.name, exist_ok=options.exist_ok)
        folder, result.save_dir = self._folder, str(self._folder)
        stem = self._free(stem)
        if options.save:
            result.save(folder / f"{stem}.jpg", **options.drawing())
        if options.save_txt:
            result.save_txt(folder / "labels" / f"{stem}.txt", save_conf=options.save_conf)
        if options.save_crop:
            result.save_crop(folder / "crops", f"{stem}.jpg")

    def _free(self, stem: str) -> str:
        candidates = (stem if i == 1 else f"{stem}_{i}" for i in count(1))
        free = next(c for c in candidates if c.casefold() not in self._taken)
        self._taken.add(free.casefold())
        return free


def make_run_folder(project: str | Path | None, name: str | None, *, exist_ok: bool = False) -> Path:
    """Make the folder of a run and return it: ``project/name``, with a number from 2 if it is taken.

    Args:
        project: folder of the runs.
        name: of this run.
        exist_ok: take an existing folder.

    Raises:
        OutputError: if it cannot be made.
    """
    base = Path(project or PROJECT) / (name or NAME)
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        if exist_ok:
            base.mkdir(exist_ok=True)
            return base
        for i in count(1):
            folder = base if i == 1 else base.with_name(f"{base.name}{i}")
            try:
                folder.mkdir()  # of two processes, only one makes it
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise OutputError(
            f"{printable(base)}: cannot be made ({error.strerror}); choose another project"
        ) from error
    raise AssertionError("numbers do not end")
