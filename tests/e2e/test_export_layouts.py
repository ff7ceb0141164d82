"""Files for other programs, run as those programs run them: by their arithmetic, written anew here.

What they do stands in samexporter's and X-AnyLabeling's ``SegmentAnythingONNX`` and in segment-anything's notebook on
ONNX: which size an image gets, in which pixels is asked, what is fed, and what becomes of the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image as PillowImage
from safetensors.numpy import save

from mobilesam import Prompt
from mobilesam.cli.main import run
from mobilesam.core.frame import Frame
from mobilesam.core.metrics import mask_iou
from mobilesam.core.postprocess import enlarge_logits
from mobilesam.core.types import DecoderInputs, Embedding
from mobilesam.export.programs import LAYOUTS
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.segment.model import Model
from mobilesam.weights.graph_index import graph_index
from tests.photos import cat, jpeg
from tests.seeded import seeded_weights

LANDSCAPE = cat()  # 300 x 451
PORTRAIT = np.ascontiguousarray(cat().transpose(1, 0, 2))
POINT, BOX = [[260, 170]], [[80, 20], [380, 290]]
PROGRAMS = list(LAYOUTS)
ANY_LABELING = (684, 1024)  # the size into which X-AnyLabeling fits every image
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "onnx-programs.md"


@dataclass(frozen=True)
class Exported:
    """A model's files for a program, and the model itself."""

    folder: Path
    name: str
    model: Model
    encoded: dict[
        bytes, tuple[np.ndarray, Embedding]
    ]  # what was encoded; the encoder is one for all programs

    @cached_property
    def decoder(self) -> ort.InferenceSession:
        return ort.InferenceSession(self.folder / f"{self.name}.decoder.onnx")

    def encode(self, seen: np.ndarray) -> np.ndarray:
        """Run the encoder's file on an image, as float32 in 0..255; and the model on the same."""
        key = seen.tobytes()
        if key not in self.encoded:
            session = ort.InferenceSession(self.folder / f"{self.name}.encoder.onnx")
            (value,) = session.get_inputs()
            (embedding,) = session.run(None, {value.name: seen.astype(np.float32)})
            self.encoded[key] = embedding, self.model.predictor.embed(seen)
        return self.encoded[key][0]


def export(
    program: str, name: str, weights: Weights | None, model: Model, folder: Path, encoded: dict
) -> Exported:
    line = ["export", "onnx", "--for", program, "--model", name, "--out", str(folder)]
    if weights is not None:
        (folder / "seeded.safetensors").write_bytes(save(weights))
        line += ["--checkpoint", str(folder / "seeded.safetensors")]
    assert run(line) == 0
    return Exported(folder, name, model, encoded)


@pytest.fixture(
    scope="module",
    params=["pocket", *(pytest.param(name, marks=pytest.mark.long) for name in ("mobile_sam", "sam_vit_b"))],
)
def model_and_weights(request: pytest.FixtureRequest) -> tuple[str, Weights | None, Model]:
    """The name of a model, weights of its network where it is not the shipped one, and the model."""
    if request.param == "pocket":
        return "pocket", None, request.getfixturevalue("pocket")
    if request.param == "mobile_sam":
        return "mobile_sam", request.getfixturevalue("vit_t_weights"), request.getfixturevalue("onnx_vit_t")
    weights = seeded_weights(graph_index("vit_b").tensors)
    return "sam_vit_b", weights, Model(OnnxRuntime("vit_b", weights), name="seeded vit_b")


@pytest.fixture(scope="module")
def files(model_and_weights: tuple, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The files for each program."""
    name, weights, model = model_and_weights
    encoded: dict = {}
    return {
        program: export(program, name, weights, model, tmp_path_factory.mktemp(program), encoded)
        for program in PROGRAMS
    }


# ---------------------------------------------------------------- what the programs do


def resized_longest(image: np.ndarray, side: int = 1024) -> np.ndarray:
    """SAM's ``ResizeLongestSide`` on an image, which samexporter does too."""
    height, width = Frame.fit(image.shape[:2], side).input_size
    return np.asarray(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.BILINEAR))


def feed(embedding: np.ndarray, coords: np.ndarray, labels: list[int], size: tuple[int, int]) -> dict:
    """Append the pad that every one of them appends, and say that there is no mask prompt."""
    return {
        "image_embeddings": embedding,
        "point_coords": np.concatenate([coords, np.zeros((1, 2))])[None].astype(np.float32),
        "point_labels": np.array([[*labels, -1]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(size, np.float32),
    }


def as_samexporter(files: Exported, image: np.ndarray, coords: list, labels: list[int]) -> np.ndarray:
    """Mask logits (M, H, W): from the low-resolution ones, enlarged with OpenCV."""
    seen = resized_longest(image)
    embedding = files.encode(seen)
    asked = Frame.fit(image.shape[:2], 1024).to_input(np.array(coords))
    names = [output.name for output in files.decoder.get_outputs()]
    outputs = files.decoder.run(None, feed(embedding, asked, labels, image.shape[:2]))
    low_res = outputs[names.index("low_res_masks")][0]
    return enlarged_by_opencv(low_res, seen.shape[:2], image.shape[:2])


def enlarged_by_opencv(low_res: np.ndarray, seen: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """Enlarge logits (M, h, w) to 1024, cut what the encoder saw of an image, and resize that to the image's size."""
    squares = [cv2.resize(one, (1024, 1024), interpolation=cv2.INTER_LINEAR) for one in low_res]
    shown = [square[: seen[0], : seen[1]] for square in squares]
    return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR) for one in shown])


def as_x_anylabeling(files: Exported, image: np.ndarray, coords: list, labels: list[int]) -> tuple:
    """Return the mask logits (H, W) that it draws, and the image that its encoder saw."""
    scale = min(ANY_LABELING[1] / image.shape[1], ANY_LABELING[0] / image.shape[0])
    matrix = np.array([[scale, 0, 0], [0, scale, 0]])
    seen = cv2.warpAffine(image, matrix, ANY_LABELING[::-1], flags=cv2.INTER_LINEAR)
    embedding = files.encode(seen)
    outputs = files.decoder.run(None, feed(embedding, np.array(coords) * scale, labels, ANY_LABELING))
    masks, _, _ = outputs
    back = np.array([[1 / scale, 0, 0], [0, 1 / scale, 0]])
    return cv2.warpAffine(masks[0, 0], back, image.shape[1::-1], flags=cv2.INTER_LINEAR), seen


def own(
    files: Exported, seen: np.ndarray, coords: np.ndarray, labels: list[int], mask: np.ndarray | None = None
):
    """Our model's low-resolution logits (4, h, w) and scores (4,) of what a program saw and asked."""
    files.encode(seen)
    embedding = files.encoded[seen.tobytes()][1]
    side = embedding.frame.side
    points, labels = coords * side / 1024, list(labels)
    if 2 not in labels:
        points, labels = np.concatenate([points, np.zeros((1, 2))]), [*labels, -1]
    inputs = DecoderInputs(points[None].astype(np.float32), np.array([labels], np.float32), mask)
    masks, scores = files.model.predictor.decode(embedding, inputs, (0, 1, 2, 3))
    return masks[0], scores[0]


def choice(scores: np.ndarray, labels: list[int]) -> int:
    """SAM's ``--return-single-mask``: for one point the best of the three, else the single mask."""
    return 1 + int(scores[1:].argmax()) if len(labels) == 1 else 0


def agree(logits: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(logits - wanted).max() < 0.02 * wanted.std() + 1e-3
    assert mask_iou(logits > 0, wanted > 0) > 0.999


def images_for(files: dict[str, Exported]) -> list[np.ndarray]:
    """A landscape and, for a network whose input is no square, a portrait."""
    return [LANDSCAPE, PORTRAIT] if files["sam"].model.runtime.spec.padded_to else [LANDSCAPE]


# ---------------------------------------------------------------- that they get our masks

QUESTIONS = [(POINT, [1]), (BOX, [2, 3]), ([*POINT, [20, 20]], [1, 0])]
IDS = ["a point", "a box", "two points"]


@pytest.mark.parametrize(("coords", "labels"), QUESTIONS, ids=IDS)
def test_samexporter(files: dict[str, Exported], coords: list, labels: list[int]) -> None:
    found = as_samexporter(files["samexporter"], LANDSCAPE, coords, labels)
    asked = Frame.fit(LANDSCAPE.shape[:2], 1024).to_input(np.array(coords))
    masks, scores = own(files["samexporter"], resized_longest(LANDSCAPE), asked, labels)
    number = choice(scores, labels)
    wanted = enlarged_by_opencv(
        masks[number : number + 1], resized_longest(LANDSCAPE).shape[:2], LANDSCAPE.shape[:2]
    )
    assert found.shape == (1, *LANDSCAPE.shape[:2])
    agree(found[0], wanted[0])
    side = files["samexporter"].model.runtime.spec.prompt_size
    ours = enlarge_logits(masks[number : number + 1], Frame.fit(LANDSCAPE.shape[:2], side))
    assert mask_iou(found[0] > 0, ours[0] > 0) > 0.99


def test_pocket_shrinks_a_photo_twice_there(pocket: Model, tmp_path: Path) -> None:
    """samexporter gives the file 1024 pixels, of which it keeps 768; ``Model.segment`` goes to 768 at once."""
    files = export("samexporter", "pocket", None, pocket, tmp_path, {})
    found = as_samexporter(files, LANDSCAPE, POINT, [1])[0] > 0
    result = pocket.segment(pocket.embed(LANDSCAPE), Prompt(points=POINT[0]))
    assert max(mask_iou(found, mask) for mask in result.masks) > 0.97


def test_x_anylabeling(files: dict[str, Exported]) -> None:
    for image in images_for(files):
        check_x_anylabeling(files, image)


def check_x_anylabeling(files: dict[str, Exported], image: np.ndarray) -> None:
    coords = BOX if image is LANDSCAPE else [corner[::-1] for corner in BOX]
    found, seen = as_x_anylabeling(files["x-anylabeling"], image, coords, [2, 3])
    scale = 684 / image.shape[0]
    masks, _ = own(files["x-anylabeling"], seen, np.array(coords) * min(scale, 1024 / image.shape[1]), [2, 3])
    side = files["x-anylabeling"].model.runtime.spec.prompt_size
    large = enlarge_logits(masks[:1], Frame.fit(ANY_LABELING, side))[0]
    scale = min(scale, 1024 / image.shape[1])
    back = np.array([[1 / scale, 0, 0], [0, 1 / scale, 0]])
    agree(found, cv2.warpAffine(large, back, image.shape[1::-1], flags=cv2.INTER_LINEAR))


def test_x_anylabeling_is_told_of_the_files(files: dict[str, Exported]) -> None:
    exported = files["x-anylabeling"]
    lines = (exported.folder / f"{exported.name}.yaml").read_text().splitlines()
    told = dict(line.split(": ", 1) for line in lines)
    assert set(told) == {
        *("type", "name", "display_name", "encoder_model_path", "decoder_model_path"),
        *("input_size", "max_width", "max_height"),
    }
    assert told["type"] == "segment_anything"
    assert (exported.folder / told["encoder_model_path"]).is_file()
    assert (exported.folder / told["decoder_model_path"]).is_file()


def test_sam(files: dict[str, Exported]) -> None:
    for image in images_for(files):
        check_sam(files, image)


def check_sam(files: dict[str, Exported], image: np.ndarray) -> None:
    """All four masks, then one of them fed back as a mask prompt, as segment-anything's notebook does."""
    exported, frame = files["sam"], Frame.fit(image.shape[:2], 1024)
    side = exported.model.runtime.spec.prompt_size
    coords = POINT if image is LANDSCAPE else [POINT[0][::-1]]
    asked = frame.to_input(np.array(coords))
    seen = resized_longest(image)
    embedding = exported.encode(seen)
    given = feed(embedding, asked, [1], image.shape[:2])
    masks, scores, low_res = exported.decoder.run(["masks", "iou_predictions", "low_res_masks"], given)
    assert masks.shape == (1, 4, *image.shape[:2])
    assert low_res.shape == (1, 4, 256, 256)
    wanted, quality = own(exported, seen, asked, [1])
    np.testing.assert_allclose(scores[0], quality, atol=2e-3)
    for logits, large in zip(masks[0], enlarge_logits(wanted, Frame.fit(image.shape[:2], side)), strict=True):
        agree(logits, large)
    best = low_res[:, int(scores[0].argmax())][None]
    given |= {"mask_input": best, "has_mask_input": np.ones(1, np.float32)}
    again = exported.decoder.run(["low_res_masks"], given)[0]
    assert np.abs(again - low_res).max() > 0.1  # the mask prompt has a say
    if side == 1024:  # the mask prompt is as fine as our own
        refined, _ = own(exported, seen, asked, [1], best)
        np.testing.assert_allclose(again[0], refined, atol=1e-3)


# ---------------------------------------------------------------- the files themselves

INPUTS = {
    "image_embeddings": [1, None, 64, 64],
    "point_coords": [1, "num_points", 2],
    "point_labels": [1, "num_points"],
    "mask_input": [1, 1, 256, 256],
    "has_mask_input": [1],
    "orig_im_size": [2],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_names_shapes_and_types(files: dict[str, Exported], program: str) -> None:
    exported = files[program]
    encoder = ort.InferenceSession(exported.folder / f"{exported.name}.encoder.onnx")
    (image,) = encoder.get_inputs()
    (embedding,) = encoder.get_outputs()
    assert (image.name, image.shape, image.type) == ("input_image", ["height", "width", 3], "tensor(float)")
    assert embedding.name == "image_embeddings"
    channels = embedding.shape[1]
    assert channels == (800 if exported.name == "pocket" else 256)
    inputs = {value.name: value.shape for value in exported.decoder.get_inputs()}
    assert inputs == INPUTS | {"image_embeddings": [1, channels, 64, 64]}
    outputs = {value.name: value.shape for value in exported.decoder.get_outputs()}
    count = 4 if program == "sam" else 1
    side = 384 if exported.name == "pocket" and program == "samexporter" else 256
    assert outputs == {
        "masks": [1, count, "height", "width"],
        "iou_predictions": [1, count],
        "low_res_masks": [1, count, side, side],
    }
    types = {value.type for value in (*exported.decoder.get_inputs(), *exported.decoder.get_outputs())}
    assert types == {"tensor(float)"}
    path = exported.folder / f"{exported.name}.encoder.onnx"
    assert path.read_bytes() == (files["sam"].folder / path.name).read_bytes()  # one encoder for all
    model = onnx.load(path)
    assert {prop.key for prop in model.metadata_props} >= {"mobilesam.version", "mobilesam.network"}
    read = {name for node in model.graph.node for name in node.input} | {"image_embeddings"}
    assert all(read.intersection(node.output) for node in model.graph.node)  # pocket's boxes are left out


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = ["export", "onnx", "--out", str(tmp_path), "--for"]
    assert run([*line, "samexporter", "--model", "detector_nano"]) == 2
    assert "detector_nano: takes no prompts, and samexporter asks by prompts" in capsys.readouterr().err
    assert run([*line, "label_studio", "--model", "pocket"]) == 2
    assert "'samexporter', 'x-anylabeling', 'sam'" in capsys.readouterr().err
    assert run([*line, "sam", "--model", "pocket", "--graphs-only"]) == 2
    assert (
        "--for: files for a program carry their weights; leave --graphs-only out" in capsys.readouterr().err
    )
    assert run([*line, "sam", "--model", "pocket"]) == 0
    assert run([*line, "sam", "--model", "pocket"]) == 6
    assert "pocket.encoder.onnx: exists already" in capsys.readouterr().err


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(jpeg(LANDSCAPE))
    assert run(["export", "onnx", "--for", "sam", "--model", "pocket", "--out", "onnx"]) == 0
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    namespace: dict = {}
    exec(compile(block, PAGE.name, "exec"), namespace)
    assert namespace["mask"].shape == LANDSCAPE.shape[:2]
    assert namespace["mask"].any()


def test_the_page_and_the_help_name_every_program(capsys: pytest.CaptureFixture) -> None:
    run(["export", "onnx", "--help"])
    told = capsys.readouterr().out
    for program in LAYOUTS:
        assert f"--for {program}" in PAGE.read_text()
        assert program in told
