"""``pocket_nano``: an image encoder for ``pocket``'s decoder that takes a third of the work, meant for distillation.

One narrow trunk of inverted residuals up to stride 16, and a few residual blocks over its coarsest map in place of
the second trunk and the neck. It returns the arrays that the decoder reads, and none for finding objects.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.core.spec import MB, NetworkSpec, WorkingSet
from mobilesam.networks.config import NetworkConfig
from mobilesam.networks.layer_norm import LayerNorm2d
from mobilesam.networks.pocket import EMBEDDING, ConvNorm, InvertedResidual, NeckBlock, PocketEncoder, twice

# Expansion, channels, blocks and stride of the first block of each stage. The first two are the narrowest: on their
# large maps each channel costs most.
STAGES = ((1, 8, 1, 1), (3, 16, 2, 2), (4, 32, 3, 2), (4, 64, 4, 2), (4, 96, 2, 1))
STEM = 8  # channels
WIDTH = 96  # channels of the blocks at stride 16
DEPTH = 3  # number of these blocks


class NanoTrunk(nn.Module):
    """Pixels (B, 3, S, S) -> features of strides 2, 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, 2, 1, relu=True)
        self.stages = nn.ModuleList()
        channels = STEM
        for expansion, width, blocks, stride in STAGES:
            inputs = [channels, *[width] * (blocks - 1)]
            strides = [stride, *[1] * (blocks - 1)]
            self.stages.append(
                nn.Sequential(
                    *(InvertedResidual(c, width, s, expansion) for c, s in zip(inputs, strides, strict=True))
                )
            )
            channels = width

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        x = self.stem(pixels)
        features, stride = {}, 2
        for stage, (_, _, _, step) in zip(self.stages, STAGES, strict=True):
            x = stage(x)
            stride *= step
            features[stride] = x
        return features


class NanoEncoder(nn.Module):
    """Image encoder of ``pocket_nano``: pixels (B, 3, h, w) -> the arrays of ``pocket``'s ``EMBEDDING``.

    Height and width must be divisible by 16.
    """

    stride = PocketEncoder.stride

    def __init__(self) -> None:
        super().__init__()
        channels = {2: STAGES[0][1], 4: STAGES[1][1], 8: STAGES[2][1], 16: STAGES[4][1]}
        coarse, fine, skip4, skip2 = EMBEDDING.values()
        self.trunk = NanoTrunk()
        self.lateral = nn.Conv2d(channels[16], WIDTH, 1)
        self.context = nn.Sequential(*(NeckBlock(WIDTH) for _ in range(DEPTH)))
        self.coarse = nn.Conv2d(WIDTH, coarse, 1)
        self.coarse_norm = LayerNorm2d(coarse)
        self.narrow = nn.Conv2d(WIDTH, fine, 1)
        self.fine = nn.Conv2d(channels[8], fine, 1)
        self.smooth = NeckBlock(fine)
        self.fine_norm = LayerNorm2d(fine)
        self.skip4 = nn.Conv2d(channels[4], skip4, 1)
        self.skip2 = nn.Conv2d(channels[2], skip2, 3, padding=1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.trunk(pixels)
        x = self.context(self.lateral(features[16]))
        return {
            "coarse_embedding": self.coarse_norm(self.coarse(x)),
            "image_embedding": self.fine_norm(self.smooth(twice(self.narrow(x)) + self.fine(features[8]))),
            "skip_stride4": self.skip4(features[4]),
            "skip_stride2": F.relu(self.skip2(features[2])),
        }


NETWORKS = (
    NetworkConfig(
        NetworkSpec(
            "pocket_nano",
            "pocket's nano student",
            image_size=768,
            padded_to=96,
            view_size=512,
            decoder="pocket",
            stride=NanoEncoder.stride,
            working_set=WorkingSet(260 * MB, prompt=15 * MB, slot=100_000),
        ),
        NanoEncoder,
    ),
)
