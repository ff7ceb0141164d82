"""segment_anything's ``Sam``: a network that takes images with their prompts, and returns masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.compat.segment_anything.batch_prompts import mask_tokens_of
from mobilesam.compat.segment_anything.batched_input import check_batched_input
from mobilesam.compat.segment_anything.modeling.common import as_built
from mobilesam.compat.segment_anything.modeling.pocket import SPEC as POCKET
from mobilesam.compat.segment_anything.modeling.pocket import (
    PocketImageEncoder,
    arrays_to_embedding,
    embedding_to_arrays,
)
from mobilesam.compat.segment_anything.modeling.tiny_vit_sam import TinyViT
from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError
from mobilesam.core.frame import Frame
from mobilesam.core.postprocess import MASK_THRESHOLD
from mobilesam.core.preprocess import PIXEL_MEAN, PIXEL_STD, padded_size
from mobilesam.core.prompts import BOX_CORNERS, LOW_RES_PER_GRID
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.types import MULTIMASK
from mobilesam.networks import sam
from mobilesam.networks.build import NETWORKS
from mobilesam.networks.objectness import ObjectnessHead


class Sam(sam.Sam):
    """A network with what segment_anything's users build, call and train.

    Parts that a program has replaced or changed are called by segment_anything's names.

    Args:
        image_encoder: turns pixels (B, 3, S, S) into an image embedding; ``img_size`` says how large S is.
        prompt_encoder: called with ``points``, ``boxes`` and ``masks``.
        mask_decoder: called with the embeddings of an image and its prompts.
        pixel_mean: what is subtracted from the pixels' channels.
        pixel_std: what they are then divided by.
        proposal_head: not in segment_anything: finds boxes of objects.

    Raises:
        ConfigError: for an image encoder that does not say its ``img_size``.
    """

    mask_threshold: float = MASK_THRESHOLD
    image_format = "RGB"
    pixel_mean: Tensor  # (3, 1, 1)
    pixel_std: Tensor  # (3, 1, 1)

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: nn.Module,
        mask_decoder: nn.Module,
        pixel_mean: Sequence[float] = PIXEL_MEAN.tolist(),
        pixel_std: Sequence[float] = PIXEL_STD.tolist(),
        *,
        proposal_head: ObjectnessHead | None = None,
    ) -> None:
        super().__init__(
            image_encoder,  # type: ignore[arg-type]  # the parts of others are called as segment_anything does
            prompt_encoder,  # type: ignore[arg-type]
            mask_decoder,  # type: ignore[arg-type]
            proposal_head,
            spec=spec_of(image_encoder, prompt_encoder),
        )
        for buffer, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):  # in no checkpoint
            self.register_buffer(
                buffer, torch.tensor(values, dtype=torch.float).view(-1, 1, 1), persistent=False
            )

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        return next(self.parameters()).dtype

    def see(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the image encoder's arrays for pixels of any floating type."""
        pixels = pixels.to(self.dtype)
        if isinstance(self.image_encoder, PocketImageEncoder) and as_built(self.image_encoder):
            return self.image_encoder.arrays(pixels)
        encoded = self.image_encoder(pixels)
        return encoded if isinstance(encoded, dict) else embedding_to_arrays(encoded, self.spec)

    @property
    def has_own_decoder(self) -> bool:
        """Whether prompts go the short way, past the calls of the prompt encoder and the mask decoder."""
        asked_in = getattr(self.prompt_encoder, "input_image_size", ())
        return (
            tuple(asked_in) == (self.spec.image_size, self.spec.image_size)
            and as_built(self.prompt_encoder)
            and as_built(self.mask_decoder)  # type: ignore[arg-type]
        )

    def prepare(self, image_embedding: Tensor) -> dict[str, Tensor]:
        """Make the first layer's image side, if the decoder is ours."""
        return super().prepare(image_embedding) if self.has_own_decoder else {}

    def decode(
        self,
        embedding: Mapping[str, Tensor],
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor | None = None,
        *,
        mask_tokens: Sequence[int] | Tensor = MULTIMASK,
        fold: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`mobilesam.networks.sam.Sam.decode`; another decoder is called by segment_anything's names."""
        mask_input = None if mask_input is None else mask_input.to(self.dtype)
        if self.has_own_decoder:
            if len(mask_tokens) > 1:
                mask_tokens = range(1, self.mask_decoder.num_mask_tokens)  # type: ignore[attr-defined]
            return super().decode(
                embedding, point_coords, point_labels, mask_input, mask_tokens=mask_tokens, fold=fold
            )
        points, boxes = split_prompts(point_coords, point_labels)
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=mask_input)
        return self.mask_decoder(  # type: ignore[operator]  # segment_anything's call
            image_embeddings=arrays_to_embedding(embedding, self.spec),
            image_pe=self.prompt_encoder.get_dense_pe(),  # type: ignore[operator]
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=len(mask_tokens) > 1,
        )

    @torch.no_grad()
    def forward(
        self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool
    ) -> list[dict[str, Tensor]]:
        """Segment several images, each with its own prompts; the images are encoded together.

        Args:
            batched_input: for each image ``image`` (3, h, w), resized but not normalised;
                ``original_size`` (height, width); and any of ``point_coords`` (B, N, 2),
                ``point_labels`` (B, N), ``boxes`` (B, 4) and ``mask_inputs`` (B, 1, 4h, 4w), in the
                pixels of the resized image.
            multimask_output: three masks for each prompt, or one.

        Returns:
            For each image ``masks`` (B, M, H, W) boolean, ``iou_predictions`` (B, M) and
            ``low_res_logits`` (B, M, 4h, 4w).

        Raises:
            ImageError: for an image that is not such a tensor, or is too large.
            PromptError: names the record and its part, the value and what is allowed.
        """
        records = check_batched_input(
            batched_input,
            image_size=self.spec.image_size,
            grid=self.spec.image_size // self.spec.stride,
        )
        tokens = mask_tokens_of(multimask_output)
        embeddings = self.encode(self._stack([record.image.to(self.device) for record in records]))
        outputs = []
        for i, record in enumerate(records):
            embedding = {name: array[i : i + 1] for name, array in embeddings.items()}
            if not len(record.inputs.point_coords):
                outputs.append(
                    self._no_masks(embedding["image_embedding"], len(tokens), record.original_size)
                )
                continue
            low_res, ious = self.decode(embedding, *record.prompts(self.device), mask_tokens=tokens)
            masks = self.postprocess_masks(low_res, record.input_size, record.original_size)
            outputs.append(
                {"masks": masks > self.mask_threshold, "iou_predictions": ious, "low_res_logits": low_res}
            )
        return outputs

    def _no_masks(self, image_embedding: Tensor, count: int, size: Size) -> dict[str, Tensor]:
        """Return what :meth:`forward` returns for an image without prompts, in the shapes that some would have."""
        side = max(image_embedding.shape[-2:]) * LOW_RES_PER_GRID
        return {
            "masks": image_embedding.new_zeros((0, count, *size), dtype=torch.bool),
            "iou_predictions": image_embedding.new_zeros((0, count)),
            "low_res_logits": image_embedding.new_zeros((0, count, side, side)),
        }

    def _stack(self, images: list[Tensor]) -> Tensor:
        """Normalise resized images (3, h, w) and pad them to the smallest input that holds them all.

        Its longer side is always full, so that masks are those of the square.
        """
        if not self.spec.padded_to:
            return torch.stack([self.preprocess(image) for image in images])
        shapes = [(image.shape[-2], image.shape[-1]) for image in images]
        sizes = [padded_size(shape, self.spec.image_size, self.spec.padded_to) for shape in shapes]
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        if max(height, width) < self.spec.image_size:
            height, width = (
                (height, self.spec.image_size) if width >= height else (self.spec.image_size, width)
            )
        return torch.stack(
            [normalise(image, self.pixel_mean, self.pixel_std, (height, width)) for image in images]
        )

    def preprocess_one(self, x: Tensor) -> Tensor:
        """Normalise one resized image (1, 3, h, w), and pad it only as far as the network needs."""
        if not self.spec.padded_to:
            return self.preprocess(x)
        height, width = x.shape[-2:]
        size = padded_size((height, width), self.spec.image_size, self.spec.padded_to)
        return normalise(x.to(self.device), self.pixel_mean, self.pixel_std, size)

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise resized pixels (..., 3, h, w) and pad them with zeros, right and below: (..., 3, S, S)."""
        square = (self.spec.image_size, self.spec.image_size)
        return normalise(x.to(self.device), self.pixel_mean, self.pixel_std, square)

    def postprocess_masks(self, masks: Tensor, input_size: Size, original_size: Size) -> Tensor:
        """Enlarge logits (B, M, h, w) to the photo's size, (B, M, H, W), on their device.

        The steps are segment_anything's; :func:`mobilesam.core.postprocess.enlarge_logits` is their product.

        Args:
            masks: logits, at any resolution.
            input_size: (height, width) of the image in the model's input.
            original_size: (height, width) of the photo.
        """
        original, resized = ((int(height), int(width)) for height, width in (original_size, input_size))
        return enlarge(masks, Frame(original, resized, self.spec.prompt_size))


def normalise(pixels: Tensor, mean: Tensor, std: Tensor, size: Size) -> Tensor:
    """Normalise pixels (..., 3, h, w) and pad them with zeros, right and below, to ``size`` (height, width)."""
    height, width = pixels.shape[-2:]
    return F.pad((pixels - mean) / std, (0, size[1] - width, 0, size[0] - height))


def enlarge(masks: Tensor, frame: Frame) -> Tensor:
    """See :meth:`Sam.postprocess_masks`; the frame's square shows all of ``masks``."""
    height, width = frame.input_size
    square = F.interpolate(masks, (frame.side, frame.side), mode="bilinear", align_corners=False)
    return F.interpolate(
        square[..., :height, :width], tuple(frame.original_size), mode="bilinear", align_corners=False
    )


def spec_of(image_encoder: nn.Module, prompt_encoder: nn.Module) -> NetworkSpec:
    """Return what a network's parts say about it.

    Raises:
        ConfigError: for an encoder without a valid ``img_size``.
    """
    size = getattr(image_encoder, "img_size", None)
    if not isinstance(size, int) or size < 1:
        raise ConfigError(
            f"image_encoder: is a {type(image_encoder).__name__} with img_size {size!r}; "
            "must say by img_size how many pixels its input's side has"
        )
    if isinstance(image_encoder, PocketImageEncoder):
        return POCKET
    like = NETWORKS[
        "vit_t" if isinstance(image_encoder, TinyViT) else "vit_h"
    ].spec  # for the memory it takes
    cells = getattr(prompt_encoder, "image_embedding_size", (size // like.stride,))
    called, stride = type(image_encoder).__name__, size // max(cells)
    return replace(like, called=called, image_size=size, prompt_size=size, stride=stride)


def split_prompts(coords: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
    """Return points with their labels, and boxes (B, 4), from the decoder's inputs (B, N, 2) and (B, N).

    Points without a box end with a pad there, which segment_anything's prompt encoder adds itself.
    """
    count = labels.shape[1]
    boxed = count >= 2 and bool((labels[:, -2:] == labels.new_tensor(BOX_CORNERS)).all())
    last = count - (2 if boxed else 1)
    points = (coords[:, :last], labels[:, :last]) if last > 0 else None
    return points, coords[:, -2:].reshape(-1, 4) if boxed else None
