"""``pocket``'s mask decoder: SAM's two-way transformer with eyes of its own.

What SAM does not have, and why: a small encoder cannot foresee every object, so every prompt
takes a look of its own, made cheap enough for hundreds of prompts.

- Prompts are also drawn on the grid (:class:`PromptMaps`).
- Between the transformer's layers lie convolutions (:class:`ConvBlock`): attention joins
  a prompt with places, but only neighbours show which places belong together. Both run on
  the coarse grid of stride 16, where they cost a quarter.
- The finer maps of the image come in on the way up. At stride 2 there is no map for each
  prompt at all: a token weighs the image's own map, and that is one product for all prompts.
- The predicted IoU also looks at the mask (:class:`MaskEvidence`).
- A mask that fits its box ends there (:func:`end_at_box`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.networks.mask_decoder import MLP
from mobilesam.networks.pocket import EMBEDDING, resize, twice
from mobilesam.networks.prompt_encoder import grid_axes
from mobilesam.networks.two_way_transformer import FOLD_LIMIT, FirstLayer, TwoWayTransformer, grid, rows

DENSE_DIM = 32  # channels of the prompts that are drawn on the grid
FITTING = 0.03  # root mean square of how far a fitting mask's sides lie from its box's, in sides of the box
RAMP = 2.0  # logits per cell that a mask may rise from its box inwards
UNBOUND = 1e4  # a logit that is no bound, and a column that no mask has
OUTSIDE = 4.0  # a squared distance, in sides of the image, that no two of its places have


class PromptMaps(nn.Module):
    """Draw point and box prompts on the image embedding's grid.

    A small decoder that has seen few images looks at the right place at once when the
    prompts lie on the grid; from the tokens' position embeddings alone it would first
    have to learn what a place is.

    Args:
        out_channels: channels of the dense prompt embedding.
        hidden: channels between the two pointwise convolutions.
    """

    CHANNELS = 14
    SIGMAS = (0.02, 0.1)  # of the two Gaussians around a point, in sides of the image
    NEAREST = 1e-3  # distances below this count as equal

    def __init__(self, *, out_channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.widen = nn.Conv2d(self.CHANNELS, hidden, 1)
        self.project = nn.Conv2d(hidden, out_channels, 1)

    def forward(
        self, positions: Tensor, labels: Tensor, grid_size: tuple[int, int], side: int | None = None
    ) -> Tensor:
        """Return (B, out_channels, h, w) for positions (B, N, 2) in 0..1 and labels (B, N).

        Args:
            positions: x and y in a square.
            labels: 1 foreground, 0 background, 2 and 3 box corners, -1 pad.
            grid_size: (h, w) of the cells to draw on.
            side: side of the square in cells, if the grid is only its upper left part.
        """
        axes = grid_axes(grid_size, positions, side)
        one_more = F.pad(positions, (0, 0, 0, 1))  # an unchosen point, so that there is always one
        maps = torch.cat(
            [
                self._draw_points(one_more, F.pad(labels, (0, 1), value=-1) == 1, *axes),
                self._draw_points(one_more, F.pad(labels, (0, 1), value=-1) == 0, *axes),
                self._draw_box(positions, labels, *axes),
            ],
            dim=1,
        )
        return self.project(F.relu(self.widen(maps.to(self.widen.weight.dtype))))

    def _draw_points(self, positions: Tensor, chosen: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Two Gaussians, the log distance to the nearest point, and whether there is one: (B, 4, h, w)."""
        far = torch.where(chosen, 0.0, OUTSIDE)[..., None]
        beside = (positions[..., :1] - x).square()[:, :, None]  # (B, N, 1, w)
        above = ((positions[..., 1:] - y).square() + far)[..., None]  # (B, N, h, 1)
        squared = (beside + above).amin(1).clamp(max=OUTSIDE)  # (B, h, w)
        gaussians = [torch.exp(-squared / (2 * sigma**2)) for sigma in self.SIGMAS]
        any_chosen = chosen.to(positions.dtype).amax(1)[:, None, None].expand_as(squared)
        log_distance = 0.5 * torch.log(squared + self.NEAREST**2)
        return torch.stack([*gaussians, 0.3 * log_distance * any_chosen, any_chosen], dim=1)

    def _draw_box(self, positions: Tensor, labels: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Inside, place inside, distance to the edge, and the box's size: (B, 6, h, w)."""
        dtype = positions.dtype
        top_left = (positions * (labels == 2)[..., None].to(dtype)).sum(1)  # (B, 2)
        bottom_right = (positions * (labels == 3)[..., None].to(dtype)).sum(1)
        has_box = (labels == 2).to(dtype).sum(1)[:, None, None, None]
        size = (bottom_right - top_left).clamp(min=self.NEAREST)
        middle, half = ((top_left + bottom_right) / 2)[..., None], (size / 2)[..., None]
        across = (x - middle[:, 0]) / half[:, 0]  # -1..1 inside, (B, w)
        along = (y - middle[:, 1]) / half[:, 1]  # (B, h)
        edge = 1 - torch.maximum(across.abs()[:, None], along.abs()[..., None])  # > 0 inside, (B, h, w)
        maps = [
            (edge > 0).to(dtype),
            across.clamp(-2, 2)[:, None].expand_as(edge),
            along.clamp(-2, 2)[..., None].expand_as(edge),
            edge.clamp(-2, 1),
            size[:, :1, None].expand_as(edge),
            size[:, 1:, None].expand_as(edge),
        ]
        return torch.stack(maps, dim=1) * has_box


class ConvBlock(nn.Module):
    """Residual block without normalisation: depthwise 7 x 7, then a pointwise perceptron."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.widen = nn.Conv2d(channels, channels * expansion, 1)
        self.narrow = nn.Conv2d(channels * expansion, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.relu(self.widen(self.spatial(x))))


class MaskEvidence(nn.Module):
    """Predict a mask's IoU from what the IoU token expects of the prompt and what the mask shows.

    SAM's IoU head sees only the tokens, and among one point's three masks it chose worse than a glance at
    how certain each mask is. So among these three the masks themselves decide, and the token says what to
    expect of them together; for the single mask the token alone decides. No mask's prediction depends on
    which others were asked for.

    Args:
        hidden: units between the two linear layers.
    """

    # Expectation, certainty and the logarithm of the area, over the masks of single points.
    MEANS = (0.47, 0.73, -4.0)
    SPREADS = (0.18, 0.11, 1.4)

    def __init__(self, *, hidden: int = 16) -> None:
        super().__init__()
        self.widen = nn.Linear(len(self.MEANS), hidden)
        self.narrow = nn.Linear(hidden, 1)
        nn.init.zeros_(self.narrow.weight)  # at first the more certain mask is simply the better one
        nn.init.zeros_(self.narrow.bias)

    def forward(
        self, iou_predictions: Tensor, logits: Tensor, mask_tokens: Tensor | slice, side: int | None = None
    ) -> Tensor:
        """Return predicted IoUs (B, M) of the masks that were asked for; no gradient reaches the masks.

        Args:
            iou_predictions: (B, 4) of all tokens, the single mask's first.
            logits: (B, M, h, w). Every second row and column is enough.
            mask_tokens: (M,) numbers of these masks.
            side: side of the square whose upper left part the logits are, if they are not all of it.
        """
        side = side or logits.shape[-1]
        single, three = iou_predictions[:, :1], iou_predictions[:, 1:]
        expected = torch.cat([single, three.mean(1, keepdim=True).expand_as(three)], 1)[:, mask_tokens]
        logits = logits.detach()[..., ::2, ::2].to(expected.dtype)
        inside = (logits > 0).to(logits.dtype)
        count = inside.sum((-2, -1)).clamp(min=1)
        certainty = (logits.sigmoid() * inside).sum((-2, -1)) / count
        area = torch.log(4 * count / side**2)
        means, spreads = expected.new_tensor(self.MEANS), expected.new_tensor(self.SPREADS)
        seen = (torch.stack([expected, certainty, area], dim=-1) - means) / spreads
        found = expected + certainty - self.MEANS[1] + self.narrow(F.relu(self.widen(seen)))[..., 0]
        return found + (found.clamp(0, 1) - found).detach()  # 0..1, and still a gradient beyond


class PocketDecoder(nn.Module):
    """Predict one mask (token 0) and three masks (tokens 1 to 3) with their IoU.

    Attributes:
        PER_PROMPT: the arrays that are combined with each prompt, each of its own size.
        PER_IMAGE: those that need no copy for each prompt; they may be finer.
        ends_at_box: whether :func:`end_at_box` follows.

    Args:
        heads: attention heads.
        mlp_dim: hidden width of the transformer's perceptrons.
        dense_dim: channels of the dense prompt embedding.
        num_multimask_outputs: number of masks besides the single one.
    """

    PER_PROMPT: tuple[str, ...] = ("coarse_embedding", "image_embedding", "skip_stride4")
    PER_IMAGE: tuple[str, ...] = ("skip_stride2",)
    ends_at_box = True

    def __init__(
        self,
        *,
        heads: int = 4,
        mlp_dim: int = 512,
        dense_dim: int = DENSE_DIM,
        num_multimask_outputs: int = 3,
    ) -> None:
        super().__init__()
        dim, fine, skip4, skip2 = EMBEDDING.values()
        self.dense_dim = dense_dim
        self.num_mask_tokens = 1 + num_multimask_outputs
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, dim)
        self.coarse_prompt = nn.Conv2d(dense_dim, dim, 2, stride=2)
        self.transformer = TwoWayTransformer(embed_dim=dim, heads=heads, mlp_dim=mlp_dim)
        self.coarse_blocks = nn.ModuleList(ConvBlock(dim) for _ in range(1 + len(self.transformer.layers)))
        self.fine_prompt = nn.Conv2d(dense_dim, fine, 1)
        self.coarse_to_fine = nn.Conv2d(dim, fine, 1)
        self.fine_block = ConvBlock(fine)
        self.fine_to_skip = nn.Conv2d(fine, skip4, 1)
        self.spatial = nn.Conv2d(skip4, skip4, 3, padding=1, groups=skip4)
        self.pointwise = nn.Conv2d(skip4, skip4, 1)
        self.widths = (skip4, skip2)
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(dim, dim, skip4 + skip2, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(dim, dim, self.num_mask_tokens, 3)
        self.evidence = MaskEvidence()

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
        """Return logits (B, M, ...) of the finest array's size and IoU predictions (B, M).

        Args:
            embedding: the arrays of ``pocket``'s encoder, each (B or 1, ...); those in ``PER_IMAGE`` may
                also be (I, ...), of I images with equally many prompts, which follow each other.
            image_pe: (1, C, s, s) of the square whose upper left part the arrays are.
            sparse_prompt_embeddings: (B, N, C).
            dense_prompt_embeddings: (B, dense_dim, h, w).
            mask_tokens: (M,) numbers of the mask tokens asked for; 0 is the single mask.
            first_layer: must be None: prompts change the image side before the first layer.
            fold: see :class:`~mobilesam.networks.two_way_transformer.TwoWayTransformer`.
        """
        if first_layer is not None:
            raise ValueError("first_layer: an image alone has none, because prompts are drawn on it")
        tokens = self.ask(sparse_prompt_embeddings)
        coarse = embedding["coarse_embedding"] + self.coarse_prompt(dense_prompt_embeddings)
        tokens, coarse = self.join(tokens, coarse, image_pe, fold=fold)
        return self.answer(
            embedding, tokens, coarse, dense_prompt_embeddings, mask_tokens, image_pe.shape[-1]
        )

    def ask(self, sparse_prompt_embeddings: Tensor) -> Tensor:
        """Put the output tokens before prompts (B, N, C): (B, 1 + masks + N, C)."""
        b = sparse_prompt_embeddings.shape[0]
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        return torch.cat([output_tokens.expand(b, -1, -1), sparse_prompt_embeddings], dim=1)

    def answer(
        self,
        embedding: Mapping[str, Tensor],
        tokens: Tensor,
        coarse: Tensor,
        dense_prompt_embeddings: Tensor,
        mask_tokens: Tensor,
        side: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the masks and IoU predictions that tokens (B, T, C) and the coarse map (B, C, h/2, w/2) hold.

        ``side`` is that of the square, in cells, whose upper left part the arrays are; the rest as in :meth:`decode`.
        """
        masks = self.draw(embedding, tokens, coarse, dense_prompt_embeddings, mask_tokens)
        side = side * embedding["skip_stride2"].shape[-1] // embedding["image_embedding"].shape[-1]
        return masks, self.evidence(self.expect(tokens), masks, mask_tokens, side)

    def draw(
        self,
        embedding: Mapping[str, Tensor],
        tokens: Tensor,
        coarse: Tensor,
        dense_prompt_embeddings: Tensor,
        mask_tokens: Tensor | slice,
    ) -> Tensor:
        """Return the masks alone; the arguments are those of :meth:`answer`."""
        x = self.fine_prompt(dense_prompt_embeddings) + twice(self.coarse_to_fine(coarse))
        x = self.fine_block(embedding["image_embedding"] + x)
        x = twice(self.fine_to_skip(x)) + embedding["skip_stride4"]
        x = F.relu(self.pointwise(F.relu(self.spatial(x))))  # (B, 32, 2h, 2w)

        hyper = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )[:, mask_tokens]
        of_prompt, of_image = hyper.split(self.widths, dim=-1)  # (B, M, 32 and 16)
        edges = embedding["skip_stride2"]  # (I or 1, 16, 4h, 4w), or finer
        masks = resize(weigh(of_prompt, x), edges.shape[-2:]) + weigh(of_image, edges)
        return masks

    def expect(self, tokens: Tensor) -> Tensor:
        """Return the IoUs (B, 4) that the IoU token expects, before anybody has looked at the masks."""
        return self.iou_prediction_head(tokens[:, 0])

    def join(
        self,
        tokens: Tensor,
        image: Tensor,
        image_pe: Tensor,
        *,
        fold: bool | None,
        absent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Let tokens (B, T, C) and the coarse map (B, C, h/2, w/2) read each other, between convolutions."""
        if fold is None:
            fold = tokens.shape[1] <= FOLD_LIMIT
        height, width = image.shape[-2:]
        place = rows(F.avg_pool2d(image_pe, 2)[..., :height, :width]).to(image.dtype)
        token_pe = tokens
        image = self.coarse_blocks[0](image)
        for layer, block in zip(self.transformer.blocks, self.coarse_blocks[1:], strict=True):
            tokens, x = layer.join(tokens, rows(image), token_pe, place, None, fold=fold, absent=absent)
            image = block(grid(x, (height, width)))
        return self.transformer.last_look(tokens, token_pe, rows(image), place, fold=fold), image


def end_at_box(masks: Tensor, positions: Tensor, labels: Tensor, side: int | None = None) -> Tensor:
    """Let each mask whose sides nearly match its prompt's box end at the box.

    A box drawn by hand says roughly where an object is, a tight one says where it ends, and nothing says which
    of the two it is. The mask does: if it reaches the box on all four sides, that is no accident.

    Args:
        masks: logits (B, M, h, w) of a view.
        positions: (B, N, 2) x and y of the prompt's points and corners, 0..1 in a square.
        labels: (B, N); the masks of a prompt without corners stay as they are.
        side: of the square whose upper left part the masks are, in their cells; their width where None.

    Returns:
        Logits of the same shape.
    """
    cells = positions * (side or masks.shape[-1])
    top_left, bottom_right = ((cells * (labels == corner)[..., None]).sum(1) for corner in (2, 3))
    apart_x, across = compare_sides(masks.amax(-2), top_left[:, :1], bottom_right[:, :1])
    apart_y, down = compare_sides(masks.amax(-1), top_left[:, 1:], bottom_right[:, 1:])
    ends = (apart_x + apart_y < 4 * FITTING**2) & (labels == 2).any(1, keepdim=True)  # (B, M)
    across, down = (torch.where(ends[..., None], bound, UNBOUND) for bound in (across, down))
    return torch.minimum(torch.minimum(masks, across[:, :, None]), down[..., None])


def compare_sides(profile: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Compare where masks begin and end along one axis with where their box does.

    Args:
        profile: (B, M, s) greatest logit of each column, or of each row.
        low: (B, 1) where the box begins, in columns or rows.
        high: (B, 1) where it ends.

    Returns:
        How far apart the two sides are (B, M), as a sum of squares in sides of the box; and the greatest logits
        (B, 1, s) of masks that end at the box.
    """
    # As exact as the box: bfloat16 counts only to 256.
    cell = torch.arange(profile.shape[-1], device=profile.device, dtype=low.dtype)
    first = torch.where(profile > 0, cell, UNBOUND).amin(-1)
    last = torch.where(profile > 0, cell + 1, 0.0).amax(-1)
    size = (high - low).clamp(min=1e-3)
    apart = ((first - low) / size).square() + ((last - high) / size).square()
    depth = torch.minimum(cell + 0.5 - low, high - cell - 0.5)  # (B, s)
    return apart, RAMP * depth[:, None]


def weigh(weights: Tensor, maps: Tensor) -> Tensor:
    """Sum maps (I, C, h, w) of I images with weights (B, M, C): (B, M, h, w); each image's B / I rows are adjacent."""
    # In a graph, I is 1 or B as the arrays come; where it is 1, ONNX Runtime makes one product of it.
    if torch.compiler.is_exporting():
        masks = weights @ maps.flatten(2)
    else:
        masks = weights.reshape(maps.shape[0], -1, weights.shape[-1]) @ maps.flatten(2)
    return masks.reshape(*weights.shape[:2], *maps.shape[-2:])
