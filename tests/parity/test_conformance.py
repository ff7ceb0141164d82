"""Every way in gives the same masks: the library, its batches, segment_anything's and ultralytics' names, the command line.

One table of prompts, one table of entry points. The library on ONNX Runtime is what the others are compared with.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilesam import EverythingOptions, Model, Prompt, SamAutomaticMaskGenerator, SamPredictor
from mobilesam.cli.main import run
from mobilesam.compat.segment_anything import sam_model_registry
from mobilesam.compat.segment_anything.modeling import Sam
from mobilesam.compat.ultralytics import SAM
from mobilesam.core.prompts import names_with
from mobilesam.core.rle import dict_to_rle, rle_to_mask
from tests.photos import cat
from tests.series import one_in

FACE = [90, 20, 330, 290]
EYE = [180, 140]
GROUND = [20, 280]


@dataclass(frozen=True)
class Case:
    """One object's prompt, and how many masks are asked for."""

    points: list | None = None
    labels: list | None = None
    box: list | None = None
    mask: bool = False
    multimask: bool = False

    def prompt(self, mask: np.ndarray) -> Prompt:
        """The library's form."""
        return Prompt(self.points, self.labels, self.box, mask if self.mask else None)


CASES = {
    "one point, three masks": Case(points=[EYE], multimask=True),
    "one point, one mask": Case(points=[EYE]),
    "a point and one beside": Case(points=[EYE, GROUND], labels=[1, 0]),
    "three points": Case(points=[EYE, [250, 150], GROUND], labels=[1, 1, 0]),
    "a box": Case(box=FACE),
    "a box, three masks": Case(box=FACE, multimask=True),
    "a box and a point": Case(points=[EYE], labels=[1], box=FACE),
    "a mask": Case(mask=True),
    "a mask and a point": Case(points=[EYE], mask=True),
}


@dataclass(frozen=True)
class World:
    """What the entry points work with: one image, one set of weights, both runtimes."""

    pocket: Model
    network: Sam
    sam: SAM
    image: np.ndarray
    mask: np.ndarray
    folder: Path


@pytest.fixture(scope="module")
def world(pocket: Model, tmp_path_factory: pytest.TempPathFactory) -> World:
    image = cat()
    folder = tmp_path_factory.mktemp("conformance")
    Image.fromarray(image).save(folder / "cat.png")
    mask = np.zeros(image.shape[:2], bool)
    mask[60:220, 130:300] = True
    Image.fromarray(mask).save(folder / "mask.png")
    return World(pocket, sam_model_registry["pocket"](), SAM("pocket"), image, mask, folder)


def by_library(world: World, case: Case) -> np.ndarray:
    embedding = world.pocket.embed(world.image)
    return world.pocket.segment(embedding, case.prompt(world.mask), multimask=case.multimask).masks


def by_batches(world: World, case: Case) -> np.ndarray:
    """Among other images and prompts."""
    embeddings = world.pocket.embed_batch([world.image[::2, ::3], world.image])
    prompts = [[Prompt(box=[1, 1, 50, 50])], [Prompt(points=[5, 5]), case.prompt(world.mask)]]
    return world.pocket.segment_batch(embeddings, prompts, multimask=case.multimask)[1][1].masks


def arrays_of(world: World, case: Case) -> dict[str, Any]:
    """A case in segment_anything's words."""
    mask_input = None
    if case.mask:
        embedding = world.pocket.embed(world.image)
        mask_input = world.pocket.predictor.validate(embedding, [case.prompt(world.mask)], [names_with("")])[
            0
        ].mask_input
    points = None if case.points is None else np.array(case.points, float)
    labels = None if points is None else np.array(case.labels or [1] * len(points))
    box = None if case.box is None else np.array(case.box, float)
    return {"point_coords": points, "point_labels": labels, "box": box, "mask_input": mask_input}


def by_predictor(world: World, case: Case) -> np.ndarray:
    predictor = SamPredictor(world.pocket)
    predictor.set_image(world.image)
    return predictor.predict(**arrays_of(world, case), multimask_output=case.multimask)[0]


def by_predictor_on_torch(world: World, case: Case) -> np.ndarray:
    predictor = SamPredictor(world.network)
    predictor.set_image(world.image[..., ::-1].copy(), image_format="BGR")
    return predictor.predict(**arrays_of(world, case), multimask_output=case.multimask)[0]


def tensors_of(world: World, case: Case, predictor: SamPredictor) -> dict[str, Any]:
    """A case in the words of segment_anything's tensors, in the model's own frame."""
    import torch

    given = arrays_of(world, case)
    size = world.image.shape[:2]
    transform = predictor.transform
    points, labels, boxes, mask = (None,) * 4
    if given["point_coords"] is not None:
        points = torch.from_numpy(transform.apply_coords(given["point_coords"], size))[None].float()
        labels = torch.from_numpy(given["point_labels"])[None].float()
    if given["box"] is not None:
        boxes = torch.from_numpy(transform.apply_boxes(given["box"][None], size)).float()
    if given["mask_input"] is not None:
        mask = torch.from_numpy(given["mask_input"])[None]
    return {"point_coords": points, "point_labels": labels, "boxes": boxes, "mask": mask}


def by_predict_torch(world: World, case: Case) -> np.ndarray:
    predictor = SamPredictor(world.network)
    predictor.set_image(world.image)
    given = tensors_of(world, case, predictor)
    mask = given.pop("mask")
    return predictor.predict_torch(**given, mask_input=mask, multimask_output=case.multimask)[0][0].numpy()


def by_forward(world: World, case: Case) -> np.ndarray:
    import torch

    predictor = SamPredictor(world.network)
    resized = predictor.transform.apply_image(world.image)
    given = tensors_of(world, case, predictor)
    record = {
        "image": torch.from_numpy(np.array(resized)).permute(2, 0, 1),
        "original_size": world.image.shape[:2],
        **{key: given[key] for key in ("point_coords", "point_labels", "boxes") if given[key] is not None},
    }
    if given["mask"] is not None:
        record["mask_inputs"] = given["mask"]
    return world.network([record], multimask_output=case.multimask)[0]["masks"][0].numpy()


def by_ultralytics(world: World, case: Case) -> np.ndarray:
    given: dict[str, Any] = {"multimask_output": case.multimask, "conf": 0.0}
    if case.points is not None:
        given |= {"points": [case.points], "labels": [case.labels or [1] * len(case.points)]}
    if case.box is not None:
        given["bboxes"] = case.box
    if case.mask:
        given["masks"] = world.mask
    (result,) = world.sam(np.ascontiguousarray(world.image[..., ::-1]), **given)
    order = np.argsort(result.boxes.cls, kind="stable")
    return np.asarray(result.masks.data)[order]


def by_command_line(world: World, case: Case) -> np.ndarray:
    command = ["segment", str(world.folder / "cat.png"), "--json", "--save", ""]
    for point, label in zip(case.points or [], case.labels or [1] * len(case.points or []), strict=True):
        command += ["--point", f"{point[0]},{point[1]},{label}"]
    if case.box is not None:
        command += ["--box", ",".join(map(str, case.box))]
    if case.mask:
        command += ["--mask", str(world.folder / "mask.png")]
    return command_masks(command)


def command_masks(command: list[str]) -> np.ndarray:
    """Run a command that prints JSON and return the masks of the image's first object."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert run(command) == 0
    (image,) = json.loads(printed.getvalue())["images"]
    masks = image["objects"][0]["masks"] if "objects" in image else image["masks"]
    return np.stack([rle_to_mask(dict_to_rle(mask["segmentation"])) for mask in masks])


ENTRY_POINTS: dict[str, Callable[[World, Case], np.ndarray]] = {
    "segment_batch": by_batches,
    "SamPredictor.predict": by_predictor,
    "SamPredictor.predict, PyTorch, BGR": by_predictor_on_torch,
    "SamPredictor.predict_torch": by_predict_torch,
    "Sam.forward": by_forward,
    "ultralytics' SAM": by_ultralytics,
    "mobilesam segment": by_command_line,
}
DIFFERING_PIXELS = 2e-4  # between runtimes, along an edge


# The command line chooses by itself how many masks a prompt gives: three for a single point.
OTHERS_CHOICE = {("one point, one mask", "mobilesam segment"), ("a box, three masks", "mobilesam segment")}
PAIRS = [pair for pair in product(CASES, ENTRY_POINTS) if pair not in OTHERS_CHOICE]


@pytest.mark.parametrize(("case", "entry_point"), one_in(3, PAIRS))
def test_every_way_in_gives_the_same_masks(world: World, case: str, entry_point: str) -> None:
    chosen = CASES[case]
    wanted = by_library(world, chosen)
    found = ENTRY_POINTS[entry_point](world, chosen)
    assert found.shape == wanted.shape
    assert wanted.any()
    assert (np.asarray(found, bool) != wanted).mean() <= DIFFERING_PIXELS


def test_every_way_in_finds_the_same_in_everything(world: World) -> None:
    """Without prompts, by the grid, with the same thresholds everywhere."""
    grid = {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.1}
    options = EverythingOptions(sampler="grid", points_per_side=6, **grid)
    wanted = [mask.mask for mask in world.pocket.everything(world.image, options)]
    records = SamAutomaticMaskGenerator(world.pocket, points_per_side=6, **grid).generate(world.image)
    (result,) = world.sam(
        np.ascontiguousarray(world.image[..., ::-1]),
        points_stride=6,
        conf=0.0,
        conf_thres=0.2,
        stability_score_thresh=0.1,
    )
    command = ["everything", str(world.folder / "cat.png"), "--json", "--save", "", "--sampler", "grid"]
    command += ["--points-per-side", "6", "--pred-iou-thresh", "0.2", "--stability-score-thresh", "0.1"]
    assert len(wanted) > 3
    for found in (
        [record["segmentation"] for record in records],
        list(np.asarray(result.masks.data, bool)),
        list(command_masks(command)),
    ):
        assert len(found) == len(wanted)
        assert all((one == other).all() for one, other in zip(found, wanted, strict=True))
