"""Using a model never loads PyTorch: shown in a fresh interpreter, and that the check can fail."""

from __future__ import annotations

import subprocess
import sys

USE = """
import sys
import numpy as np
import mobilesam
assert "numpy" in sys.modules  # this script's own
assert "onnxruntime" not in sys.modules, "importing the package loads a runtime"
from mobilesam.compat.ultralytics import SAM
assert "onnxruntime" not in sys.modules, "importing ultralytics' names loads a runtime"
model = mobilesam.load("pocket")
embedding = model.embed(np.zeros((60, 80, 3), np.uint8))
result = model.segment(embedding, mobilesam.Prompt(points=[40, 30], box=[10, 10, 70, 50]))
result.rle, result.polygons(), result._repr_png_(), result.cutout()
predictor = mobilesam.SamPredictor(model)
predictor.set_image(np.zeros((60, 80, 3), np.uint8))
predictor.predict(box=np.array([10, 10, 70, 50]))
assert "vit_t" in mobilesam.sam_model_registry
sam = SAM("pocket")
(found,) = sam(np.zeros((60, 80, 3), np.uint8), points=[[40, 30], [20, 20]], conf=0)
found.masks.data, found.masks.xy, found.boxes.xywhn, found.to_csv(), found.plot(), sam.info(verbose=False)
from mobilesam.cli.main import run
assert run(["info", "mobile_sam"]) == 0
"""
CHECK = """
heavy = {name.partition(".")[0] for name in sys.modules} & {"torch", "onnx", "scipy", "matplotlib", "skimage", "av", "pandas"}
assert not heavy, f"loaded: {sorted(heavy)}"
"""


def run_fresh(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_light_path_loads_nothing_heavy() -> None:
    done = run_fresh(USE + CHECK)
    assert done.returncode == 0, done.stderr


def test_the_check_can_fail() -> None:
    done = run_fresh(USE + "import torch\n" + CHECK)
    assert done.returncode != 0
    assert "loaded: ['torch'" in done.stderr


def test_missing_torch_gives_the_install_line() -> None:
    code = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import mobilesam
for use in (lambda: mobilesam.load("pocket", runtime="torch"), lambda: mobilesam.sam_model_registry["vit_t"]()):
    try:
        use()
    except mobilesam.MissingExtraError as error:
        print(error)
"""
    done = run_fresh(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pip install 'mobilesam[torch]'") == 2
