"""Using a model never loads PyTorch: shown in a fresh interpreter, and that the check can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobilesam.core.extras import install_line
from tests.owl_networks import TinyOwl

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
options = mobilesam.EverythingOptions(max_prompts=8, pred_iou_thresh=0, stability_score_thresh=0)
model.everything(np.zeros((60, 80, 3), np.uint8), options, detector="detector_nano")
model.subject(embedding)
result.rle, result.polygons(), result._repr_png_(), result.cutout()
predictor = mobilesam.SamPredictor(model)
predictor.set_image(np.zeros((60, 80, 3), np.uint8))
predictor.predict(box=np.array([10, 10, 70, 50]))
assert "vit_t" in mobilesam.sam_model_registry
sam = SAM("pocket")
(found,) = sam(np.zeros((60, 80, 3), np.uint8), points=[[40, 30], [20, 20]], conf=0)
found.masks.data, found.masks.xy, found.boxes.xywhn, found.to_csv(), found.plot(), sam.info(verbose=False)
class Whole:
    def find(self, embedding, texts=()):
        return mobilesam.Boxes(np.array([[0, 0, 80, 60]]), np.array([0.9]), np.array([0]))
assert model.segment_text(embedding, "a wall", text_model=Whole())[0].overlay().shape == (60, 80, 3)
from mobilesam.cli.main import run
assert run(["info", "mobile_sam"]) == 0
assert run(["info", "detector_nano"]) == 0
"""
CHECK = """
heavy = {name.partition(".")[0] for name in sys.modules}
heavy &= {"torch", "onnx", "scipy", "matplotlib", "skimage", "av", "pandas", "transformers", "jaxtyping"}
assert not heavy, f"loaded: {sorted(heavy)}"
"""


def run_fresh(code: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_light_path_loads_nothing_heavy() -> None:
    done = run_fresh(USE + CHECK)
    assert done.returncode == 0, done.stderr


def test_the_check_can_fail() -> None:
    done = run_fresh(USE + "import torch\n" + CHECK)
    assert done.returncode != 0
    assert "loaded: ['torch'" in done.stderr


TEXT = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
folder, out = sys.argv[1:]
Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(Path(out) / "i.png")
from mobilesam.cli.main import run
asked = ["--text", "a dog", "--text-model", folder, "--text-threshold", "0", "--save", "mask,cutout,overlay,coco"]
assert run(["segment", str(Path(out) / "i.png"), *asked, "--out", out]) == 0
assert (Path(out) / "i_overlay.png").exists()
"""


def test_text_loads_nothing_heavy(owls: dict[str, TinyOwl], tmp_path: Path) -> None:
    done = run_fresh(TEXT + CHECK, str(owls["owlv2"].folder), str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "a dog 0." in done.stdout


def test_missing_tokenizers_give_the_install_line(owls: dict[str, TinyOwl], tmp_path: Path) -> None:
    hidden = TEXT.replace("import sys\n", "import sys\nsys.modules['tokenizers'] = None\n", 1)
    done = run_fresh(hidden, str(owls["owlv2"].folder), str(tmp_path))
    line = install_line("text")
    assert f"error[U]: text prompts: needs packages that are not installed; {line}\n" in done.stderr


SEGMENT_ANYTHING = """
import sys
import numpy as np
import mobilesam
from mobilesam.compat.segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from mobilesam.compat.segment_anything import modeling, predictor, automatic_mask_generator
from mobilesam.compat.segment_anything.build_sam import build_sam_vit_t
from mobilesam.compat.segment_anything.utils.amg import *
from mobilesam.compat.segment_anything.utils.transforms import ResizeLongestSide
import mobilesam.compat.mobile_sam.utils.amg
from mobilesam.compat.mobile_sam import SamPredictor as same
assert same is SamPredictor is mobilesam.SamPredictor
model = mobilesam.load("pocket")
image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
predictor = SamPredictor(model)
predictor.set_image(image)
masks, _, _ = predictor.predict(point_coords=np.array([[40, 30]]), point_labels=np.array([1]))
assert predictor.features.shape == predictor.get_image_embedding().shape
generator = SamAutomaticMaskGenerator(model, points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0, min_mask_region_area=5)
assert generator.generate(image)
transform = ResizeLongestSide(512)
transform.apply_image(image), transform.apply_coords([[1, 2]], (60, 80)), transform.apply_boxes([1, 2, 3, 4], (60, 80))
rles = mask_to_rle_pytorch(masks)
data = MaskData(rles=rles, boxes=batched_mask_to_box(masks))
SamAutomaticMaskGenerator.postprocess_small_regions(data, 5, 0.7)
data.cat(data)
data.to_numpy()
[rle_to_mask(coco_encode_rle(rle)) for rle in rles], calculate_stability_score(masks * 4.0 - 2, 0.0, 1.0)
uncrop_boxes_xyxy(data["boxes"], [1, 1, 9, 9]), uncrop_points(np.zeros((3, 2)), [1, 1, 9, 9])
remove_small_regions(masks[0], 5, "holes"), uncrop_masks(masks, [1, 1, 81, 61], 70, 90)
"""


def test_segment_anythings_names_load_nothing_heavy() -> None:
    done = run_fresh(SEGMENT_ANYTHING + CHECK)
    assert done.returncode == 0, done.stderr


def test_missing_torch_gives_the_install_line() -> None:
    code = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import numpy as np
import mobilesam
from mobilesam.compat.segment_anything import modeling, utils
predictor = mobilesam.SamPredictor(mobilesam.load("pocket"))
predictor.set_image(np.zeros((60, 80, 3), np.uint8))
for use in (
    lambda: mobilesam.load("pocket", runtime="torch"),
    lambda: mobilesam.sam_model_registry["vit_t"](),
    lambda: modeling.Sam,
    lambda: modeling.prompt_encoder,
    lambda: utils.onnx,
    lambda: predictor.predict_torch(None, None, np.array([[10, 10, 70, 50]])),
    lambda: predictor.set_torch_image(None, (60, 80)),
):
    try:
        use()
    except mobilesam.MissingExtraError as error:
        print(error)
"""
    done = run_fresh(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(install_line("torch")) == 7


COMMAND = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
out = sys.argv[1]
Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(Path(out) / "i.png")
from mobilesam.cli.main import run
assert run(["segment", str(Path(out) / "i.png"), "--box", "10,10,70,50", "--out", out]) == 0
"""
COUNT = """
own = [name for name in sys.modules if name.partition(".")[0] == "mobilesam"]
assert len(own) <= 112, f"loaded {len(own)} modules: {sorted(own)}"
rooms = ("segment.track", "segment.session", "segment.subject", "segment.cutout", "server", "train", "evaluate")
needless = [name for name in own if name.removeprefix("mobilesam.").startswith(rooms)]
needless += [name for name in ("numpy.ma", "secrets") if name in sys.modules]
assert not needless, f"loaded: {sorted(needless)}"
"""


def test_a_mask_by_a_prompt_loads_few_modules(tmp_path: Path) -> None:
    """The import of modules is most of what a command takes before its first photo."""
    done = run_fresh(COMMAND + COUNT, str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_the_help_loads_no_command() -> None:
    done = run_fresh("""
import sys
from mobilesam.cli.main import run
assert run(["--help"]) == 0
assert "numpy" not in sys.modules
""")
    assert done.returncode == 0, done.stderr
    assert "everything  Segment everything in photos." in done.stdout


@pytest.mark.parametrize(
    ("more", "told"),
    [("import mobilesam.segment.session\n", "loaded"), ("import secrets\n", "loaded: ['secrets']")],
)
def test_the_count_can_fail(more: str, told: str, tmp_path: Path) -> None:
    done = run_fresh(COMMAND + more + COUNT, str(tmp_path))
    assert done.returncode != 0
    assert told in done.stderr
