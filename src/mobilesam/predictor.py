"""The flow on one screen: preprocess -> encode -> prompts -> decode -> postprocess."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from mobilesam.core.arrays import ArrayLike
from mobilesam.core.errors import ConfigError, ImageWarning, LimitError, PromptError, PromptWarning
from mobilesam.core.geometry import input_size_of
from mobilesam.core.preprocess import preprocess
from mobilesam.core.prompts import (
    MAX_PROMPTS,
    ValidPrompt,
    names_with,
    prompts_to_decoder_inputs,
    validate_prompt,
)
from mobilesam.core.types import (
    MULTIMASK,
    SAM_THRESHOLDS,
    SINGLE_MASK,
    Embedding,
    MaskThresholds,
    Prompt,
)
from mobilesam.formats.image import MAX_PIXELS, read_image
from mobilesam.results import Everything, Segmentation
from mobilesam.runtimes.base import Runtime
from mobilesam.runtimes.load import load_runtime
from mobilesam.weights import DEFAULT_MODEL, entry_of

if TYPE_CHECKING:
    from mobilesam.everything.options import EverythingOptions
    from mobilesam.segment_everything import Detector

PROMPTS_PER_BATCH = 8  # more at once is slower on a processor: the maps leave its cache


def load(
    name: str = DEFAULT_MODEL,
    *,
    checkpoint: str | Path | None = None,
    decoder: str | Path | None = None,
    runtime: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
) -> Model:
    """Load a model. Nothing is ever downloaded here.

    Args:
        name: ``pocket``, which the package carries, or a published one such as ``mobile_sam``,
            whose file has to be there; ``mobilesam weights pull mobile_sam`` fetches it.
        checkpoint: another file of the same network, ``.pt`` or ``.safetensors``.
        decoder: MobileSAMv2's decoder instead of the model's own, ``prompt_guided_decoder`` or a file.
        runtime: ``onnx`` (the default) or ``torch``.
        device: ``cpu``, ``cuda`` or, with torch, ``mps``.
        dtype: ``float32``; with torch also ``bfloat16`` and, on a GPU, ``float16``.
        threads: processor threads of the onnx runtime.

    Raises:
        ConfigError: for an unknown name, runtime, device or dtype.
        WeightsError: if the weights are missing, damaged or another network's.
        MissingExtraError: if the runtime is not installed.

    Example:
        >>> import mobilesam
        >>> model = mobilesam.load("pocket")
        >>> model.name
        'pocket-2'
    """
    entry = entry_of(name)
    chosen = load_runtime(
        entry,
        checkpoint=checkpoint,
        decoder=decoder,
        runtime=runtime,
        device=device,
        dtype=dtype,
        threads=threads,
    )
    called = entry.name if checkpoint is None else f"{entry.network} network with {_file_name(checkpoint)}"
    if decoder is not None:
        called = f"{called} and decoder {_file_name(decoder)}"
    return Model(chosen, name=called, thresholds=entry.thresholds)


def _file_name(path: str | Path) -> str:
    """Return what tells a file of weights from others: its name, and the start of its sum."""
    if not Path(path).is_file():  # an entry's name
        return str(path)
    return f"{Path(path).name} ({hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]})"


class Model:
    """A promptable model. It keeps no current image: embeddings are values.

    Args:
        runtime: what runs the network.
        name: what embeddings say they are from.
        thresholds: which masks :meth:`everything` keeps where its options do not say.

    Example:
        >>> import numpy as np, mobilesam
        >>> model = mobilesam.load("pocket")
        >>> embedding = model.embed(np.zeros((60, 80, 3), np.uint8))
        >>> result = model.segment(embedding, mobilesam.Prompt(points=[40, 30]))
        >>> result.masks.shape
        (3, 60, 80)
    """

    def __init__(self, runtime: Runtime, *, name: str, thresholds: MaskThresholds = SAM_THRESHOLDS) -> None:
        self.runtime = runtime
        self.name = name
        self.thresholds = thresholds

    def __repr__(self) -> str:
        return f"Model({self.name!r}, runtime={self.runtime.name!r}, device={self.runtime.device!r})"

    def embed(self, image: ArrayLike, *, max_pixels: int = MAX_PIXELS) -> Embedding:
        """Make everything that depends on the image alone, once for all its prompts.

        Args:
            image: a path, the bytes of a file, a PIL image or an array (H, W, 3) uint8 RGB.
            max_pixels: greatest height times width, checked before pixels are decoded.

        Raises:
            ImageError: if it cannot be read.
            LimitError: if it is too large.

        Warns:
            ImageWarning: for what is read but may not be meant, such as an animation's first
                frame; also in the embedding's ``remarks``.
        """
        remarks: list[str] = []
        rgb = read_image(image, max_pixels=max_pixels, remarks=remarks)
        for remark in remarks:
            warnings.warn(f"image: {remark}", ImageWarning, stacklevel=2)
        rgb.flags.writeable = False
        pixels = preprocess(rgb, self.runtime.image_size)
        arrays = self.runtime.encode(pixels)
        side = self.runtime.prompt_size
        input_size = input_size_of(rgb.shape[:2], side)
        return Embedding(arrays, self.name, side, input_size, rgb.shape[:2], rgb, tuple(remarks))

    @overload
    def segment(
        self, embedding: Embedding, prompts: Prompt, *, multimask: bool | None = None
    ) -> Segmentation: ...

    @overload
    def segment(
        self,
        embedding: Embedding,
        prompts: Iterable[Prompt],
        *,
        multimask: bool | None = None,
        prefixes: Sequence[str] | None = None,
    ) -> tuple[Segmentation, ...]: ...

    def segment(
        self,
        embedding: Embedding,
        prompts: Prompt | Iterable[Prompt],
        *,
        multimask: bool | None = None,
        prefixes: Sequence[str] | None = None,
    ) -> Segmentation | tuple[Segmentation, ...]:
        """Segment one object, or several at once with the same result as one by one.

        Args:
            embedding: from :meth:`embed` of this model.
            prompts: one prompt, or one for each object.
            multimask: three masks, or one. By default three for a single point, which may
                mean a part or the whole, and one for everything else.
            prefixes: what messages put before the names of each prompt's parts, by default
                ``prompts[0].`` and so on.

        Returns:
            One segmentation for one prompt, a tuple for several, in their order.

        Raises:
            PromptError: names the argument that is wrong and what is allowed.
            LimitError: for too many points or prompts.
            ConfigError: if the embedding is another model's.

        Warns:
            PromptWarning: for what is valid but may not be meant; also in ``remarks``.
        """
        if not isinstance(embedding, Embedding):
            raise ConfigError(f"embedding: is a {type(embedding).__name__}; make one with model.embed(image)")
        if embedding.model != self.name:
            raise ConfigError(
                f"embedding: was made by {embedding.model}, this model is {self.name}; embed the image again"
            )
        if multimask is not None and not isinstance(multimask, bool):
            raise PromptError(f"multimask: is {multimask!r}; must be True, False or None", code="U")
        given = [prompts] if isinstance(prompts, Prompt) else _as_list(prompts)
        if prefixes is None:
            prefixes = [f"prompts[{i}]." for i in range(len(given))] if len(given) > 1 else [""]
        valid = [
            self._validate(embedding, prompt, prefix) for prompt, prefix in zip(given, prefixes, strict=True)
        ]
        for remark in (remark for prompt in valid for remark in prompt.remarks):
            warnings.warn(remark, PromptWarning, stacklevel=2)
        results = self._decode(embedding, valid, multimask)
        return results[0] if isinstance(prompts, Prompt) else results

    def everything(
        self,
        image: ArrayLike,
        options: EverythingOptions | None = None,
        *,
        detector: Detector = None,
        max_pixels: int = MAX_PIXELS,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Everything:
        """Segment everything in an image; see :func:`mobilesam.segment_everything.segment_everything`."""
        from mobilesam.everything.options import EverythingOptions
        from mobilesam.segment_everything import segment_everything

        return segment_everything(
            self,
            image,
            options or EverythingOptions(),
            detector=detector,
            max_pixels=max_pixels,
            progress=progress,
        )

    def _validate(self, embedding: Embedding, prompt: Prompt, prefix: str) -> ValidPrompt:
        return validate_prompt(
            prompt,
            embedding.original_size,
            grid=embedding.image_embedding.shape[-1],
            input_size=embedding.input_size,
            image_size=embedding.image_size,
            names=names_with(prefix),
        )

    def _decode(
        self, embedding: Embedding, prompts: Sequence[ValidPrompt], multimask: bool | None
    ) -> tuple[Segmentation, ...]:
        """Batch what has the same shape, decode, and put the results in order."""
        results: dict[int, Segmentation] = {}
        for (_, _, many), numbers in group_prompts(prompts, multimask).items():
            tokens = MULTIMASK if many else SINGLE_MASK
            for start in range(0, len(numbers), PROMPTS_PER_BATCH):
                batch = numbers[start : start + PROMPTS_PER_BATCH]
                inputs = prompts_to_decoder_inputs(
                    [prompts[i] for i in batch], embedding.original_size, embedding.input_size
                )
                masks, ious = self.runtime.decode(embedding.arrays, inputs, tokens)
                for i, mask, iou in zip(batch, masks, ious, strict=True):
                    results[i] = Segmentation(np.array(mask), np.array(iou), embedding, prompts[i])
        return tuple(results[i] for i in range(len(prompts)))


def group_prompts(
    prompts: Sequence[ValidPrompt], multimask: bool | None
) -> dict[tuple[int, bool, bool], list[int]]:
    """Group prompts that can share a batch: by slots, by mask, and by how many masks are wanted.

    Padding prompts of different lengths to one would change their results, because SAM's
    tokens attend to the pads.
    """
    groups: dict[tuple[int, bool, bool], list[int]] = {}
    for i, prompt in enumerate(prompts):
        many = prompt.ambiguous if multimask is None else bool(multimask)
        groups.setdefault((prompt.slots, prompt.mask_input is not None, many), []).append(i)
    return groups


def _as_list(prompts: Iterable[Prompt]) -> list[Prompt]:
    try:
        given = list(prompts)
    except TypeError as error:
        raise PromptError(
            f"prompts: is a {type(prompts).__name__}; give a Prompt or a list of them", code="U"
        ) from error
    if not given:
        raise PromptError("prompts: is empty; give at least one Prompt")
    for i, prompt in enumerate(given):
        if not isinstance(prompt, Prompt):
            kind = type(prompt).__name__
            raise PromptError(f"prompts[{i}]: is a {kind}; give Prompt(points=..., box=...)", code="U")
    if len(given) > MAX_PROMPTS:
        raise LimitError(f"prompts: {len(given)} prompts; at most {MAX_PROMPTS} are allowed in one call")
    return given
