"""The flow on one screen: preprocess -> encode -> prompts -> decode -> postprocess.

Nothing is checked here: what comes in has passed the door, which is :class:`mobilesam.Model` or another face.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mobilesam.core.arrays import Image, Logits, NamedArrays, Pixels
from mobilesam.core.frame import Frame
from mobilesam.core.preprocess import preprocess
from mobilesam.core.prompts import FieldNames, ValidPrompt, validate_prompt
from mobilesam.core.types import SAM_THRESHOLDS, DecoderInputs, Embedding, MaskThresholds, Prompt
from mobilesam.runtimes.base import Runtime
from mobilesam.segment.batches import check_count, decode_prompts, encode_images, prompts_at_once
from mobilesam.segment.results import Segmentation
from mobilesam.storage.embeddings import KeptEmbeddings


class Predictor:
    """A network, and what it takes to turn images and prompts into masks.

    Args:
        runtime: what runs the network.
        name: the model's name that embeddings carry.
        thresholds: which masks of everything are kept, where the options do not say.
        kept: where embeddings are kept, if anywhere.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        name: str,
        thresholds: MaskThresholds = SAM_THRESHOLDS,
        kept: KeptEmbeddings | None = None,
    ) -> None:
        self.runtime = runtime
        self.name = name
        self.thresholds = thresholds
        self.kept = kept

    def embed(self, image: Image, remarks: Sequence[str] = (), *, small: bool = False) -> Embedding:
        """Encode an image (H, W, 3) or read its kept embedding.

        Args:
            image: what is encoded.
            remarks: made when it was read.
            small: by a smaller input if the network takes one; less fine, and faster.
        """
        spec = self.runtime.spec.small if small else self.runtime.spec
        arrays = self._encode(preprocess(image, spec))
        frame = Frame.fit(image.shape[:2], spec.prompt_size)
        return Embedding(arrays, self.name, frame, image, tuple(remarks))

    def embed_all(
        self, images: Sequence[Image], remarks: Sequence[Sequence[str]], at_once: int
    ) -> Iterator[Embedding]:
        """Encode images in order, ``at_once`` in each call; where embeddings are kept, one by one."""
        if self.kept is not None:
            yield from (self.embed(image, told) for image, told in zip(images, remarks, strict=True))
            return
        encoded = encode_images(self.runtime, images, at_once)
        for arrays, image, told in zip(encoded, images, remarks, strict=True):
            yield Embedding(arrays, self.name, self._frame(image), image, tuple(told))

    def validate(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompt],
        names: Sequence[FieldNames],
        memory: int | None = None,
    ) -> list[ValidPrompt]:
        """Check prompts against their image, and the memory against the largest of them."""
        check_count(len(prompts))
        grid = max(embedding.image_embedding.shape[-2:])
        valid = [
            validate_prompt(prompt, embedding.frame, grid=grid, names=called)
            for prompt, called in zip(prompts, names, strict=True)
        ]
        prompts_at_once(self.runtime, max((prompt.slots for prompt in valid), default=0), memory)
        return valid

    def segment(
        self,
        embedding: Embedding,
        prompts: Sequence[ValidPrompt],
        *,
        multimask: bool | None = None,
        memory: int | None = None,
    ) -> tuple[Segmentation, ...]:
        """Segment the object of each prompt; see :meth:`mobilesam.Model.segment`."""
        return decode_prompts(self.runtime, embedding, prompts, multimask, memory)

    def decode(
        self, embedding: Embedding, inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Logits, np.ndarray]:
        """Return logits (B, M, h, w) and IoU predictions (B, M) of prompts that fit into one call."""
        return self.runtime.decode(embedding.arrays, inputs, mask_tokens)

    def at_once(self, slots: int) -> int:
        """Return how many prompts go into one call, each with ``slots`` points, pads and corners."""
        return prompts_at_once(self.runtime, slots)

    def _encode(self, pixels: Pixels) -> NamedArrays:
        if self.kept is None:
            return self.runtime.encode(pixels)
        path = self.kept.path(pixels)
        if (arrays := self.kept.read(path)) is not None:
            return arrays
        self.kept.make_room(path)
        return self.kept.write(path, self.runtime.encode(pixels))

    def _frame(self, image: Image) -> Frame:
        return Frame.fit(image.shape[:2], self.runtime.spec.prompt_size)
