"""The whole network: image encoder, prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mobilesam.core.types import MULTIMASK
from mobilesam.networks.mask_decoder import MaskDecoder
from mobilesam.networks.objectness import ObjectnessHead
from mobilesam.networks.prompt_encoder import PromptEncoder
from mobilesam.networks.two_way_transformer import FirstLayer


class Sam(nn.Module):
    """A promptable network in three steps, tensors in and tensors out.

    ``encode`` once per image, ``prepare`` once per image, ``decode`` once per batch of prompts; and
    ``propose``, where there is a head for it, to find what to prompt with.

    Args:
        image_encoder: module with a ``stride`` from pixels to an image embedding, or to
            several named arrays of which one is ``image_embedding``.
        prompt_encoder: points, boxes and masks as embeddings.
        mask_decoder: embeddings as masks.
        proposal_head: boxes of objects from some of the encoder's arrays, or None.
        name: of ``configs.NETWORKS``.
        image_size: side of the square input that the weights are meant for; the network
            itself takes every size that its encoder takes.
        prompt_size: side of the square whose pixels prompts are given in, for such an input.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        proposal_head: ObjectnessHead | None = None,
        *,
        name: str,
        image_size: int,
        prompt_size: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.prompt_size = prompt_size
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.proposal_head = proposal_head

    def encode(self, pixels: Tensor) -> dict[str, Tensor]:
        """Turn normalised, padded pixels (B, 3, S, S) into named arrays."""
        encoded = self.image_encoder(pixels)
        return encoded if isinstance(encoded, dict) else {"image_embedding": encoded}

    def prepare(self, image_embedding: Tensor) -> dict[str, Tensor]:
        """Make the first layer's image side for each image (B, C, h, w): named arrays.

        Empty for a network with prompt maps, whose image side depends on every prompt.
        """
        if self.prompt_encoder.prompt_maps is not None:
            return {}
        image_pe = self.image_pe(image_embedding)
        first = self.mask_decoder.project_image(image_embedding, image_pe, self.prompt_encoder.no_mask())
        return {f"first_layer_{name}": array for name, array in first._asdict().items()}

    def image_pe(self, image_embedding: Tensor) -> Tensor:
        """Position embedding (1, C, h, w) of an image embedding's grid."""
        return self.prompt_encoder.pe_layer(tuple(image_embedding.shape[-2:]))[None]

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
        """Return low-resolution logits (B, M, 4h, 4w) and IoU predictions (B, M).

        Args:
            embedding: from :meth:`encode`, for one image or one per prompt, and, for one
                image, from :meth:`prepare`, whose arrays serve prompts without a mask.
            point_coords: (B, N, 2) x and y in the pixels of ``prompt_size``.
            point_labels: (B, N) 1 foreground, 0 background, 2 and 3 box corners, -1 pad.
            mask_input: (B, 1, 4h, 4w) logits, or None.
            mask_tokens: numbers of the masks asked for, ``SINGLE_MASK`` or ``MULTIMASK``.
            fold: see :class:`~mobilesam.networks.two_way_transformer.TwoWayTransformer`.
        """
        image_embedding = embedding["image_embedding"]
        h, w = image_embedding.shape[-2:]
        stride = self.image_encoder.stride * self.prompt_size // self.image_size  # of prompts
        sparse, dense = self.prompt_encoder(
            point_coords,
            point_labels,
            mask_input,
            image_size=(h * stride, w * stride),
            grid_size=(h, w),
        )
        first_layer = None
        if mask_input is None and "first_layer_key" in embedding:
            first_layer = FirstLayer(*(embedding[f"first_layer_{name}"] for name in FirstLayer._fields))
        return self.mask_decoder(
            embedding,
            self.image_pe(image_embedding),
            sparse,
            dense,
            torch.as_tensor(mask_tokens, device=image_embedding.device),
            first_layer,
            fold=fold,
        )

    def propose(self, embedding: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels of the input and their objectness (B, N) in 0..1."""
        assert self.proposal_head is not None
        boxes, logits = self.proposal_head(embedding)
        return boxes, logits.sigmoid()

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.parameters()).device
