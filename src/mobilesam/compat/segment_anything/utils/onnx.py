"""segment_anything's ``utils.onnx``: prompt encoder, mask decoder and enlarging as one network for ONNX export.

It exports with either exporter of PyTorch. Enlarging is a product with two matrices, made from the image's
size, so that no step depends on how large the image is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobilesam.compat.segment_anything.modeling.pocket import PocketPromptEncoder
from mobilesam.compat.segment_anything.modeling.sam import Sam
from mobilesam.compat.segment_anything.utils.amg import calculate_stability_score
from mobilesam.core.postprocess import STABILITY_OFFSET
from mobilesam.networks.pocket import resize

PREFER_SINGLE = 1000.0  # what the single mask's score gains for each point beyond 2.5, and loses below


class SamOnnxModel(nn.Module):
    """A network's decoder whose inputs and outputs are only arrays.

    Args:
        model: the network.
        return_single_mask: one mask for each prompt: for a point and a pad the best of three, otherwise the single one.
        use_stability_score: instead of the predicted IoU.
        return_extra_metrics: stability scores and areas of the enlarged masks as well.
    """

    def __init__(
        self,
        model: Sam,
        return_single_mask: bool,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
    ) -> None:
        super().__init__()
        self.mask_decoder = model.mask_decoder
        self.model = model
        self.img_size: int = model.spec.image_size
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.stability_score_offset = STABILITY_OFFSET
        self.return_extra_metrics = return_extra_metrics
        self.train(model.training)  # an exporter sets all parts back to the mode of the whole

    @staticmethod
    def resize_longest_image_size(input_image_size: Tensor, longest_side: int) -> Tensor:
        """Return the (height, width), as whole numbers, of an image whose longer side becomes ``longest_side``."""
        size = input_image_size.to(torch.float32)
        return torch.floor(size * longest_side / size.max() + 0.5).to(torch.int64)

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return masks as logits (B, M, H, W), scores (B, M) and low-resolution logits (B, M, h, w).

        With the extra metrics, stability scores and areas, each (B, M), come before the last.

        Args:
            image_embeddings: (1, C, h, w).
            point_coords: (B, N, 2) x and y in the resized image; a box is two points.
            point_labels: (B, N) 1 foreground, 0 background, 2 and 3 box corners, -1 a pad, which points
                without a box must end with.
            mask_input: (1, 1, 4h, 4w) logits.
            has_mask_input: (1,) 1 if these count, 0 if not.
            orig_im_size: (2,) height and width of the image.
        """
        sparse, dense = self._embed(point_coords, point_labels, mask_input, has_mask_input)
        masks, scores = self.model.mask_decoder.predict_masks(  # type: ignore[attr-defined]
            image_embeddings=image_embeddings,
            image_pe=self.model.prompt_encoder.get_dense_pe(),  # type: ignore[operator]
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        if self.use_stability_score:
            scores = self._stability(masks)
        if self.return_single_mask:
            masks, scores = self.select_masks(masks, scores, point_coords.shape[1])
        enlarged = self.mask_postprocessing(masks, orig_im_size)
        if not self.return_extra_metrics:
            return enlarged, scores, masks
        areas = (enlarged > self.model.mask_threshold).sum((-2, -1))
        return enlarged, scores, self._stability(enlarged), areas, masks

    def _embed(
        self, coords: Tensor, labels: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return sparse and dense embeddings, the latter with or without the mask, as the flag says."""
        encoder = self.model.prompt_encoder
        if isinstance(encoder, PocketPromptEncoder):
            height, width = encoder.grid_size
            mask_input = resize(mask_input, (4 * height, 4 * width))
        sparse, dense = encoder.embed_on_grid(coords, labels, None)  # type: ignore[operator]
        difference = encoder.embed_mask(mask_input) - encoder.no_mask()
        return sparse, dense + has_mask_input * difference

    def select_masks(self, masks: Tensor, iou_preds: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
        """Return one mask (B, 1, h, w) and its score (B, 1): for at most two points the best of three, else the single."""
        single = torch.zeros_like(iou_preds)
        single[:, 0] = PREFER_SINGLE
        best = (iou_preds + (single * num_points - 2.5 * single)).argmax(1, keepdim=True)
        height, width = masks.shape[-2:]
        return masks.gather(1, best[..., None, None].expand(-1, -1, height, width)), iou_preds.gather(1, best)

    def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
        """Enlarge logits (B, M, h, w) to an image of ``orig_im_size``, (B, M, H, W)."""
        resized = self.resize_longest_image_size(orig_im_size, self.img_size)
        rows, columns = (
            enlarging_matrix(orig_im_size[axis], resized[axis], self.img_size, masks.shape[axis - 2])
            for axis in (0, 1)
        )
        return rows.to(masks.dtype) @ masks @ columns.to(masks.dtype).T

    def _stability(self, masks: Tensor) -> Tensor:
        return calculate_stability_score(masks, self.model.mask_threshold, self.stability_score_offset)


def enlarging_matrix(length: Tensor, resized: Tensor, side: int, cells: int) -> Tensor:
    """Return the matrix (length, cells) of one axis: bilinear to the input's square, cut, bilinear to the image.

    Args:
        length: of the image, in pixels.
        resized: of the image in the input, in its pixels.
        side: of the input.
        cells: of the low-resolution logits.
    """
    pixel = torch.arange(length.to(torch.int64), device=length.device)  # type: ignore[call-overload]
    place = ((pixel + 0.5) * (resized / length) - 0.5).clamp(min=0)  # in the cut input
    low = place.floor()
    low, high = (torch.minimum(one, resized - 1.0) for one in (low, low + 1))
    part = (place - low).clamp(max=1)[:, None]
    return (1 - part) * bilinear_weights(low, side, cells) + part * bilinear_weights(high, side, cells)


def bilinear_weights(pixel: Tensor, side: int, cells: int) -> Tensor:
    """Return the weights (N, cells) with which pixels (N,) of a square of ``side`` read ``cells`` enlarged to it."""
    place = ((pixel + 0.5) * (cells / side) - 0.5).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells, device=pixel.device)).abs()).clamp(min=0)
