"""Where the subject of a photo is: a small head on the features that ``pocket``'s encoder has made anyway.

It says for each cell of stride 16 how likely it belongs to the subject, and for the whole photo how likely there is
one. Context is what tells a subject from the rest, so most of its work is done at stride 32, with wide convolutions and
what the whole photo has on average.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.networks.layer_norm import LayerNorm2d

INPUTS = {"coarse_embedding": 128, "objects_stride16": 128, "objects_stride32": 256}  # channels, by name
PLACES = 5  # channels that say where in the photo a cell lies


class ContextBlock(nn.Module):
    """Residual block: depthwise 7 x 7, normalise, a pointwise perceptron that also reads the photo's average."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.widen = nn.Conv2d(channels, channels * expansion, 1)
        self.around = nn.Linear(channels, channels * expansion)
        self.narrow = nn.Conv2d(channels * expansion, channels, 1)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Return maps (B, C, h, w) of cells of which ``seen`` (B, 1, h, w) are the photo's; the others are 0."""
        y = self.norm(self.spatial(x))
        average = (y * seen).sum((-2, -1)) / seen.sum((-2, -1))
        y = F.relu(self.widen(y) + self.around(average)[..., None, None])
        return (x + self.narrow(y)) * seen


class SubjectHead(nn.Module):
    """Named arrays of ``pocket``'s encoder -> logits (B, 1, h, w) at stride 16, and one logit (B,) of there being a subject.

    Args:
        width: channels of its maps.
        depth: blocks at stride 32.
    """

    def __init__(self, *, width: int = 48, depth: int = 3) -> None:
        super().__init__()
        self.reads = nn.ModuleDict({name: nn.Conv2d(n, width, 1) for name, n in INPUTS.items()})
        self.place = nn.Conv2d(PLACES, width, 1)
        self.blocks = nn.ModuleList(ContextBlock(width) for _ in range(depth))
        self.fine_block = ContextBlock(width)
        self.logits = nn.Conv2d(width, 1, 1)
        self.is_there = nn.Linear(2 * width, 1)

    def forward(self, arrays: Mapping[str, Tensor], seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See the class.

        Args:
            arrays: those of ``INPUTS``.
            seen: (B, 1, h, w) 1 where the cells of stride 16 are the photo's and 0 in padding; None for no padding.
        """
        coarse, *others = (self.reads[name](arrays[name]) for name in INPUTS)
        fine = F.relu(coarse + others[0])
        seen = torch.ones_like(fine[:, :1]) if seen is None else seen
        fine = fine * seen
        wide = seen[..., ::2, ::2]
        x = F.relu(F.avg_pool2d(fine, 2) + others[1] + self.place(places(wide))) * wide
        for block in self.blocks:
            x = block(x, wide)
        average = x.sum((-2, -1)) / wide.sum((-2, -1))
        there = self.is_there(torch.cat([average, x.amax((-2, -1))], 1))[:, 0]
        y = x.repeat_interleave(2, -2).repeat_interleave(2, -1)
        return self.logits(self.fine_block(fine + y, seen)), there


def places(seen: Tensor) -> Tensor:
    """Return (B, 5, h, w) for cells (B, 1, h, w): x and y in -1..1, their squares, and how near the border is."""
    height, width = seen.shape[-2:]
    tall, wide = seen.amax(-1).sum(-1), seen.amax(-2).sum(-1)  # (B, 1) cells of the photo
    y = ((torch.arange(height) + 0.5)[None] / tall * 2 - 1)[..., None].expand(-1, -1, width)
    x = ((torch.arange(width) + 0.5)[None] / wide * 2 - 1)[:, None].expand(-1, height, -1)
    return torch.stack([x, y, x * x, y * y, torch.maximum(x.abs(), y.abs())], 1)
