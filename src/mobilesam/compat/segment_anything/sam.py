"""segment_anything's ``Sam``: a network that takes images with their prompts, and gives masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.compat.segment_anything.batch_prompts import mask_tokens_of
from mobilesam.compat.segment_anything.batched_input import check_batched_input
from mobilesam.core.arrays import Size
from mobilesam.core.frame import Frame
from mobilesam.core.postprocess import MASK_THRESHOLD
from mobilesam.core.preprocess import PIXEL_MEAN, PIXEL_STD, padded_size
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.networks import sam


class Sam(sam.Sam):
    """A network with what segment_anything's users call on theirs; the arguments are those of our own."""

    mask_threshold = MASK_THRESHOLD
    image_format = "RGB"
    pixel_mean: Tensor  # (3, 1, 1)
    pixel_std: Tensor  # (3, 1, 1)

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        setattr(self.image_encoder, "img_size", self.spec.image_size)  # noqa: B010 (no name of ours)
        for buffer, values in (("pixel_mean", PIXEL_MEAN), ("pixel_std", PIXEL_STD)):  # in no checkpoint
            self.register_buffer(buffer, torch.tensor(values)[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(
        self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool
    ) -> list[dict[str, Tensor]]:
        """Segment several images, each with its own prompts; the images are encoded together.

        Args:
            batched_input: for each image ``image`` (3, h, w), resized but not normalised;
                ``original_size`` (height, width); and what there is of ``point_coords`` (B, N, 2),
                ``point_labels`` (B, N), ``boxes`` (B, 4) and ``mask_inputs`` (B, 1, 4h, 4w), in the
                pixels of the resized image.
            multimask_output: three masks for each prompt, or one.

        Returns:
            For each image ``masks`` (B, M, H, W) boolean, ``iou_predictions`` (B, M) and
            ``low_res_logits`` (B, M, 4h, 4w).

        Raises:
            ImageError: for an image that is no such tensor or too large.
            PromptError: names the record and its part, the value and what is allowed.
        """
        records = check_batched_input(
            batched_input,
            image_size=self.spec.image_size,
            grid=self.spec.image_size // self.image_encoder.stride,
            scale=self.spec.prompt_size // self.spec.image_size,
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
        """Return what :meth:`forward` does of an image without prompts, of the shapes that some would have."""
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

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise resized pixels (..., 3, h, w) and pad them with zeros, right and below: (..., 3, S, S)."""
        square = (self.spec.image_size, self.spec.image_size)
        return normalise(x.to(self.device), self.pixel_mean, self.pixel_std, square)

    def postprocess_masks(self, masks: Tensor, input_size: Size, original_size: Size) -> Tensor:
        """Enlarge logits (B, M, h, w) to the photograph's size, (B, M, H, W), on their device.

        The steps are segment_anything's; :func:`mobilesam.core.postprocess.enlarge_logits` is their product.

        Args:
            masks: logits, at any resolution.
            input_size: (height, width) of the image in the model's input.
            original_size: (height, width) of the photograph.
        """
        return enlarge(masks, Frame(original_size, input_size, self.spec.prompt_size))


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
