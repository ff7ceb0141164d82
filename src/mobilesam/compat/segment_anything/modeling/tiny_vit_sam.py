"""mobile_sam's ``modeling.tiny_vit_sam``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor, nn

from mobilesam.core.errors import ConfigError
from mobilesam.networks import tiny_vit
from mobilesam.networks.tiny_vit import ConvBN

LAST_WIDTHS = (320, 448, 576)  # of the networks whose last down-sampling keeps the grid
LOCAL_CONV = 3


class TinyViT(tiny_vit.TinyViT):
    """MobileSAM's image encoder: pixels (B, in_chans, S, S) -> image embedding (B, 256, S / 16, S / 16).

    ``use_checkpoint`` and ``layer_lr_decay`` change neither the results nor the gradients, and are not needed here.

    Warns:
        UserWarning: for a ``drop_rate`` or ``drop_path_rate``, which have no effect here: training keeps every path.

    Raises:
        ConfigError: for a width or a kernel that is not available.
    """

    def __init__(
        self,
        img_size: int = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dims: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_checkpoint: bool = False,
        mbconv_expand_ratio: float = 4.0,
        local_conv_size: int = 3,
        layer_lr_decay: float = 1.0,
    ) -> None:
        if embed_dims[-1] not in LAST_WIDTHS:
            raise ConfigError(
                f"embed_dims: ends with {embed_dims[-1]}; must end with 320, 448 or 576, with which "
                "an image of 1024 pixels has the grid of 64 that SAM's decoder reads"
            )
        if local_conv_size != LOCAL_CONV:
            raise ConfigError(f"local_conv_size: is {local_conv_size}; must be {LOCAL_CONV}")
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if rate:
                warnings.warn(
                    f"{name}: is {rate:g} and has no effect; training keeps every path", stacklevel=2
                )
        super().__init__(
            embed_dims=embed_dims,
            depths=depths,
            num_heads=num_heads,
            window_sizes=window_sizes,
            mlp_ratio=mlp_ratio,
            mbconv_expand_ratio=mbconv_expand_ratio,
        )
        self.img_size = img_size
        self.num_classes = num_classes
        self.depths = depths
        self.num_layers = len(depths)
        self.mlp_ratio = mlp_ratio
        if in_chans != 3:
            self.patch_embed.seq[0] = ConvBN(in_chans, embed_dims[0] // 2, 3, stride=2)
        if num_classes != tiny_vit.CLASSES:
            self.head = nn.Linear(embed_dims[-1], num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the image embedding of normalised pixels, whose sides are divisible by 16."""
        return super().forward(x)
