"""What the ONNX runtime keeps from one image to the next."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mobilesam.runtimes.onnx import KEPT_RUNS
from mobilesam.runtimes.prepared import VARIABLE
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
@pytest.mark.long
def test_what_shapes_left_behind_is_given_back() -> None:
    """A network's own graphs, whose prepared weights lie in the arena too, so that it doubles from there."""
    environment = usual_allocator() | {VARIABLE: "0"}
    done = subprocess.run(
        [sys.executable, "-c", SHAPES], capture_output=True, text=True, check=True, env=environment
    )
    before, after = map(int, done.stdout.split())
    assert after < 0.7 * before


ONE_ARENA = """
import numpy as np, mobilesam
from mobilesam.runtimes.onnx import share_memory
from tests.photos import cat

prompt = mobilesam.Prompt(box=[5, 0, 370, 295])
own = mobilesam.load("pocket", threads=1)
wanted = own.segment(own.embed(cat()), prompt)
share_memory()
share_memory()
shared = mobilesam.load("pocket", threads=1)
assert all(array.flags.owndata for array in shared.embed(cat()).arrays.values()), "kept in the arena"
for model in (shared, own):
    assert np.array_equal(model.segment(model.embed(cat()), prompt).low_res_masks, wanted.low_res_masks)
for model, arena in ((own, False), (shared, True)):
    for session in model.runtime._sessions.values():
        try:
            entry = session.get_session_options().get_session_config_entry("session.use_env_allocators")
        except RuntimeError:  # it has none
            entry = "0"
        assert entry == str(int(arena)), entry
"""


def test_sessions_of_a_server_share_an_arena_and_give_the_same_masks() -> None:
    subprocess.run([sys.executable, "-c", ONE_ARENA], check=True)
