"""TinyViT's windows in four dimensions besides the batch, which stays 1: ncnn knows no more.

The network cuts a map into windows that become its batch. Here windows and heads share a dimension instead; every
number is made by the same products and sums.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.networks.tiny_vit import TinyViTBlock, WindowAttention


class FlatWindows(nn.Module):
    """A block of TinyViT on one map (1, H, W, C).

    Args:
        block: whose weights are taken.
    """

    bias: Tensor

    def __init__(self, block: TinyViTBlock) -> None:
        super().__init__()
        self.block = block
        attn, places = block.attn, block.window**2
        bias = attn.attention_biases.detach().index_select(1, attn.offset_index)
        self.register_buffer("bias", bias.reshape(1, 1, attn.heads, places * places))

    def forward(self, x: Tensor) -> Tensor:
        _, h, w, c = x.shape
        s = self.block.window
        right, below = (s - w % s) % s, (s - h % s) % s  # pnnx takes remainders of negative numbers as C does
        missing = (0, right, 0, below)
        padded = F.pad(x.permute(0, 3, 1, 2), missing).permute(0, 2, 3, 1)
        rows, columns = padded.shape[1] // s, padded.shape[2] // s
        windows = padded.reshape(1, rows, s, columns, s * c).permute(0, 1, 3, 2, 4)
        told = self.attend(windows.reshape(1, -1, c), rows * columns, self.block.attn)
        told = told.reshape(1, rows, columns, s, s * c).permute(0, 1, 3, 2, 4)
        x = x + told.reshape(1, rows * s, columns * s, c)[:, :h, :w]
        x = self.block.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(1, h * w, c)
        return (x + self.block.mlp(x)).reshape(1, h, w, c)

    def attend(self, x: Tensor, count: int, attn: WindowAttention) -> Tensor:
        """Attention inside each of ``count`` windows, whose places follow each other (1, count * places, C)."""
        places, heads, c = self.block.window**2, attn.heads, x.shape[-1]
        d = c // heads
        x = attn.qkv(attn.norm(x)).reshape(1, count, places, heads, 3 * d).permute(0, 1, 3, 2, 4)
        q, k, v = x.reshape(1, count * heads, places, 3 * d).chunk(3, dim=-1)
        scores = (q * d**-0.5) @ k.transpose(-2, -1)
        scores = scores.reshape(1, count, heads, places * places) + self.bias
        x = scores.reshape(1, count * heads, places, places).softmax(-1) @ v
        x = x.reshape(1, count, heads, places, d).permute(0, 1, 3, 2, 4)
        return attn.proj(x.reshape(1, count * places, c))


def flatten_windows(network: nn.Module) -> None:
    """Put :class:`FlatWindows` in the place of each block of TinyViT."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, TinyViTBlock):
                setattr(module, name, FlatWindows(child))
