"""The whole network: image encoder, prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.core.arrays import Size, to_numpy
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.types import MULTIMASK, DecoderInputs
from mobilesam.core.views import REDUCED, Views
from mobilesam.networks.mask_decoder import MaskDecoder
from mobilesam.networks.objectness import ObjectnessHead
from mobilesam.networks.pocket import resize
from mobilesam.networks.pocket_decoder import end_at_box
from mobilesam.networks.prompt_encoder import PromptEncoder, inputs_to_tensors
from mobilesam.networks.two_way_transformer import FirstLayer


class ImageEncoder(Protocol):
    """What all image encoders have in common.

    Attributes:
        stride: pixels of the input's side that make one cell of the image embedding.
    """

    stride: int

    def __call__(self, pixels: Tensor, /) -> Tensor | dict[str, Tensor]:
        """Return the image embedding (B, C, h, w), or several arrays of which one is ``image_embedding``."""
        ...


class Decoder(Protocol):
    """What all mask decoders have in common.

    Attributes:
        PER_PROMPT: the arrays that are combined with each prompt, the coarsest first.
        PER_IMAGE: those that need no copy for each prompt.
        ends_at_box: whether masks that nearly fit their box are cut to it.
    """

    PER_PROMPT: tuple[str, ...]
    PER_IMAGE: tuple[str, ...]
    ends_at_box: bool

    def decode(
        self,
        embedding: Mapping[str, Tensor],
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        mask_tokens: Tensor,
        first_layer: FirstLayer | None = None,
        *,
        fold: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return low-resolution logits (B, M, 4h, 4w) and IoU predictions (B, M)."""
        ...


class Sam(nn.Module):
    """A promptable network in three steps, tensors in and tensors out.

    Its parts are called by verbs of their own (``embed``, ``decode``, ``join``), so that their ``forward`` stays
    free for callers who know them from another library.

    Call ``encode`` and ``prepare`` once per image and ``decode`` once per batch of prompts; ``propose``,
    where there is a head for it, finds what to prompt with.

    Args:
        image_encoder: turns pixels into an image embedding, or several named arrays.
        prompt_encoder: turns points, boxes and masks into embeddings.
        mask_decoder: turns embeddings into masks.
        proposal_head: boxes of objects from some of the encoder's arrays, or None.
        spec: the inputs that the weights are meant for; the network itself takes every size that its encoder takes.
    """

    image_encoder: ImageEncoder
    mask_decoder: Decoder

    def __init__(
        self,
        image_encoder: ImageEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: Decoder,
        proposal_head: ObjectnessHead | None = None,
        *,
        spec: NetworkSpec,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.views = spec.views
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.proposal_head = proposal_head

    def encode(self, pixels: Tensor, *, of_full_size: bool | None = None) -> dict[str, Tensor]:
        """Turn normalised, padded pixels into named arrays.

        Args:
            pixels: (B, 3, S, S) or, for a network with ``padded_to``, (B, 3, h, w).
            of_full_size: whether the longer side is ``image_size``, so that there are views; worked out where None.
        """
        encoded = self.see(pixels)
        if of_full_size is None:
            of_full_size = max(pixels.shape[-2:]) == self.spec.image_size
        return encoded | self.reduce(encoded, self.views) if self.views and of_full_size else encoded

    def see(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the image encoder's named arrays."""
        encoded = self.image_encoder(pixels)
        if not isinstance(encoded, dict):
            encoded = {"image_embedding": encoded}
        if self.spec.fills_up:
            cells = self.spec.image_size // self.image_encoder.stride
            height, width = encoded["image_embedding"].shape[-2:]
            filled = F.pad(encoded["image_embedding"], (0, cells - width, 0, cells - height))
            encoded = encoded | {"image_embedding": filled}
        return encoded

    def reduce(self, encoded: Mapping[str, Tensor], views: Views) -> dict[str, Tensor]:
        """Make the arrays that only the view of a whole input has."""
        return {
            REDUCED + name: resize(
                encoded[name], [side * views.size // views.image_size for side in encoded[name].shape[-2:]]
            )
            for name in self.mask_decoder.PER_PROMPT
        }

    def prepare(self, image_embedding: Tensor) -> dict[str, Tensor]:
        """Make the first layer's image side for each image (B, C, h, w): named arrays.

        Empty for a network with prompt maps, whose image side depends on every prompt.
        """
        if self.prompt_encoder.prompt_maps is not None:
            return {}
        assert isinstance(self.mask_decoder, MaskDecoder)  # other decoders have prompt maps
        height, width = image_embedding.shape[-2:]
        image_pe = self.image_pe((height, width))
        first = self.mask_decoder.project_image(image_embedding, image_pe, self.prompt_encoder.no_mask())
        return {f"first_layer_{name}": array for name, array in first._asdict().items()}

    def image_pe(self, grid_size: Size) -> Tensor:
        """Position embedding (1, C, h, w) of a grid of (height, width) cells."""
        return self.prompt_encoder.pe_layer(grid_size)[None]

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
            embedding: from :meth:`encode`, for one image or, where the decoder reads all of it, one per
                prompt; for one image also from :meth:`prepare`, whose arrays serve prompts without a mask.
            point_coords: (B, N, 2) x and y in the pixels of ``prompt_size``.
            point_labels: (B, N) 1 foreground, 0 background, 2 and 3 box corners, -1 pad.
            mask_input: (B, 1, 4h, 4w) logits, or None.
            mask_tokens: numbers of the masks asked for, ``SINGLE_MASK`` or ``MULTIMASK``.
            fold: see :class:`~mobilesam.networks.two_way_transformer.TwoWayTransformer`.
        """
        if self.views is None or not any(name.startswith(REDUCED) for name in embedding):
            return self.decode_view(
                embedding, point_coords, point_labels, mask_input, mask_tokens=mask_tokens, fold=fold
            )
        device = point_coords.device

        def decode_view(arrays: dict[str, Tensor], inputs: DecoderInputs) -> tuple[Tensor, Tensor]:
            prompts = inputs_to_tensors(inputs, device)
            return self.decode_view(arrays, *prompts, mask_tokens=mask_tokens, side=self.side_of_view)

        inputs = DecoderInputs(
            to_numpy(point_coords),
            to_numpy(point_labels),
            None if mask_input is None else to_numpy(mask_input),
        )
        read = (*self.mask_decoder.PER_PROMPT, *self.mask_decoder.PER_IMAGE)
        embedding = {name: array for name, array in embedding.items() if name.removeprefix(REDUCED) in read}
        return self.views.decode(
            embedding, inputs, decode_view, partial(torch.full, device=device), torch.cat
        )

    @property
    def side_of_view(self) -> int | None:
        """Cells of the square whose upper left part each view is; None where there are none."""
        return None if self.views is None else self.views.size // self.spec.stride

    def decode_view(
        self,
        embedding: Mapping[str, Tensor],
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor | None = None,
        *,
        mask_tokens: Sequence[int] | Tensor = MULTIMASK,
        fold: bool | None = None,
        side: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`decode` for what the decoder reads at once.

        Args:
            embedding: arrays of one view, or one per prompt.
            point_coords: (B, N, 2) x and y in the view's pixels.
            point_labels: (B, N).
            mask_input: logits (B, 1, 4h, 4w) or, in a view of arrays that were reduced, finer.
            mask_tokens: as in :meth:`decode`.
            fold: as in :meth:`decode`.
            side: side in cells of the square whose upper left part the view is; the view's longer side where None.
        """
        image_embedding = embedding["image_embedding"]
        h, w = image_embedding.shape[-2:]
        side = side or max(h, w)
        stride = self.spec.stride * self.spec.prompt_size // self.spec.image_size  # of prompts
        if mask_input is not None:
            mask_input = self.mask_to_grid(mask_input, (h, w))
        sparse, dense = self.prompt_encoder.embed(
            point_coords,
            point_labels,
            mask_input,
            image_size=(side * stride, side * stride),
            grid_size=(h, w),
            side=side,
        )
        first_layer = None
        if mask_input is None and "first_layer_key" in embedding:
            first_layer = FirstLayer(*(embedding[f"first_layer_{name}"] for name in FirstLayer._fields))
        masks, ious = self.mask_decoder.decode(
            embedding,
            self.image_pe((side, side)),
            sparse,
            dense,
            torch.as_tensor(mask_tokens, device=image_embedding.device),
            first_layer,
            fold=fold,
        )
        if self.mask_decoder.ends_at_box:
            positions = (point_coords + 0.5) / (side * stride)  # of corners too, as SAM's prompts have it
            masks = end_at_box(masks, positions, point_labels, side * masks.shape[-1] // w)
        return masks, ious

    def mask_to_grid(self, mask_input: Tensor, grid_size: Size) -> Tensor:
        """Return mask prompts (B, 1, h, w) as fine as a grid of (height, width) cells takes them."""
        if self.views is None:
            return mask_input
        height, width = grid_size
        return resize(mask_input, (LOW_RES_PER_GRID * height, LOW_RES_PER_GRID * width))

    def propose(self, embedding: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels of the input and their objectness (B, N) in 0..1."""
        assert self.proposal_head is not None
        boxes, logits = self.proposal_head(embedding)
        return boxes, logits.sigmoid()

    @property
    def device(self) -> torch.device:
        """The device that the parameters are on."""
        return next(self.parameters()).device
