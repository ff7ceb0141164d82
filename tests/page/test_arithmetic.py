"""The page's arithmetic, in TypeScript, is Python's: each function on the same arrays, run by Node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon
from shapely.validation import explain_validity

from mobilesam.core.frame import Frame
from mobilesam.core.grids import build_point_grid, spread_order
from mobilesam.core.polygons import mask_to_polygons
from mobilesam.core.postprocess import enlarge_masks, stability_scores, visible_part
from mobilesam.core.preprocess import preprocess
from mobilesam.core.prompts import mask_to_logits, prompts_to_decoder_inputs, validate_prompt
from mobilesam.core.regions import remove_small_regions
from mobilesam.core.resize import resize_image
from mobilesam.core.rle import dict_to_rle, mask_to_rle, rle_to_mask
from mobilesam.core.types import Prompt
from mobilesam.core.views import Views
from mobilesam.detectors.base import Boxes, select_boxes
from mobilesam.draw.alpha import clean_colours, soften
from mobilesam.weights.graph_index import graph_index
from tests.photos import cat

HERE = Path(__file__).parent
NODE = shutil.which("node")
SPEC = graph_index("pocket").spec
SIDE = 384  # of pocket's logits
SIZES = [(300, 451), (451, 300), (97, 1024), (900, 660), (768, 768), (40, 60)]

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node, which runs the page's arithmetic")


def run(*cases: dict[str, Any]) -> list[Any]:
    """What the page makes of each case."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, HERE / "arithmetic_cases.mjs"],
        input=json.dumps(cases).encode(),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


def text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def array(value: str, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(value), dtype).reshape(shape)


def photo_of(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = np.asarray(resize_image(cat(), size)).astype(np.int64)
    return np.clip(image + rng.integers(-40, 41, image.shape), 0, 255).astype(np.uint8)


def blobs(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A mask of discs and rings, with holes, islands and corners that touch."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(6):
        y, x, r = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(3, min(size) // 3)
        far = np.hypot(rows - y, columns - x)
        mask ^= (far < r) & (far > r * rng.random() / 2)
    return mask ^ (rng.random(size) < 0.002)


def smooth_logits(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(12, 12)).astype(np.float32) * 5
    return np.kron(coarse, np.ones((32, 32), np.float32)) + rng.normal(size=(SIDE, SIDE)).astype(np.float32)


def test_images_are_resized_to_the_bit() -> None:
    # Both sides grow or shrink, as an image's do; for other pairs Pillow changes the order of its passes.
    scales = [(0.37, 0.4), (1.83, 1.7), (1, 0.5), (1, 1)]
    pairs = [(size, (int(size[0] * y), int(size[1] * x))) for size in SIZES for y, x in scales]
    cases = [{"what": "resize", "image": text(photo_of(size)), "size": size, "to": to} for size, to in pairs]
    for (size, to), found in zip(pairs, run(*cases), strict=True):
        assert np.array_equal(array(found, np.uint8, (*to, 3)), resize_image(photo_of(size), to)), (size, to)


def test_pixels_of_the_input() -> None:
    cases = [
        {"what": "preprocess", "image": text(photo_of(size)), "size": size, "imageSize": 768, "paddedTo": 96}
        for size in SIZES
    ]
    for size, found in zip(SIZES, run(*cases), strict=True):
        wanted = preprocess(photo_of(size), SPEC)
        pixels = array(found["data"], np.float32, (1, 3, found["height"], found["width"]))
        assert pixels.shape == wanted.shape
        assert np.array_equal(pixels, wanted)


def test_masks_are_enlarged_as_in_python() -> None:
    logits = [smooth_logits(i) for i in range(len(SIZES))]
    cases = [
        {"what": what, "logits": text(one), "side": SIDE, "size": size, "square": 768}
        for one, size in zip(logits, SIZES, strict=True)
        for what in ("enlarge", "stability")
    ]
    found = run(*cases)
    for i, (one, size) in enumerate(zip(logits, SIZES, strict=True)):
        frame = Frame.fit(size, 768)
        wanted = enlarge_masks(one[None], frame)[0]
        mask = rle_to_mask(dict_to_rle(found[2 * i]))
        assert (mask != wanted).sum() <= 2, size  # a logit of rounding about 0
        score = stability_scores(visible_part(one[None], frame))[0]
        assert found[2 * i + 1] == pytest.approx(float(score), abs=1e-7)


def test_mask_prompts_become_the_same_logits() -> None:
    masks = [blobs(size) for size in SIZES]
    cases = [
        {
            "what": "maskLogits",
            "mask": mask_to_rle(mask).to_dict(),
            "side": SIDE,
            "size": mask.shape,
            "square": 768,
        }
        for mask in masks
    ]
    for mask, found in zip(masks, run(*cases), strict=True):
        wanted = mask_to_logits(mask, SIDE, Frame.fit(mask.shape, 768))
        assert np.abs(array(found, np.float32, (1, SIDE, SIDE)) - wanted).max() < 1e-4


PROMPTS = [
    Prompt(points=[[30, 20]]),
    Prompt(points=[[30, 20], [31.5, 25.25]], labels=[1, 0]),
    Prompt(box=[5, 6, 30, 35]),
    Prompt(box=[-5, -6, 30, 35]),
    Prompt(box=[5, 6, 300, 200], points=[[20, 20]]),
]


def as_json(prompt: Prompt) -> dict[str, Any]:
    parts = {"points": prompt.points, "labels": prompt.labels, "box": prompt.box}
    return {name: value for name, value in parts.items() if value is not None}


def test_prompts_become_the_same_inputs() -> None:
    frame = Frame.fit((300, 451), 768)
    cases = [
        {"what": "inputs", "prompt": as_json(prompt), "size": (300, 451), "square": 768, "side": SIDE}
        for prompt in PROMPTS
    ]
    for prompt, found in zip(PROMPTS, run(*cases), strict=True):
        wanted = prompts_to_decoder_inputs([validate_prompt(prompt, frame, grid=96)], frame)
        slots = wanted.point_labels.shape[1]
        assert np.array_equal(array(found["labels"], np.float32, (1, slots)), wanted.point_labels)
        assert np.array_equal(array(found["coords"], np.float32, (1, slots, 2)), wanted.point_coords)


def decoder_inputs() -> Iterator[tuple[tuple[int, int], Any]]:
    """Prompts of every kind and size, near and beyond every edge."""
    rng = np.random.default_rng(1)
    for size in ((300, 451), (451, 300), (600, 600)):
        frame = Frame.fit(size, 768)
        for i in range(25):
            corners = np.sort(rng.random((2, 2)) * size[::-1] * rng.choice([0.1, 0.4, 1.0]), axis=0)
            corners += rng.random(2) * (np.array(size[::-1]) - corners[1])
            corners[1] = np.maximum(corners[1], corners[0] + 2)
            points = np.minimum(rng.random((2, 2)) * size[::-1], np.array(size[::-1]) - 1)
            mask = np.zeros(size, bool)
            mask[int(corners[0, 1]) : int(corners[1, 1]) + 1, int(corners[0, 0]) : int(corners[1, 0]) + 1] = (
                True
            )
            prompt = [
                Prompt(box=corners.ravel()),
                Prompt(box=corners.ravel(), points=points, labels=[1, 0]),
                Prompt(mask=mask),
                Prompt(mask=mask, points=points[:1]),
                Prompt(points=points),
            ][i % 5]
            yield size, prompts_to_decoder_inputs([validate_prompt(prompt, frame, grid=96)], frame)


def test_views_are_chosen_as_in_python() -> None:
    shapes = {(300, 451): (576, 768), (451, 300): (768, 576), (600, 600): (768, 768)}
    given = list(decoder_inputs())
    cases = [
        {
            "what": "views",
            "inputs": {
                "prompts": 1,
                "slots": inputs.point_labels.shape[1],
                "coords": text(inputs.point_coords),
                "labels": text(inputs.point_labels),
                "masks": None if inputs.mask_input is None else text(inputs.mask_input),
            },
            "spec": {"imageSize": 768, "viewSize": 512},
            "shape": shapes[size],
        }
        for size, inputs in given
    ]
    wanted = [Views(768, 512).choose(inputs, shapes[size]).tolist() for size, inputs in given]
    assert run(*cases) == wanted
    assert len({tuple(view[0][2:]) for view in wanted}) > 3  # whole ones, and windows of several sizes


def test_boxes_are_selected_as_in_python() -> None:
    rng = np.random.default_rng(2)
    corner = rng.random((400, 2)) * [440, 290] - 20
    boxes = np.concatenate([corner, corner + rng.random((400, 2)) * 160], 1).astype(np.float32)
    scores = rng.random(400).astype(np.float32)
    limits = {"confidence": 0.1, "nms": 0.7, "most": 50}
    case = {"what": "select", "boxes": boxes.tolist(), "scores": scores.tolist(), "size": (300, 451)}
    wanted = select_boxes(
        Boxes(boxes.astype(np.float64), scores), (300, 451), confidence=0.1, nms_thresh=0.7, most=50
    )
    found = np.array(run({**case, "limits": limits})[0])
    assert np.allclose(found[:, :4], wanted.xyxy)
    assert np.allclose(found[:, 4], wanted.scores)


def test_runs_regions_and_grids() -> None:
    masks = [blobs(size, seed) for seed, size in enumerate(SIZES)]
    masks += [np.zeros((5, 7), bool), np.ones((5, 7), bool), np.eye(9, dtype=bool)]
    given = [mask_to_rle(mask).to_dict() for mask in masks]
    found = run(
        *({"what": "rle", "mask": rle} for rle in given),
        *({"what": "small", "mask": rle, "smallest": 30} for rle in given),
        *({"what": "grid", "side": side} for side in (4, 8, 32)),
    )
    assert [(rle["size"], rle["counts"]) for rle in found[: len(masks)]] == [
        (rle["size"], rle["counts"]) for rle in given
    ]
    for mask, small in zip(masks, found[len(masks) : 2 * len(masks)], strict=True):
        wanted = remove_small_regions(mask_to_rle(mask), 30)[0]
        assert np.array_equal(rle_to_mask(dict_to_rle(small)), rle_to_mask(wanted))
    for side, grid in zip((4, 8, 32), found[2 * len(masks) :], strict=True):
        points = build_point_grid(side)
        assert np.allclose(grid, points[spread_order(points)])


@pytest.mark.parametrize("tolerance", [0, 0.5, 1, 3])
def test_outlines_are_valid(tolerance: float) -> None:
    """No ring meets itself or another but at a corner, as Python's; noise has all that can go wrong."""
    rng = np.random.default_rng(3)
    noise = [rng.random((24, 30)) < part for part in (0.3, 0.5, 0.7)]
    y, x = np.mgrid[:80, :90]
    waves = (np.sin(x / 3) + np.sin(y / 2.5 + x / 9)) > 0.1
    masks = [*noise, waves, ring_with_a_touch()]
    cases = [{"what": "regions", "mask": mask_to_rle(m).to_dict(), "tolerance": tolerance} for m in masks]
    for mask, regions in zip(masks, run(*cases), strict=True):
        shape = MultiPolygon([Polygon(region["exterior"], region["holes"]) for region in regions])
        assert shape.is_valid, explain_validity(shape)
        if tolerance == 0:
            assert shape.area == mask.sum()


def ring_with_a_touch() -> np.ndarray:
    """A ring whose hole meets the outside diagonally."""
    mask = np.ones((7, 7), bool)
    mask[2:5, 2:5] = False
    mask[0, 0] = mask[1, 1] = False
    mask[1, 0] = True
    return mask


def test_outlines_cover_the_mask() -> None:
    masks = [blobs(size, seed) for seed, size in enumerate(SIZES[:4])]
    exact = [{"what": "regions", "mask": mask_to_rle(m).to_dict(), "tolerance": 0} for m in masks]
    for mask, regions in zip(masks, run(*exact), strict=True):
        wanted = mask_to_polygons(mask)
        assert len(regions) == len(wanted)
        assert sum(area(region) for region in regions) == mask.sum()
    simple = [{**case, "tolerance": 1} for case in exact]
    for mask, regions in zip(masks, run(*simple), strict=True):
        assert sum(area(region) for region in regions) == pytest.approx(mask.sum(), rel=0.05)


def area(region: dict[str, Any]) -> float:
    from mobilesam.core.polygons import signed_area

    return abs(signed_area(np.array(region["exterior"]))) - sum(
        abs(signed_area(np.array(hole))) for hole in region["holes"]
    )


def test_a_lasso_is_filled() -> None:
    points = [[2, 2], [12, 2], [12, 9], [2, 9]]
    found = rle_to_mask(dict_to_rle(run({"what": "polygon", "points": points, "size": (12, 15)})[0]))
    wanted = np.zeros((12, 15), bool)
    wanted[2:9, 2:12] = True
    assert np.array_equal(found, wanted)


def test_soft_edges_are_near_to_pythons() -> None:
    image = cat()
    rows, columns = np.mgrid[:300, :451]
    mask = np.hypot(rows - 150, columns - 220) < 100
    rgba = np.dstack([image, np.full(mask.shape, 255, np.uint8)])
    case = {"what": "alpha", "image": text(rgba), "size": mask.shape, "mask": mask_to_rle(mask).to_dict()}
    found = array(run(case)[0], np.uint8, (*mask.shape, 4))
    edge = soften(image, mask)
    assert np.abs(found[..., 3].astype(int) - edge.alpha).mean() < 0.5
    assert np.abs(found[..., 3].astype(int) - edge.alpha).max() < 80
    seen = edge.alpha > 128
    wanted = clean_colours(image, edge)[seen].astype(int)
    assert np.abs(found[seen][:, :3].astype(int) - wanted).mean() < 1.0
