"""What the ONNX runtime keeps from one image to the next."""

from __future__ import annotations

import subprocess
import sys

from mobilesam.runtimes.onnx import KEPT_RUNS
from tests.server.test_memory import needs_glibc, usual_allocator

SHAPES = f"""
import ctypes
import numpy as np, mobilesam
from tests.server.test_memory import Mallinfo

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Mallinfo
model = mobilesam.load("pocket", threads=1)
for i in range({KEPT_RUNS}):
    model.embed(np.zeros((60 + 2 * i, 90, 3), np.uint8))
    if i >= {KEPT_RUNS} - 2:
        print(mallinfo().hblkhd)
"""


@needs_glibc
def test_what_shapes_left_behind_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHAPES], capture_output=True, text=True, check=True, env=usual_allocator()
    )
    before, after = map(int, done.stdout.split())
    assert after < 0.7 * before
