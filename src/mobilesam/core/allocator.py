"""What a process that goes on for long keeps of the memory that it has used."""

from __future__ import annotations

import ctypes
import os
import sys

VARIABLE = "MALLOC_MMAP_THRESHOLD_"  # glibc's own: whoever sets it has chosen
MMAP_THRESHOLD = -3  # mallopt's name for it
LARGE = 2**20  # bytes


def return_large_blocks() -> None:
    """Let glibc give blocks of a megabyte and more back to the system as soon as they are free.

    By itself it raises this limit up to 32 MB. Then images, embeddings and masks share a heap with small things, which
    keep it from shrinking. A server under full load grew by 160 MB of free memory in six minutes; a video's 10,000
    frames took 28 MB more at the end than in the middle. Other libraries need no help. It holds for the whole process,
    so only commands call this.
    """
    if not sys.platform.startswith("linux") or VARIABLE in os.environ:
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if set_option is not None:
        set_option(MMAP_THRESHOLD, LARGE)
