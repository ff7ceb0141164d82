"""Where objects are: a small head on an image encoder's own feature maps.

Anchor-free, decoupled and class-agnostic, as in YOLOX (Ge et al. 2021) and YOLOv8: every
cell of three maps says how likely an object has its middle there, and where its box ends.
MobileSAMv2 runs a second network for this; here the encoder has already looked.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mobilesam.networks.yolox import Conv, DepthwiseConv

LARGEST = 8.0  # logarithm of a box's side in cells: beyond any input


class ObjectnessHead(nn.Module):
    """Feature maps -> one box and one objectness logit for each of their cells.

    Args:
        inputs: by each map's name, its stride in pixels of the input and its channels.
        width: channels of the two branches.
        depth: depthwise separable convolutions in each branch.
    """

    def __init__(self, inputs: Mapping[str, tuple[int, int]], *, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.strides = tuple(stride for stride, _ in inputs.values())

        def branches() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(*(DepthwiseConv(width, width) for _ in range(depth))) for _ in inputs
            )

        self.stems = nn.ModuleList(Conv(channels, width) for _, channels in inputs.values())
        self.box_convs, self.objectness_convs = branches(), branches()
        self.box_preds = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in inputs)
        self.objectness_preds = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in inputs)

    def middles(self, image_size: int) -> Tensor:
        """Return the middle (N, 2) of each cell in pixels of a square input, in the order of ``forward``."""
        like = next(self.box_preds.parameters())  # for its device and type
        return torch.cat([(cells((image_size // s, image_size // s), like) + 0.5) * s for s in self.strides])

    def forward(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return boxes (B, N, 4) xyxy in pixels of the input, and logits (B, N), finest map first."""
        boxes, logits = [], []
        for i, (name, stride) in enumerate(zip(self.inputs, self.strides, strict=True)):
            x = self.stems[i](maps[name])
            sides = self.box_preds[i](self.box_convs[i](x)).flatten(2).transpose(1, 2)  # (B, h * w, 4)
            height, width = maps[name].shape[-2:]
            boxes.append(decode_boxes(sides, (height, width), stride))
            logits.append(self.objectness_preds[i](self.objectness_convs[i](x)).flatten(1))
        return torch.cat(boxes, 1), torch.cat(logits, 1)


def decode_boxes(sides: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Turn each cell's offset of the middle and log of the sides (B, h * w, 4) into boxes xyxy in pixels."""
    middle = (sides[..., :2] + cells(size, sides)) * stride
    half = sides[..., 2:].clamp(max=LARGEST).exp() * (stride / 2)
    return torch.cat([middle - half, middle + half], -1)


def cells(size: tuple[int, int], like: Tensor) -> Tensor:
    """Return the column and row (h * w, 2) of each cell of a map, row by row."""
    rows = torch.arange(size[0], device=like.device, dtype=like.dtype)
    columns = torch.arange(size[1], device=like.device, dtype=like.dtype)
    return torch.stack([columns.expand(size), rows[:, None].expand(size)], -1).flatten(0, 1)
