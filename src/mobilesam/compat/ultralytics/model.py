"""``SAM``: prompts and images in, results out, as ultralytics' users know them."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from mobilesam.compat.errors import NoSuchAttributeError
from mobilesam.compat.ultralytics.checkpoints import find_checkpoint
from mobilesam.compat.ultralytics.options import (
    PredictOptions,
    is_other_size,
    read_options,
    refuse_search_options,
    refuse_unknown,
)
from mobilesam.compat.ultralytics.prompts import naming, nested_to_prompts
from mobilesam.compat.ultralytics.results import FoundObject, Results
from mobilesam.compat.ultralytics.run_folder import RunFolder
from mobilesam.compat.ultralytics.sources import Picture, open_source
from mobilesam.compat.ultralytics.summary import summarise_network
from mobilesam.compat.ultralytics.tracking import Tracking
from mobilesam.core.arrays import ArrayLike
from mobilesam.core.errors import ConfigError, OptionWarning, missing_extra
from mobilesam.core.phrases import number_texts
from mobilesam.core.prompts import names_with
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.formats.coco import UNNAMED
from mobilesam.segment.model import Model, load, warn_of_remarks
from mobilesam.segment.results import Segmentation
from mobilesam.weights import read_weights, weights_path

if TYPE_CHECKING:
    from mobilesam.evaluate.prompted import PromptedScores

DEFAULT_WEIGHTS = "sam_b.pt"  # the original's
EXPORT_FORMATS = ("onnx",)
NO_CALLBACKS = "there are none; go through the results with stream=True and do it there"


class SAM:
    """A promptable model with the methods of ultralytics' class of this name.

    Args:
        model: ``mobile_sam.pt``, ``sam_b.pt``, ``sam_l.pt``, ``sam_h.pt``, ``pocket`` or another
            name of ``mobilesam info``, or a file of weights. Nothing is downloaded.
        runtime: ``onnx`` (the default) or ``torch``.
        device: as in ``predict``.
        dtype: as in :func:`mobilesam.load`.
        threads: as in :func:`mobilesam.load`.

    Attributes:
        model: the :class:`mobilesam.Model` behind it.
        task: ``segment``.
        overrides: options of ``predict`` for calls that do not give them.

    Raises:
        ConfigError: for an unknown name, runtime or device.
        WeightsError: if the weights are missing or damaged; the message says how to get them.

    Example:
        >>> import numpy as np
        >>> model = SAM("pocket")
        >>> image = np.zeros((60, 80, 3), np.uint8)  # BGR
        >>> (result,) = model(image, bboxes=[[10, 10, 70, 50], [20, 20, 40, 40]], conf=0)
        >>> len(result), result.masks.shape, result.boxes.cls.tolist()
        (2, (2, 60, 80), [0.0, 1.0])
    """

    task = "segment"

    def __init__(
        self,
        model: str | Path = DEFAULT_WEIGHTS,
        *,
        runtime: str | None = None,
        device: Any = None,
        dtype: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.checkpoint = find_checkpoint(model)
        self._runtime, self._dtype, self._threads = runtime, dtype, threads
        self._device = device_name(device)
        self._sizes_told: set[str] = set()
        self.overrides: dict[str, Any] = {"task": self.task, "mode": "predict"}
        self._tracking: Tracking | None = None
        self.model = self._load()

    def __repr__(self) -> str:
        return f"SAM({self.model.name!r}, device={self.device!r})"

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self.model.runtime.device

    @property
    def ckpt_path(self) -> str:
        """The file of the weights."""
        return str(self.checkpoint.path or weights_path(self.checkpoint.entry))

    def eval(self) -> Self:
        """Return itself: nothing here is in training."""
        return self

    def fuse(self) -> Self:
        """Return itself: the runtime joins layers when it starts."""
        return self

    def half(self) -> Self:
        """Return itself if it runs in float16.

        Raises:
            ConfigError: if it does not; says how to load it that way.
        """
        if self._dtype != "float16":
            raise ConfigError(
                f"half: this model runs in {self._dtype or 'float32'}; load it by "
                "SAM(..., runtime='torch', device='cuda', dtype='float16')"
            )
        return self

    def load(self, weights: str | Path) -> Self:
        """Take other weights, and return the model; ``weights`` is as for ``SAM``.

        Raises:
            ConfigError: for an unknown name.
            WeightsError: if the weights are missing or damaged.
        """
        before, self.checkpoint = self.checkpoint, find_checkpoint(weights)
        try:
            self.model = self._load()
        except BaseException:
            self.checkpoint = before
            raise
        return self

    def to(self, device: Any) -> Self:
        """Move the model to a device, and return it.

        Raises:
            ConfigError: for a device that is unknown or not here.
        """
        name = device_name(device)
        if name not in (None, self._device or self.device):
            before, self._device = self._device, name
            try:
                self.model = self._load()
            except BaseException:
                self._device = before
                raise
        return self

    def predict(
        self,
        source: Any = None,
        stream: bool = False,
        bboxes: ArrayLike = None,
        points: ArrayLike = None,
        labels: ArrayLike = None,
        masks: ArrayLike = None,
        names: str | Sequence[str] | None = None,
        **options: Any,
    ) -> list[Results] | Iterator[Results]:
        """Segment every image of a source, each with the same prompts; without any, everything in it.

        Args:
            source: a path, a folder, a pattern, a video, an array (H, W, 3) uint8 **BGR**, a PIL
                image, the bytes of a file, a list of these, or a generator.
            stream: return a generator that reads and segments one image at a time.
            bboxes: (4,) x0, y0, x1, y1 of one object, or (N, 4).
            points: (2,) of one object, (N, 2) of N objects, (N, n, 2) n points of each of N objects.
            labels: nested like the points, 1 on the object and 0 beside it; all 1 by default.
            masks: (H, W) or (N, H, W) masks of the image's size, or logits from an earlier segmentation.
            names: what the objects are called, one for each or one for all; these become the results' classes, which
                are otherwise the objects' numbers.
            options: see :class:`~mobilesam.compat.ultralytics.options.PredictOptions`.

        Returns:
            A list with a result for each image, or with ``stream`` a generator of them.

        Raises:
            ConfigError: for an unknown or wrong option, or an empty folder.
            PromptError: for prompts that do not fit together, or do not fit the image.
            ImageError: for an image that cannot be read.
        """
        chosen = read_options({**self.overrides, **options})
        if not isinstance(stream, bool | np.bool_):
            raise ConfigError(f"stream: is {stream!r}; must be True or False")
        prompts = nested_to_prompts(bboxes, points, labels, masks, names)
        if prompts is not None:
            refuse_search_options(options)
        if chosen.device is not None:
            self.to(chosen.device)
        self._tell_of_size(chosen)
        pictures = open_source(source, vid_stride=chosen.vid_stride)
        results = self._each(pictures, prompts, chosen)
        return results if stream else list(results)

    __call__ = predict

    def _each(
        self, pictures: Iterator[Picture], prompts: list[Prompt] | None, options: PredictOptions
    ) -> Iterator[Results]:
        """Segment picture after picture."""
        found = ((picture, segment_picture(self.model, picture, prompts, options)) for picture in pictures)
        return self._finished(found, options)

    def _finished(
        self, found: Iterator[tuple[Picture, Results]], options: PredictOptions
    ) -> Iterator[Results]:
        """Do with each result what the options ask for."""
        folder = RunFolder(options)
        for number, (picture, result) in enumerate(found, start=1):
            folder.write(result, picture.stem)
            if options.show:
                result.show(**options.drawing())
            if options.verbose:
                phases = ", ".join(f"{ms:.1f} ms {phase}" for phase, ms in result.speed.items())
                print(
                    f"image {number} {printable(picture.path)}: {result.verbose()}{phases}", file=sys.stderr
                )
            yield result

    def info(self, detailed: bool = False, verbose: bool = True) -> tuple[int, int, int, float]:
        """Return how many layers, parameters and gradients there are, and the GFLOPs of an image's encoding.

        Args:
            detailed: print every parameter's shape too.
            verbose: print.
        """
        summary = summarise_network(self.checkpoint.entry.network)
        if verbose and detailed:
            for name, shape in summary.shapes.items():
                print(f"{name}: {shape}")
        if verbose:
            print(
                f"{self.model.name}: {summary.layers} layers, {summary.parameters:,} parameters, 0 gradients, "
                f"{summary.gflops:.1f} GFLOPs"
            )
        return summary.layers, summary.parameters, 0, summary.gflops

    def val(
        self,
        data: str | Path | None = None,
        *,
        kinds: str | Sequence[str] | None = None,
        smallest: float | None = None,
        **options: Any,
    ) -> PromptedScores:
        """Score prompts against human masks; see :func:`mobilesam.evaluate.prompted.score_prompted`.

        Args:
            data: a folder with ``instances.json`` and ``images/``.
            kinds: names of the kinds of prompt, by default all.
            smallest: least share of a photo that an object must cover.
            options: none; others are refused.

        Raises:
            ConfigError: without data, or if it cannot be read.
        """
        refuse_unknown("val", options, ("data", "kinds", "smallest"))
        if data is None:
            raise ConfigError(
                "data: is missing; give a folder with instances.json and images/, or run: mobilesam evaluate masks"
            )
        from mobilesam.evaluate.kinds import KINDS
        from mobilesam.evaluate.prompted import score_prompted
        from mobilesam.evaluate.sets import SMALLEST_OBJECT

        chosen = [kinds] if isinstance(kinds, str) else list(kinds or KINDS)
        unknown = [kind for kind in chosen if kind not in KINDS]
        if unknown:
            raise ConfigError(f"kinds: {unknown[0]!r} is unknown; choose some of {', '.join(KINDS)}")
        return score_prompted(
            self.model, Path(data), kinds=chosen, smallest=SMALLEST_OBJECT if smallest is None else smallest
        )

    def train(
        self,
        recipe: str | Path | None = None,
        data: str | Path = ".",
        out: str | Path = "runs/train",
        *,
        device: Any = None,
        workers: int = 1,
        minutes: float = math.inf,
        **options: Any,
    ) -> Path:
        """Train from a recipe and return the file of weights, which ``SAM(...)`` loads; this model stays as it is.

        A run that was stopped goes on where it was: call it again.

        Args:
            recipe: a TOML file; docs/how-to/train.md.
            data: folder that the recipe's sets lie in.
            out: folder for checkpoints, log, plot and weights.
            device: ``cpu`` or ``cuda``; by default CUDA if it is available.
            workers: processes that make samples.
            minutes: save and stop after this long.
            options: none; others are refused.

        Raises:
            ConfigError: without a recipe, or for a wrong setting or set.
            MissingExtraError: if the packages for training are not installed.
            TrainingDiverged: if the loss is not a number.
        """
        refuse_unknown("train", options, ("recipe", "data", "out", "device", "workers", "minutes"))
        if recipe is None:
            raise ConfigError(
                "recipe: is missing; what is trained, on what and for how long is in a TOML file, see "
                "docs/how-to/train.md, or run: mobilesam train masks RECIPE --data DIR --out DIR"
            )
        try:
            from mobilesam.train.finish import finish
            from mobilesam.train.masks import train_masks
            from mobilesam.train.options import RunOptions
            from mobilesam.train.recipe import read_recipe
        except ModuleNotFoundError as error:
            raise missing_extra("train", "train") from error
        settings = read_recipe(recipe)
        run = RunOptions(device=device_name(device), workers=workers, minutes=minutes)
        newest = train_masks(settings, Path(data), Path(out), run)
        weights, *_ = finish(settings, newest, Path(out))
        return weights

    def export(
        self, format: str = "onnx", out: str | Path = "onnx", *, overwrite: bool = False, **options: Any
    ) -> str:
        """Write the model for other runtimes, and return the folder of its files; docs/reference/onnx.md.

        Args:
            format: ``onnx``.
            out: folder for the files.
            overwrite: replace files that are there.
            options: none; others are refused.

        Raises:
            ConfigError: for another format.
            MissingExtraError: if the packages for export are not installed.
            OutputError: if a file cannot be written, or exists already.
        """
        refuse_unknown("export", options, ("format", "out", "overwrite"))
        if format not in EXPORT_FORMATS:
            raise ConfigError(
                f"format: is {format!r}; there is {', '.join(EXPORT_FORMATS)}, also by: mobilesam export onnx"
            )
        try:
            from mobilesam.export.onnx import write as export_onnx
        except ModuleNotFoundError as error:
            raise missing_extra("export", "export") from error
        entry, path = self.checkpoint.entry, self.checkpoint.path
        export_onnx(entry.network, read_weights(entry, path), Path(out), overwrite=overwrite)
        return str(out)

    @property
    def predictor(self) -> NoReturn:
        """Refuse: a model here keeps no current image.

        Raises:
            ConfigError: says what to use.
        """
        raise NoSuchAttributeError(
            "predictor: there is none; embed an image once with embedding = model.model.embed(image), and ask with "
            "model.model.segment(embedding, mobilesam.Prompt(...)), or use mobilesam.SamPredictor(model.model)"
        )

    @property
    def callbacks(self) -> NoReturn:
        """Refuse, as :meth:`add_callback` does.

        Raises:
            ConfigError: says what to use.
        """
        raise NoSuchAttributeError(f"callbacks: {NO_CALLBACKS}")

    def add_callback(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there are no callbacks.

        Raises:
            ConfigError: says what to use.
        """
        raise ConfigError(f"add_callback: {NO_CALLBACKS}")

    def track(
        self,
        source: Any = None,
        stream: bool = False,
        persist: bool = False,
        bboxes: ArrayLike = None,
        points: ArrayLike = None,
        labels: ArrayLike = None,
        masks: ArrayLike = None,
        names: str | Sequence[str] | None = None,
        **options: Any,
    ) -> list[Results] | Iterator[Results]:
        """Follow objects from frame to frame; prompts are those of the first.

        Args:
            source: a video, or anything that ``predict`` takes, in order.
            stream: return a generator that reads and segments one frame at a time.
            persist: go on from the call before; then prompts are needed only in the first call, and new prompts
                start again.
            bboxes: as in ``predict``; so are points, labels, masks and names.
            points: see above.
            labels: see above.
            masks: see above.
            names: see above.
            options: those of ``predict``. ``tracker`` has no effect, and a remark says so.

        Returns:
            A result for each frame, with ``boxes.id``. What is lost has no box and no mask on that frame.

        Raises:
            ConfigError: for an unknown or wrong option.
            PromptError: without prompts, or for prompts that do not fit together, or do not fit the frame.
            ImageError: for a frame that cannot be read.
        """
        tracker = options.pop("tracker", None)
        if tracker is not None:
            warnings.warn(
                "tracker: has no effect; objects are followed by features", OptionWarning, stacklevel=2
            )
        chosen = read_options({**self.overrides, **options})
        for name, value in (("stream", stream), ("persist", persist)):
            if not isinstance(value, bool | np.bool_):
                raise ConfigError(f"{name}: is {value!r}; must be True or False")
        prompts = nested_to_prompts(bboxes, points, labels, masks, names)
        refuse_search_options(options)
        if chosen.device is not None:
            self.to(chosen.device)
        self._tell_of_size(chosen)
        if prompts or not (persist and self._tracking is not None):
            self._tracking = Tracking(self.model, prompts)
        pictures = open_source(source, vid_stride=chosen.vid_stride)
        results = self._finished(self._tracking.over(pictures, chosen), chosen)
        return results if stream else list(results)

    def save(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: a model is not changed here.

        Raises:
            ConfigError: says what to use.
        """
        raise ConfigError(
            f"save: the weights are {printable(self.ckpt_path)}, copy that file; export() writes others"
        )

    def embed(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the original's vector for an image is not what this model makes.

        Raises:
            ConfigError: says what to use.
        """
        raise ConfigError(
            "embed: features are maps here; use model.model.embed(image).arrays['image_embedding']"
        )

    def _tell_of_size(self, options: PredictOptions) -> None:
        """Say once that a size is not the model's own."""
        own = self.model.runtime.spec.image_size
        if is_other_size(options.imgsz, own) and str(options.imgsz) not in self._sizes_told:
            self._sizes_told.add(str(options.imgsz))
            warnings.warn(
                f"imgsz: {options.imgsz} has no effect; {self.model.name} takes {own}",
                OptionWarning,
                stacklevel=3,
            )

    def _load(self) -> Model:
        only_torch = self._device == "mps"
        return load(
            self.checkpoint.entry.name,
            checkpoint=self.checkpoint.path,
            runtime=self._runtime or ("torch" if only_torch else None),
            device=self._device,
            dtype=self._dtype,
            threads=self._threads,
        )


def segment_picture(
    model: Model, picture: Picture, prompts: list[Prompt] | None, options: PredictOptions
) -> Results:
    """Segment one picture: everything in it if ``prompts`` is None."""
    started = time.perf_counter()
    rgb = picture.image[..., ::-1]
    if prompts is None:
        everything = model.everything(np.ascontiguousarray(rgb), options.everything())
        objects = [FoundObject(i, one.predicted_iou, one) for i, one in enumerate(everything)]
        count = len(objects)
    else:
        objects, count = segment_prompts(model, rgb, prompts, options.multimask_output), len(prompts)
    segmented = time.perf_counter()
    kept = keep_best([one for one in objects if one.score > options.conf], options.max_det)
    names = {i: str(i) for i in range(count)}
    if prompts is not None and any(prompt.label for prompt in prompts):
        called = [prompt.label or UNNAMED for prompt in prompts]
        numbers = number_texts(called)
        names = {number: name for name, number in numbers.items()}
        kept = [replace(one, number=numbers[called[one.number]]) for one in kept]
    speed = {"preprocess": picture.milliseconds, "inference": (segmented - started) * 1000}
    result = Results.of(kept, picture.image, picture.path, names, speed)
    result.speed["postprocess"] = (time.perf_counter() - segmented) * 1000
    return result


def segment_prompts(
    model: Model, rgb: np.ndarray, prompts: Sequence[Prompt], multimask: bool | None
) -> list[FoundObject]:
    """Return the masks of each prompt, numbered by prompt: one for each, or with ``multimask`` all three."""
    if not prompts:
        return []
    name = naming(list(prompts))
    embedding = model.embed(rgb)
    names = [names_with(name(i)) for i in range(len(prompts))]
    valid = model.predictor.validate(embedding, prompts, names)
    warn_of_remarks(valid)
    found = model.predictor.segment(embedding, valid, multimask=multimask)
    sizes = replace(embedding, arrays={}, image=rgb[:0])  # masks need no more, and live longer
    return [
        FoundObject(i, float(one.predicted_iou[k]), take_mask(replace(one, embedding=sizes), k))
        for i, one in enumerate(found)
        for k in (range(len(one)) if multimask else [one.choice])
    ]


def take_mask(segmentation: Segmentation, number: int) -> Segmentation:
    """Return a segmentation with one of its masks, which is not enlarged yet."""
    part = slice(number, number + 1)
    return replace(
        segmentation,
        low_res_masks=segmentation.low_res_masks[part],
        predicted_iou=segmentation.predicted_iou[part],
    )


def keep_best(objects: list[FoundObject], most: int | None) -> list[FoundObject]:
    """Keep the objects with the highest scores, in the order they are in."""
    if most is None or len(objects) <= most:
        return objects
    best = sorted(range(len(objects)), key=lambda i: -objects[i].score)[:most]
    return [objects[i] for i in sorted(best)]


def device_name(device: Any) -> str | None:
    """Return what :func:`mobilesam.load` calls a device; None for None or an empty text.

    Raises:
        ConfigError: for several devices at once.

    Example:
        >>> device_name(0), device_name("cuda:1"), device_name("cpu")
        ('cuda', 'cuda:1', 'cpu')
    """
    if device is None or device == "":
        return None
    if isinstance(device, list | tuple) or "," in str(device):
        raise ConfigError(f"device: is {device!r}; one device at a time, such as 0, 'cuda:1' or 'cpu'")
    name = str(device)
    if name.isdecimal():
        name = f"cuda:{name}"
    return "cuda" if name == "cuda:0" else name
