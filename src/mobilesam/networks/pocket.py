"""``pocket``: the small network that this project trains itself.

The trunk is MobileNetV2 (Sandler et al. 2018). Its features are merged top-down at
stride 8, so a 512 x 512 input gives the 64 x 64 grid that SAM's decoder has at 1024.
Two things are not in SAM: prompts are also drawn on the grid (:class:`PromptMaps`),
and the masks are upscaled with the trunk's finer features beside them
(:class:`SkipUpscaling`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.networks.layer_norm import LayerNorm2d
from mobilesam.networks.prompt_encoder import grid_centres

# MobileNetV2's table 2: expansion, channels, blocks, stride of the first block.
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
TAPS = {0: 2, 1: 4, 2: 8, 4: 16, 6: 32}  # stage -> stride of its output
SKIP_CHANNELS = {4: 32, 2: 16}  # stride -> channels that the mask head looks at
OUTSIDE = 4.0  # a squared distance, in sides of the image, that no two of its places have
SKIP_NAMES = {4: "skip_stride4", 2: "skip_stride2"}


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, if asked for, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, *, relu: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, depthwise 3 x 3, project, and the sum where shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ConvNorm(in_channels, hidden, 1, 1, 1, relu=True)
        self.depthwise = ConvNorm(hidden, hidden, 3, stride, hidden, relu=True)
        self.project = ConvNorm(hidden, out_channels, 1, 1, 1, relu=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """The trunk: pixels (B, 3, S, S) -> features of strides 2, 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2, 1, relu=True)
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for expansion, width, blocks, stride in MOBILENET_V2:
            self.stages.append(
                nn.Sequential(
                    *(
                        InvertedResidual(
                            channels if i == 0 else width, width, stride if i == 0 else 1, expansion
                        )
                        for i in range(blocks)
                    )
                )
            )
            channels = width

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        x = self.stem(pixels)
        features = {}
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in TAPS:
                features[TAPS[i]] = x
        return features


class NeckBlock(nn.Module):
    """Residual block: depthwise 7 x 7, normalise, and a pointwise perceptron (as in ConvNeXt)."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.widen = nn.Conv2d(channels, channels * expansion, 1)
        self.narrow = nn.Conv2d(channels * expansion, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.gelu(self.widen(self.norm(self.spatial(x)))))


class PocketEncoder(nn.Module):
    """Image encoder of ``pocket``: pixels (B, 3, S, S) -> a set of named arrays.

    ``image_embedding`` (B, C, S/8, S/8), ``skip_stride4`` (B, 32, S/4, S/4) and
    ``skip_stride2`` (B, 16, S/2, S/2). ``S`` must be divisible by 32.

    Args:
        out_channels: channels C of the image embedding.
        neck_depths: blocks at strides 32, 16 and 8.
    """

    stride = 8

    def __init__(self, *, out_channels: int = 128, neck_depths: Sequence[int] = (2, 2, 2)) -> None:
        super().__init__()
        channels = {TAPS[i]: MOBILENET_V2[i][1] for i in TAPS}
        self.trunk = MobileNetV2()
        self.laterals = nn.ModuleList(nn.Conv2d(channels[stride], out_channels, 1) for stride in (32, 16, 8))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(NeckBlock(out_channels) for _ in range(depth))) for depth in neck_depths
        )
        self.norm = LayerNorm2d(out_channels)
        self.skips = nn.ModuleDict(
            {
                name: nn.Conv2d(channels[stride], SKIP_CHANNELS[stride], 1)
                for stride, name in SKIP_NAMES.items()
            }
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.trunk(pixels)
        x = self.blocks[0](self.laterals[0](features[32]))
        for i, stride in enumerate((16, 8), start=1):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.blocks[i](x + self.laterals[i](features[stride]))
        embedding = {"image_embedding": self.norm(x)}
        for stride, name in SKIP_NAMES.items():
            embedding[name] = self.skips[name](features[stride])
        return embedding


class PromptMaps(nn.Module):
    """Draw point and box prompts on the image embedding's grid.

    A small decoder that has seen few images looks at the right place at once when the
    prompts lie on the grid; from the tokens' position embeddings alone it has to learn
    first what a place is.

    Args:
        embed_dim: channels of the dense prompt embedding.
        hidden: channels between the two pointwise convolutions.
    """

    CHANNELS = 14
    SIGMAS = (0.02, 0.1)  # of the two Gaussians around a point, in sides of the image
    NEAREST = 1e-3  # distances are not told apart below this

    def __init__(self, *, embed_dim: int, hidden: int = 32) -> None:
        super().__init__()
        self.widen = nn.Conv2d(self.CHANNELS, hidden, 1)
        self.project = nn.Conv2d(hidden, embed_dim, 1)

    def forward(self, positions: Tensor, labels: Tensor, grid_size: tuple[int, int]) -> Tensor:
        """Return (B, embed_dim, h, w) for positions (B, N, 2) in 0..1 and labels (B, N)."""
        centres = grid_centres(grid_size, positions)  # (h, w, 2)
        one_more = F.pad(positions, (0, 0, 0, 1))  # an unchosen point, so that there is always one
        maps = torch.cat(
            [
                self._draw_points(one_more, F.pad(labels, (0, 1), value=-1) == 1, centres),
                self._draw_points(one_more, F.pad(labels, (0, 1), value=-1) == 0, centres),
                self._draw_box(positions, labels, centres),
            ],
            dim=1,
        )
        return self.project(F.gelu(self.widen(maps)))

    def _draw_points(self, positions: Tensor, chosen: Tensor, centres: Tensor) -> Tensor:
        """Two Gaussians, the log distance to the nearest point, and whether there is one: (B, 4, h, w)."""
        offset = positions[:, :, None, None] - centres  # (B, N, h, w, 2)
        far = torch.where(chosen, 0.0, OUTSIDE)[:, :, None, None]
        squared = (offset.square().sum(-1) + far).amin(1).clamp(max=OUTSIDE)  # (B, h, w)
        gaussians = [torch.exp(-squared / (2 * sigma**2)) for sigma in self.SIGMAS]
        any_chosen = chosen.to(positions.dtype).amax(1)[:, None, None].expand_as(squared)
        log_distance = 0.5 * torch.log(squared + self.NEAREST**2)
        return torch.stack([*gaussians, 0.3 * log_distance * any_chosen, any_chosen], dim=1)

    def _draw_box(self, positions: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
        """Inside, place inside, distance to the edge, and the box's size: (B, 6, h, w)."""
        dtype = positions.dtype
        top_left = (positions * (labels == 2)[..., None].to(dtype)).sum(1)[:, None, None]
        bottom_right = (positions * (labels == 3)[..., None].to(dtype)).sum(1)[:, None, None]
        has_box = (labels == 2).to(dtype).sum(1)[:, None, None]  # (B, 1, 1)
        size = (bottom_right - top_left).clamp(min=self.NEAREST)  # (B, 1, 1, 2)
        place = (centres - (top_left + bottom_right) / 2) / (size / 2)  # -1..1 inside, (B, h, w, 2)
        edge = 1 - place.abs().amax(-1)  # > 0 inside
        inside = (edge > 0).to(dtype)
        size = size.expand_as(place)
        maps = [
            inside,
            place[..., 0].clamp(-2, 2),
            place[..., 1].clamp(-2, 2),
            edge.clamp(-2, 1),
            size[..., 0],
            size[..., 1],
        ]
        return torch.stack(maps, dim=1) * has_box[:, None]


class SkipUpscaling(nn.Module):
    """Fourfold upscaling that looks at the trunk's finer features.

    Bilinear, because transposed convolutions leave their rhythm in the masks where
    the model is undecided. The channels are narrowed before the map is enlarged,
    which is the same and costs a quarter.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.out_channels = SKIP_CHANNELS[2]
        self.narrow1 = nn.Conv2d(embed_dim, SKIP_CHANNELS[4], 1)
        self.norm = LayerNorm2d(SKIP_CHANNELS[4])
        self.mix = nn.Conv2d(SKIP_CHANNELS[4], SKIP_CHANNELS[4], 3, padding=1, groups=SKIP_CHANNELS[4])
        self.narrow2 = nn.Conv2d(SKIP_CHANNELS[4], self.out_channels, 1)

    def forward(self, image: Tensor, embedding: Mapping[str, Tensor]) -> Tensor:
        x = twice(self.narrow1(image)) + embedding[SKIP_NAMES[4]]
        x = F.gelu(self.mix(self.norm(x)))
        x = twice(self.narrow2(x)) + embedding[SKIP_NAMES[2]]
        return F.relu(x)


def twice(x: Tensor) -> Tensor:
    """Enlarge a map bilinearly to twice its height and width."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
