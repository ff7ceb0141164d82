"""Options of segmenting everything that cannot be meant, rows Q51 to Q54: the same from Python and as options."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mobilesam import EverythingOptions, LimitError, MobileSamError, PromptError, SamAutomaticMaskGenerator
from mobilesam.cli.main import run
from mobilesam.formats.image import image_to_png
from mobilesam.segment.model import Model

SHARE = "must be a number from 0 to 1"
SIDE = "must be a whole number from 1 to 256"
# fmt: off
CASES = [
    ("Q51-nan", "pred_iou_thresh", float("nan"), "S", f"is nan; {SHARE}"),
    ("Q51-inf", "pred_iou_thresh", float("inf"), "S", f"is inf; {SHARE}"),
    ("Q51-negative", "pred_iou_thresh", -1, "S", f"is -1; {SHARE}"),
    ("Q51-above", "stability_score_thresh", 2, "S", f"is 2; {SHARE}"),
    ("Q51-offset", "stability_score_offset", -0.5, "S", "is -0.5; must be a number from 0"),
    ("Q51-offset-inf", "stability_score_offset", float("inf"), "S", "is inf; must be a number from 0"),
    ("Q51-word", "pred_iou_thresh", "high", "S", f"is 'high'; {SHARE}"),
    ("Q51-terminal-codes", "pred_iou_thresh", "\x1b[31m", "S", rf"is .*x1b\[31m'; {SHARE}"),
    ("Q51-seconds", "seconds", 0, "S", "is 0; must be a number above 0"),
    ("Q51-seconds-nan", "seconds", float("nan"), "S", "is nan; must be a number above 0"),
    ("Q52-none", "points_per_side", 0, "S", f"is 0; {SIDE}"),
    ("Q52-negative", "points_per_side", -1, "S", f"is -1; {SIDE}"),
    ("Q52-half", "points_per_side", 1.5, "S", f"is 1.5; {SIDE}"),
    ("Q52-many", "points_per_side", 10_000, "L", "is 10000; at most 256 is allowed"),
    ("Q52-enormous", "points_per_side", 10**5000, "L", r"is 2\^16609 or more; at most 256"),
    ("Q53-area", "min_mask_region_area", -1, "S", "is -1; must be a whole number from 0"),
    ("Q53-nms", "box_nms_thresh", 1.5, "S", f"is 1.5; {SHARE}"),
    ("Q53-crop-nms", "crop_nms_thresh", -0.1, "S", f"is -0.1; {SHARE}"),
    ("Q54-layers", "crop_n_layers", 50, "L", "is 50; at most 6 is allowed"),
    ("Q54-negative", "crop_n_layers", -1, "S", "is -1; must be a whole number from 0 to 6"),
    ("Q54-overlap", "crop_overlap_ratio", 7, "S", f"is 7; {SHARE}"),
    ("Q54-downscale", "crop_n_points_downscale_factor", 0, "S", "is 0; must be a whole number from 1"),
]
# fmt: on


@pytest.mark.parametrize(
    ("name", "value", "code", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_the_same_from_python_and_as_an_option(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    name: str,
    value: object,
    code: str,
    message: str,
) -> None:
    with pytest.raises(PromptError if code == "S" else LimitError) as raised:
        EverythingOptions(**{name: value})
    assert raised.value.code == code
    assert re.match(f"{name}: {message}", str(raised.value)), raised.value
    if isinstance(value, int) and value > 10**4000:
        return  # Python prints no such number, and reads none
    monkeypatch.chdir(tmp_path)
    Path("i.png").write_bytes(image_to_png(np.zeros((48, 64, 3), np.uint8)))
    status = run(["everything", "i.png", f"--{name.replace('_', '-')}={value}"])
    assert status == raised.value.exit_code
    error = capsys.readouterr().err
    assert re.search(rf"^error\[{code}\]: {name}: {message}", error), error
    assert error.strip().isprintable()
    assert not Path("mobilesam-out").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("pred_iou_thresh", "0.5"), ("points_per_side", "32"), ("points_per_side", True), ("seconds", [1])],
    ids=["Q51-text", "Q52-text", "Q52-truth", "Q51-list"],
)
def test_numbers_are_not_guessed_from_other_types(name: str, value: object) -> None:
    with pytest.raises(PromptError, match=rf"{name}: is .*; must be a (whole )?number"):
        EverythingOptions(**{name: value})


def test_Q54_what_together_is_too_much() -> None:
    message = r"ask for 89,456,640 points in 1,365 crops; at most 1,000,000 are allowed"
    with pytest.raises(LimitError, match=message):
        EverythingOptions(sampler="grid", points_per_side=256, crop_n_layers=5)
    assert EverythingOptions(points_per_side=256).points_per_side == 256
    with pytest.raises(LimitError, match="ask for 1,000,001 points"):
        EverythingOptions(sampler="grid", points_per_side=None, point_grids=[np.zeros((1_000_001, 2))])


@pytest.mark.parametrize("number", [np.int64(4), np.float32(0.5)], ids=["whole", "part"])
def test_numpys_numbers_are_numbers(number: np.number) -> None:
    whole = isinstance(number, np.integer)
    assert EverythingOptions(**{"points_per_side" if whole else "pred_iou_thresh": number})


def test_Q53_a_threshold_that_segment_anything_takes(pocket: Model) -> None:
    assert SamAutomaticMaskGenerator(pocket, box_nms_thresh=1.01).options.box_nms_thresh == 1.01
    with pytest.raises(MobileSamError, match="box_nms_thresh: is nan"):
        SamAutomaticMaskGenerator(pocket, box_nms_thresh=float("nan"))
