"""SAM's two large encoders: both runtimes on the same seeded weights, one image each."""

from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path

import numpy as np
import pytest

from mobilesam.core.preprocess import preprocess
from mobilesam.core.types import MULTIMASK, DecoderInputs
from mobilesam.runtimes.base import Runtime
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.torch import TorchRuntime
from tests.conftest import GOLDEN
from tests.seeded import seeded_image, seeded_weights

RUNTIMES = {"onnx": OnnxRuntime, "torch": TorchRuntime.from_weights}
POINT_AND_BOX = DecoderInputs(
    np.array([[[500, 300], [0, 0]], [[200, 150], [700, 600]]], np.float32),
    np.array([[1, -1], [2, 3]], np.float32),
)


def save_answers(network: str, name: str, file: Path) -> None:
    """Write everything that a network makes of an image of 1024 pixels, a point and a box."""
    shapes = json.loads((GOLDEN / f"{network}_state_dict.json").read_text())
    runtime: Runtime = RUNTIMES[name](network, seeded_weights(shapes))
    arrays = runtime.encode(preprocess(seeded_image(768, 1024), runtime.spec))
    masks, ious = runtime.decode(arrays, POINT_AND_BOX, MULTIMASK)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"image_embedding": arrays["image_embedding"], "low_res_masks": masks, "predicted_iou": ious}
    np.savez(file, **found, megabytes=peak / 1024)


@pytest.mark.long
@pytest.mark.parametrize("network", ["vit_l", "vit_h"])
def test_the_runtimes_agree(network: str, tmp_path: Path) -> None:
    found = {}
    for name in RUNTIMES:  # each in a process that gives its gigabytes back
        file = tmp_path / f"{name}.npz"
        process = multiprocessing.get_context("spawn").Process(
            target=save_answers, args=(network, name, file)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
        with np.load(file) as arrays:
            found[name] = dict(arrays)
        print(f"{network} {name}: {found[name]['megabytes']:.0f} MiB at most")
    allowed = {"image_embedding": 1e-4, "low_res_masks": 1e-3, "predicted_iou": 1e-4}
    for name, most in allowed.items():
        one, other = found["onnx"][name], found["torch"][name]
        difference = float(np.abs(one - other).max())
        print(f"{network} {name}: {difference:.2g} of a deviation of {other.std():.2g}")
        assert np.isfinite(one).all()
        assert difference <= most, name
