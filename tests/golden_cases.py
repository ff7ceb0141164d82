"""The cases of the reference's captured outputs, and how ours are compared with them."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import torch

from mobilesam.compat.segment_anything import SamPredictor
from mobilesam.core.rle import dict_to_rle, rle_to_mask
from tests.conftest import GOLDEN

SIZES = {0: (480, 640), 1: (768, 500), 2: (1200, 1600)}
INPUTS = {"in_point_coords": "point_coords", "in_point_labels": "point_labels", "in_box": "box"}
RUNS = json.loads((GOLDEN / "automatic_masks_seed0.json").read_text())


def check_case(golden: dict, case: dict, masks: np.ndarray, ious: np.ndarray, low_res: np.ndarray) -> None:
    """Compare all that was captured of one case."""
    key = f"image{case['image']}/{case['name']}"
    assert len(masks) == case["masks"]
    assert np.abs(low_res[:, ::4, ::4] - golden[f"{key}/low_res_every4"]).max() <= 1e-3, case["name"]
    assert np.abs(ious - golden[f"{key}/iou"]).max() <= 1e-4, case["name"]
    difference = np.abs(masks.sum((1, 2)) - golden[f"{key}/mask_area"])
    assert difference.max() <= 0.0005 * case["height"] * case["width"], case["name"]
    if f"{key}/mask_bits" in golden:
        bits = np.unpackbits(golden[f"{key}/mask_bits"], count=masks.size)
        wanted = bits.reshape(masks.shape).astype(bool)
        iou = (masks & wanted).sum((1, 2)) / (masks | wanted).sum((1, 2))
        assert iou.min() >= 0.9995, case["name"]


def as_predict(predictor: SamPredictor) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """``predict`` by way of ``predict_torch``, the coordinates moved as segment_anything's users do it."""

    def predict(
        point_coords=None, point_labels=None, box=None, mask_input=None, multimask_output=True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size, transform = predictor.original_size, predictor.transform
        coords = labels = boxes = masks = None
        if point_coords is not None:
            coords = transform.apply_coords_torch(torch.as_tensor(point_coords), size)[None]
            labels = torch.as_tensor(point_labels)[None]
        if box is not None:
            boxes = transform.apply_boxes_torch(torch.as_tensor(box)[None], size)
        if mask_input is not None:
            masks = torch.as_tensor(mask_input)[None]
        out = predictor.predict_torch(coords, labels, boxes, masks, multimask_output)
        assert all(isinstance(tensor, torch.Tensor) and len(tensor) == 1 for tensor in out)
        return tuple(tensor[0].numpy() for tensor in out)

    return predict


def set_torch_image(predictor: SamPredictor, image: np.ndarray) -> None:
    """Resize and embed an image as the original's ``set_image`` does it."""
    resized = torch.as_tensor(predictor.transform.apply_image(image))
    predictor.set_torch_image(resized.permute(2, 0, 1)[None], image.shape[:2])


def prompt_of(golden: dict, case: dict) -> dict:
    key = f"image{case['image']}/{case['name']}"
    return {ours: golden[f"{key}/{theirs}"] for theirs, ours in INPUTS.items() if f"{key}/{theirs}" in golden}


def check_records(found: list[dict], wanted: list[dict]) -> None:
    assert len(found) == len(wanted) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert abs(ours["predicted_iou"] - theirs["predicted_iou"]) <= 1e-3
        assert abs(ours["stability_score"] - theirs["stability_score"]) <= 1e-3
        assert abs(ours["area"] - theirs["area"]) <= 1e-4 * theirs["area"] + 1
        for key in ("bbox", "crop_box", "point_coords"):
            np.testing.assert_allclose(ours[key], theirs[key], err_msg=key)
        if theirs.get("segmentation"):
            a, b = (rle_to_mask(dict_to_rle(one["segmentation"])) for one in (ours, theirs))
            assert (a & b).sum() >= 0.9999 * (a | b).sum()
