"""``pocket``'s parts behind segment_anything's calls, which know one tensor for an image.

``pocket``'s decoder reads four maps of different strides. Here they are laid over one grid, without loss:
a finer map's cells become channels, a coarser one's channels become cells. So an image embedding is one
tensor (B, 480, h, w) that can be kept, cut and put together like any other.

In these calls a prompt sees the image as a whole. :class:`mobilesam.compat.segment_anything.SamPredictor`
and ``Sam.forward`` know prompt and image together, and look closer at small objects.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.compat.segment_anything.modeling.common import folding
from mobilesam.compat.segment_anything.modeling.mask_decoder import check_images
from mobilesam.compat.segment_anything.modeling.prompt_encoder import Points, PromptEncoder
from mobilesam.core.errors import ConfigError
from mobilesam.core.prompts import LOW_RES_PER_GRID
from mobilesam.core.spec import NetworkSpec
from mobilesam.core.views import Views
from mobilesam.networks import pocket, pocket_decoder, prompt_encoder
from mobilesam.networks.pocket import EMBEDDING, resize

SPEC: NetworkSpec = next(config.spec for config in pocket.NETWORKS if config.spec.name == "pocket")
VIEWS = Views(SPEC.image_size, SPEC.view_size)
COARSER = {"coarse_embedding": 2}  # cells of the grid for one of the map, per side
FINER = {"skip_stride4": 2, "skip_stride2": 4}  # cells of the map for one of the grid, per side
PACKED = tuple(
    channels // COARSER.get(name, 1) ** 2 * FINER.get(name, 1) ** 2 for name, channels in EMBEDDING.items()
)


def pack(arrays: Mapping[str, Tensor]) -> Tensor:
    """Lay the arrays of ``pocket``'s decoder over one grid: (B, 480, h, w)."""
    maps = []
    for name in EMBEDDING:
        array = arrays[name]
        if name in COARSER:
            array = F.pixel_shuffle(array, COARSER[name])
        maps.append(F.pixel_unshuffle(array, FINER[name]) if name in FINER else array)
    return torch.cat(maps, dim=1)


def unpack(packed: Tensor) -> dict[str, Tensor]:
    """Undo :func:`pack`.

    Raises:
        ConfigError: for another number of channels.
    """
    if packed.ndim != 4 or packed.shape[1] != sum(PACKED):
        raise ConfigError(
            f"image_embeddings: have shape {tuple(packed.shape)}; must be (B, {sum(PACKED)}, h, w), "
            "from the image encoder of pocket"
        )
    arrays = {}
    for name, part in zip(EMBEDDING, packed.split(PACKED, dim=1), strict=True):
        if name in COARSER:
            part = F.pixel_unshuffle(part, COARSER[name])
        arrays[name] = F.pixel_shuffle(part, FINER[name]) if name in FINER else part
    return arrays


def arrays_to_embedding(arrays: Mapping[str, Tensor], spec: NetworkSpec) -> Tensor:
    """Return an image's arrays as the one tensor (1, C, h, w) that segment_anything's users know."""
    return pack(arrays) if spec.decoder == SPEC.decoder else arrays["image_embedding"]


def embedding_to_arrays(image_embeddings: Tensor, spec: NetworkSpec) -> dict[str, Tensor]:
    """Undo :func:`arrays_to_embedding`."""
    if spec.decoder == SPEC.decoder:
        return unpack(image_embeddings)
    return {"image_embedding": image_embeddings}


class PocketImageEncoder(pocket.PocketEncoder):
    """``pocket``'s image encoder: normalised pixels (B, 3, h, w) -> one tensor (B, 480, h / 8, w / 8)."""

    img_size = SPEC.image_size

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # ours has the arrays by their names
        """Return the packed embedding."""
        return pack(self.arrays(x))

    def arrays(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the arrays by their names, including those that objects are found in."""
        return super().forward(pixels)


class PocketPositions(prompt_encoder.PositionEmbeddingRandom):
    """``pocket``'s position embedding, without the part that programs use to rebuild SAM's prompt encoder."""

    def _pe_encoding(self, coords: Tensor) -> Tensor:
        raise ConfigError(
            "_pe_encoding: pocket also draws its prompts on the grid, so they are not embedded by positions "
            "alone; call prompt_encoder(points=, boxes=, masks=), or export with utils.onnx.SamOnnxModel"
        )


class PocketPromptEncoder(PromptEncoder):
    """``pocket``'s prompt encoder; ``embed_dim`` is the packed image embedding's, prompts have 128 channels."""

    def __init__(self) -> None:
        sparse, dense = EMBEDDING["coarse_embedding"], pocket_decoder.DENSE_DIM
        prompt_encoder.PromptEncoder.__init__(
            self,
            embed_dim=sparse,
            dense_dim=dense,
            prompt_maps=pocket_decoder.PromptMaps(out_channels=dense),
        )
        self.pe_layer = PocketPositions(sparse // 2)
        self.embed_dim = sum(PACKED)
        side = SPEC.image_size // SPEC.stride
        self.image_embedding_size = (side, side)
        self.input_image_size = (SPEC.image_size, SPEC.image_size)
        self.num_point_embeddings = prompt_encoder.LABELS
        self.mask_input_size = (LOW_RES_PER_GRID * side, LOW_RES_PER_GRID * side)
        side = SPEC.view_size // SPEC.stride
        self.grid_size = (side, side)  # that the decoder reads

    def get_dense_pe(self) -> Tensor:
        """Return the position embedding (1, C, 64, 64) of the grid that the decoder reads."""
        return self.pe_layer(self.grid_size)[None]

    def forward(
        self, points: Points | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return sparse (B, N, 128) and dense (B, 32, 64, 64) embeddings; masks may have any size."""
        return super().forward(points, boxes, masks)

    def embed_on_grid(self, coords: Tensor, labels: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Embed prompts and draw them on the grid."""
        height, width = self.grid_size
        if masks is not None:
            masks = resize(
                masks.to(self.no_mask_embed.weight.dtype),
                (LOW_RES_PER_GRID * height, LOW_RES_PER_GRID * width),
            )
        return self.embed(
            coords,
            labels,
            masks,
            image_size=self.input_image_size,
            grid_size=self.grid_size,
            side=height,
        )


class PocketMaskDecoder(pocket_decoder.PocketDecoder):
    """``pocket``'s mask decoder, which reads the packed image embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer_dim = EMBEDDING["coarse_embedding"]
        self.num_multimask_outputs = self.num_mask_tokens - 1

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, M, 4h, 4w) and IoU predictions (B, M); see :class:`.mask_decoder.MaskDecoder`."""
        tokens = range(1, self.num_mask_tokens) if multimask_output else range(1)
        return self._predict(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, tokens
        )

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return all masks and IoU predictions, the single one's first."""
        tokens = range(self.num_mask_tokens)
        return self._predict(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, tokens
        )

    def _predict(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor, tokens: range
    ) -> tuple[Tensor, Tensor]:
        check_images(image_embeddings, len(sparse))
        arrays = unpack(image_embeddings)
        side = max(arrays["image_embedding"].shape[-2:]) * SPEC.stride
        if side != SPEC.image_size:
            raise ConfigError(
                f"image_embeddings: come from an input of {side} pixels; give {SPEC.image_size}, as img_size says"
            )
        whole = arrays | {
            name: resize(arrays[name], [n * VIEWS.size // VIEWS.image_size for n in arrays[name].shape[-2:]])
            for name in self.PER_PROMPT
        }
        height, width = whole["image_embedding"].shape[-2:]
        return self.decode(
            whole,
            image_pe,
            sparse,
            dense[..., :height, :width],
            torch.tensor(tokens, device=sparse.device),
            fold=folding(),
        )
