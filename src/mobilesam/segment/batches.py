"""Several images and prompts at once: what form they come in, and how many go into one call.

On a processor taking more at once is no faster, because the maps no longer fit its cache, so few
are taken; a GPU takes what the memory budget allows. Either way the results are those of one by one.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mobilesam.core.arrays import ArrayLike, Image, NamedArrays
from mobilesam.core.errors import ConfigError, ImageError, LimitError, PromptError
from mobilesam.core.preprocess import preprocess
from mobilesam.core.prompts import MAX_PROMPTS, ValidPrompt, prompts_to_decoder_inputs, to_prompt
from mobilesam.core.spec import WorkingSet
from mobilesam.core.text import printable
from mobilesam.core.types import MULTIMASK, SINGLE_MASK, Embedding, Prompt
from mobilesam.runtimes.base import Runtime
from mobilesam.segment.results import Segmentation

DEFAULT_MEMORY = 2_000_000_000  # bytes; unless a limit was given, one image or prompt may take more
FASTEST_IMAGES = 1  # at once on a processor
FASTEST_PROMPTS = 8  # at once on a processor


def images_at_once(runtime: Runtime, memory: int | None = None) -> int:
    """Return how many images go into one call of the encoder.

    Args:
        runtime: what runs the network.
        memory: bytes that the call may add, by default ``DEFAULT_MEMORY``.

    Raises:
        ConfigError: if ``memory`` is not a number of bytes.
        LimitError: if it is too small for one image.
    """
    fitting = _fitting(working_set_of(runtime).image, memory, "one image")
    on_gpu = runtime.device != "cpu" and runtime.batches_images
    return fitting if on_gpu else min(fitting, FASTEST_IMAGES)


def prompts_at_once(runtime: Runtime, slots: int, memory: int | None = None) -> int:
    """Return how many prompts with ``slots`` slots each go into one call of the decoder.

    Arguments and errors are those of :func:`images_at_once`.
    """
    what = f"one prompt of {slots} points, pads and corners"
    fitting = _fitting(working_set_of(runtime).of_prompt(slots), memory, what)
    return fitting if runtime.device != "cpu" else min(fitting, FASTEST_PROMPTS)


def working_set_of(runtime: Runtime) -> WorkingSet:
    """Return the bytes that a promptable network's steps take."""
    assert runtime.spec.working_set is not None  # only detectors have none
    return runtime.spec.working_set


def _fitting(each: int, memory: int | None, what: str) -> int:
    """Return how many times ``each`` bytes fit into a budget, at least 1."""
    if memory is None:
        return max(1, DEFAULT_MEMORY // each)
    try:
        memory = operator.index(memory)
    except TypeError as error:
        raise ConfigError(
            f"memory: is {memory!r}; must be a whole number of bytes such as 512_000_000, or None"
        ) from error
    if memory < each:
        raise LimitError(f"memory: {memory:,} bytes; {what} takes {each:,} bytes, give at least those")
    return memory // each


def encode_images(runtime: Runtime, images: Sequence[Image], at_once: int) -> Iterator[NamedArrays]:
    """Yield what depends on each image alone, in order, from calls with up to ``at_once`` images of one shape."""
    for start in range(0, len(images), at_once):
        batch = [preprocess(image, runtime.spec) for image in images[start : start + at_once]]
        encoded: dict[int, NamedArrays] = {}
        for shape in {pixels.shape for pixels in batch}:
            numbers = [i for i, pixels in enumerate(batch) if pixels.shape == shape]
            arrays = runtime.encode(np.concatenate([batch[i] for i in numbers]))
            if len(numbers) == 1:
                encoded[numbers[0]] = arrays
                continue
            for row, i in enumerate(numbers):  # copied, so that no image keeps its neighbours' memory alive
                encoded[i] = {name: array[row : row + 1].copy() for name, array in arrays.items()}
        yield from (encoded[i] for i in range(len(batch)))


def decode_prompts(
    runtime: Runtime,
    embedding: Embedding,
    prompts: Sequence[ValidPrompt],
    multimask: bool | None,
    memory: int | None,
) -> tuple[Segmentation, ...]:
    """Batch prompts of the same shape, decode them, and put the results in order."""
    results: dict[int, Segmentation] = {}
    for (slots, _, many), numbers in group_prompts(prompts, multimask).items():
        tokens = MULTIMASK if many else SINGLE_MASK
        at_once = prompts_at_once(runtime, slots, memory)
        for start in range(0, len(numbers), at_once):
            batch = numbers[start : start + at_once]
            inputs = prompts_to_decoder_inputs([prompts[i] for i in batch], embedding.frame)
            masks, ious = runtime.decode(embedding.arrays, inputs, tokens)
            for i, mask, iou in zip(batch, masks, ious, strict=True):
                results[i] = Segmentation(
                    np.array(mask), np.array(iou), embedding, prompts[i], prompts[i].label
                )
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


def named_images(images: Iterable[ArrayLike]) -> list[tuple[str, ArrayLike]]:
    """Return each image with its name in messages: its number, and its path if it has one."""
    one = isinstance(images, str | bytes | bytearray | memoryview) or getattr(images, "ndim", 4) != 4
    try:
        given = None if one else list(images)
    except TypeError:
        given = None
    if given is None:
        kind = type(images).__name__
        raise ImageError(f"images: is a {kind}; give a list of images, or one to model.embed", code="U")
    named = []
    for i, image in enumerate(given):
        path = f" ({printable(image)})" if isinstance(image, str | os.PathLike) else ""
        named.append((f"images[{i}]{path}", image))
    return named


def as_prompts(prompts: Iterable[Prompt | dict[str, Any]], name: str) -> list[Prompt]:
    """Return the prompts of one image; there may be none."""
    try:
        given = list(prompts)
    except TypeError as error:
        raise PromptError(
            f"{name}: is a {type(prompts).__name__}; give a Prompt or a list of them", code="U"
        ) from error
    check_count(len(given))
    return [to_prompt(prompt, f"{name}[{i}]") for i, prompt in enumerate(given)]


def pair_prompts(
    embeddings: Iterable[Embedding], prompts: Iterable[Iterable[Prompt | dict[str, Any]]]
) -> list[tuple[Embedding, list[Prompt]]]:
    """Return each embedding with its prompts."""
    try:
        images, lists = list(embeddings), list(prompts)
    except TypeError as error:
        raise PromptError(
            "embeddings, prompts: give a list of embeddings, and for each a list of prompts", code="U"
        ) from error
    if len(images) != len(lists):
        raise PromptError(
            f"prompts: {len(lists)} lists for {len(images)} embeddings; give one for each, [] for none",
            code="U",
        )
    for i, some in enumerate(lists):
        if isinstance(some, Prompt | dict):
            raise PromptError(
                f"prompts[{i}]: is a {type(some).__name__}; give a list of them, [] for none", code="U"
            )
    given = [as_prompts(some, f"prompts[{i}]") for i, some in enumerate(lists)]
    check_count(sum(map(len, given)))
    return list(zip(images, given, strict=True))


def check_count(count: int) -> None:
    """Refuse more prompts than one call may have."""
    if count > MAX_PROMPTS:
        raise LimitError(f"prompts: {count} prompts; at most {MAX_PROMPTS} are allowed in one call")
