"""What a process keeps for its next work: a server that runs for weeks gives memory back."""

from __future__ import annotations

from mobilesam.core.allocator import return_large_blocks
from mobilesam.runtimes.onnx import share_memory


def keep_little() -> None:
    """Let the C library and ONNX Runtime keep little; to be called before a network is first run."""
    return_large_blocks()
    share_memory()
