"""``mobilesam.compat.ultralytics`` on real photos, against the library's own answers."""

from __future__ import annotations

import gc
import pickle
import re
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from skimage.data import coffee
from torch.utils.flop_counter import FlopCounterMode

from mobilesam import (
    ConfigError,
    EverythingOptions,
    ImageError,
    Model,
    OutputError,
    Prompt,
    PromptError,
    PromptWarning,
    WeightsError,
)
from mobilesam.compat.ultralytics import SAM, YOLO, FastSAM, Results
from mobilesam.compat.ultralytics.checkpoints import find_checkpoint
from mobilesam.compat.ultralytics.model import device_name
from mobilesam.compat.ultralytics.options import DEFAULTS, SEARCH
from mobilesam.compat.ultralytics.summary import GFLOPS, summarise_network
from mobilesam.core.metrics import mask_iou
from mobilesam.evaluate.prompted import score_prompted
from mobilesam.networks.build import NETWORKS, build_network
from mobilesam.weights import ALIASES, entry_of, weights_path
from mobilesam.weights.graph_index import graph_index
from tests.photos import cat, jpeg, write_set
from tests.videos import write_video

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ultralytics.md"
BOX, OTHER_BOX = [80, 20, 380, 290], [150, 100, 250, 200]
POINT, OTHER_POINT = [260, 170], [200, 150]
BGR = np.ascontiguousarray(cat()[..., ::-1])


@pytest.fixture(scope="module")
def sam() -> SAM:
    return SAM("pocket")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a photo, the same upside down, something else, and a folder below it."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(cat()))
    (folder / "b.jpg").write_bytes(jpeg(cat()[::-1].copy()))
    (folder / "below" / "c.jpg").write_bytes(jpeg(cat()))
    (folder / "notes.txt").write_text("no image")
    return folder


def asked(model: Model, image: Any, *prompts: Prompt, multimask: bool | None = False) -> np.ndarray:
    """The library's own masks."""
    results = model.segment(model.embed(image), prompts, multimask=multimask)
    return np.stack([result.mask for result in results])


def data_of(result: Results) -> np.ndarray:
    assert result.masks is not None
    return result.masks.data


PROMPTS: list[tuple[str, dict[str, Any], list[Prompt]]] = [
    ("a point", {"points": POINT, "labels": [1]}, [Prompt(points=POINT)]),
    ("two objects", {"points": [POINT, OTHER_POINT]}, [Prompt(points=POINT), Prompt(points=OTHER_POINT)]),
    (
        "two points of one object",
        {"points": [[POINT, [20, 20]]], "labels": [[1, 0]]},
        [Prompt(points=[POINT, [20, 20]], labels=[1, 0])],
    ),
    ("a box", {"bboxes": BOX}, [Prompt(box=BOX)]),
    (
        "boxes as a tensor",
        {"bboxes": torch.tensor([BOX, OTHER_BOX])},
        [Prompt(box=BOX), Prompt(box=OTHER_BOX)],
    ),
    (
        "boxes and points",
        {"bboxes": [BOX, OTHER_BOX], "points": [POINT, OTHER_POINT]},
        [Prompt(points=POINT, box=BOX), Prompt(points=OTHER_POINT, box=OTHER_BOX)],
    ),
]


@pytest.mark.parametrize(("given", "ours"), [row[1:] for row in PROMPTS], ids=[row[0] for row in PROMPTS])
def test_masks_are_the_librarys(sam: SAM, given: dict, ours: list[Prompt]) -> None:
    (result,) = sam.predict(BGR, conf=0.0, **given)
    wanted = asked(sam.model, cat(), *ours)
    np.testing.assert_array_equal(data_of(result), wanted)
    assert result.masks is not None
    for mask, box, ring in zip(wanted, result.boxes.xyxy, result.masks.xy, strict=True):
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert (ring.min(0) >= 0).all()
        assert (ring.max(0) <= [451, 300]).all()
    assert result.boxes.cls.tolist() == list(range(len(ours)))
    assert result.names == {i: str(i) for i in range(len(ours))}
    assert all(ms > 0 for ms in result.speed.values() if ms is not None)


def test_mask_prompts(sam: SAM) -> None:
    first = sam.model.segment(sam.model.embed(cat()), Prompt(box=BOX), multimask=False)
    masks = [first.mask, first.mask.astype(np.uint8) * 255, first.low_res_masks]
    for mask in masks:
        (result,) = sam(BGR, masks=mask, conf=0.0)
        np.testing.assert_array_equal(data_of(result), asked(sam.model, cat(), Prompt(mask=mask)))
    (result,) = sam(BGR, masks=np.stack([first.mask, ~first.mask]), points=[POINT, [20, 20]], conf=0.0)
    assert len(result) == 2
    with pytest.raises(PromptError, match=r"mask: has shape \(5, 5\)"):
        sam(BGR, masks=np.zeros((5, 5), bool))


def test_three_masks_of_a_point(sam: SAM) -> None:
    own = sam.model.segment(sam.model.embed(cat()), [Prompt(points=POINT), Prompt(points=OTHER_POINT)])
    (three,) = sam(BGR, points=[POINT, OTHER_POINT], multimask_output=True, conf=0.0)
    np.testing.assert_array_equal(data_of(three), np.concatenate([one.masks for one in own]))
    assert three.boxes.cls.tolist() == [0, 0, 0, 1, 1, 1]
    (best,) = sam(BGR, points=[POINT, OTHER_POINT], multimask_output=None, conf=0.0)
    np.testing.assert_array_equal(data_of(best), np.stack([one.mask for one in own]))


def test_classes_stay_with_their_prompts(sam: SAM) -> None:
    boxes = [OTHER_BOX, BOX, [0, 0, 30, 30]]
    (whole,) = sam(BGR, bboxes=boxes, conf=0.0)
    scores = whole.boxes.conf
    best = int(scores.argmax())
    (part,) = sam(BGR, bboxes=boxes, conf=float(np.sort(scores)[-2]) + 1e-6)
    assert part.boxes.cls.tolist() == [best]
    assert part.names == {0: "0", 1: "1", 2: "2"}
    np.testing.assert_array_equal(data_of(part)[0], data_of(whole)[best])
    (two,) = sam(BGR, bboxes=boxes, conf=0.0, max_det=2)
    assert two.boxes.cls.tolist() == sorted(np.argsort(-scores)[:2].tolist())


def test_nothing_found(sam: SAM) -> None:
    for options in ({"bboxes": BOX, "conf": 1.0}, {"bboxes": np.zeros((0, 4))}):
        (result,) = sam(BGR, **options)
        assert len(result) == 0
        assert result.masks is not None
        assert result.masks.data.shape == (0, *BGR.shape[:2])
        assert result.masks.xy == []
        assert result.boxes.data.shape == (0, 6)
        assert result.orig_img.shape == BGR.shape


def test_everything(sam: SAM) -> None:
    cup = np.ascontiguousarray(coffee()[::2, ::2])
    bgr = cup[..., ::-1]
    (result,) = sam(bgr, points_stride=6, conf_thres=0.4, stability_score_thresh=0.4)
    options = EverythingOptions(
        sampler="grid", points_per_side=6, pred_iou_thresh=0.4, stability_score_thresh=0.4
    )
    wanted = sam.model.everything(cup, options)
    assert len(result) == len(wanted) >= 2
    np.testing.assert_array_equal(data_of(result), np.stack([one.mask for one in wanted]))
    np.testing.assert_allclose(result.boxes.conf, [one.predicted_iou for one in wanted], rtol=1e-6)
    assert result.boxes.cls.tolist() == list(range(len(wanted)))
    (fewer,) = sam(bgr, points_stride=6, conf_thres=0.4, stability_score_thresh=0.4, max_det=1)
    assert fewer.boxes.conf.tolist() == [result.boxes.conf.max()]


class TestSources:
    def test_each_kind(self, sam: SAM, photos: Path) -> None:
        path = photos / "a.jpg"
        wanted = asked(sam.model, path, Prompt(box=BOX))
        decoded = np.asarray(Image.open(path))
        sources = {
            "text": str(path),
            "path": path,
            "bytes": path.read_bytes(),
            "PIL": Image.open(path),
            "BGR": decoded[..., ::-1],
            "BGR with alpha": np.dstack([decoded[..., ::-1], np.full(decoded.shape[:2], 255, np.uint8)]),
            "pattern": str(photos / "a*.jpg"),
        }
        for name, source in sources.items():
            (result,) = sam(source, bboxes=BOX)
            np.testing.assert_array_equal(data_of(result), wanted, err_msg=name)
            np.testing.assert_array_equal(result.orig_img, decoded[..., ::-1], err_msg=name)
        results = sam(list(sources.values()), bboxes=BOX)
        assert isinstance(results, list)
        assert [Path(r.path).name for r in results] == [
            *("a.jpg", "a.jpg", "image2.jpg", "a.jpg", "image4.jpg", "image5.jpg", "a.jpg")
        ]

    def test_rgb_and_bgr_are_not_the_same(self, sam: SAM) -> None:
        (right,), (wrong,) = sam(BGR, bboxes=BOX), sam(cat(), bboxes=BOX)
        assert (data_of(right) != data_of(wrong)).any()

    def test_grey(self, sam: SAM) -> None:
        grey = cat()[..., 1]
        (result,) = sam(grey, bboxes=BOX)
        np.testing.assert_array_equal(data_of(result), asked(sam.model, grey, Prompt(box=BOX)))

    def test_a_folder_is_its_images(self, sam: SAM, photos: Path) -> None:
        assert [Path(r.path).name for r in sam(photos, bboxes=BOX)] == ["a.jpg", "b.jpg"]
        found = sam(str(photos / "**" / "*"), bboxes=BOX)
        assert [Path(r.path).name for r in found] == ["a.jpg", "b.jpg", "c.jpg"]

    def test_prompts_hold_for_every_image(self, sam: SAM, photos: Path) -> None:
        for path, result in zip(["a.jpg", "b.jpg"], sam(photos, points=POINT, conf=0.0), strict=True):
            np.testing.assert_array_equal(
                data_of(result), asked(sam.model, photos / path, Prompt(points=POINT))
            )

    def test_video(self, sam: SAM, tmp_path: Path) -> None:
        frames = [np.roll(cat()[:300, :450], 15 * i, axis=1) for i in range(4)]
        path = write_video(tmp_path / "cat.mp4", frames)
        results = sam(path, bboxes=BOX, conf=0.0)
        assert len(results) == 4
        for result, frame in zip(results, frames, strict=True):
            assert result.path == str(path)
            assert np.abs(result.orig_img[..., ::-1].astype(int) - frame).mean() < 8
            np.testing.assert_array_equal(
                data_of(result), asked(sam.model, result.orig_img[..., ::-1].copy(), Prompt(box=BOX))
            )
        assert len(sam(path, bboxes=BOX, vid_stride=3)) == 2

    def test_a_stream_holds_one_image_at_a_time(self, sam: SAM) -> None:
        taken: list[int] = []

        def camera() -> Iterator[np.ndarray]:
            for i in range(5):
                taken.append(i)
                yield np.roll(BGR, i, axis=1)

        stream = sam(camera(), stream=True, bboxes=BOX)
        assert not isinstance(stream, list)
        assert taken == []
        images = []
        for i, result in enumerate(stream):
            assert taken == list(range(i + 1))
            assert len(result) == 1
            images.append(weakref.ref(result.orig_img))
            gc.collect()
            assert (
                sum(image() is not None for image in images) <= 2
            )  # this one and, until it is replaced, the last
        del result
        gc.collect()
        assert not any(image() is not None for image in images)

    def test_results_can_be_sent_to_another_process(self, sam: SAM) -> None:
        (result,) = sam(BGR, bboxes=[BOX, OTHER_BOX], conf=0.0)
        content = pickle.dumps(result)
        assert len(content) < BGR.nbytes + 2 * 4 * 384 * 384 + 10_000  # the image and two masks' logits
        copy = pickle.loads(content)
        np.testing.assert_array_equal(data_of(copy), data_of(result))
        np.testing.assert_array_equal(copy.boxes.data, result.boxes.data)

    def test_results_do_not_keep_embeddings(self, sam: SAM) -> None:
        (result,) = sam(BGR, bboxes=BOX)
        assert result.masks is not None
        (one,) = result.masks.objects
        assert not one.embedding.arrays  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("source", "error", "message"),
        [
            (None, ConfigError, "source: is None; give a path"),
            ("https://example.com/a.jpg", ImageError, "is an address; nothing is fetched here"),
            ("rtsp://camera", ImageError, "is an address"),
            (0, ImageError, "source: is 0; cameras are not opened"),
            ("none.jpg", ImageError, r"none\.jpg: not found"),
            ("none*.jpg", ConfigError, r"none\*\.jpg: matches no image or video"),
            ("none.mp4", ImageError, r"none\.mp4: not found"),
            (torch.zeros(1, 3, 8, 8), ImageError, "source: is a tensor; whether it is RGB"),
            (np.zeros((8, 8, 3)), ImageError, r"type float64; must be \(H, W, 3\) uint8 BGR"),
            (np.zeros((2, 8, 8, 3), np.uint8), ImageError, r"has shape \(2, 8, 8, 3\)"),
            ([[BGR]], ImageError, "source: holds a list"),
            ({}, ImageError, "source: holds a dict"),
            (b"no image", ImageError, r"source\[0\]: is"),
        ],
        ids=str,
    )
    def test_refused(
        self,
        sam: SAM,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        source: Any,
        error: type,
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(error, match=message):
            sam(source, bboxes=BOX)

    def test_an_empty_folder_and_an_empty_list(self, sam: SAM, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="holds no images"):
            sam(tmp_path, stream=True)
        assert sam([]) == []


class TestArguments:
    def test_mistakes_are_told_before_a_stream_begins(self, sam: SAM) -> None:
        for options, error, message in (
            (
                {"iou_thres": 0.5},
                ConfigError,
                "iou_thres: is not an argument of predict; there are conf, imgsz",
            ),
            ({"imgsz": 0}, ConfigError, "imgsz: is 0; must be a whole number of pixels, or two"),
            ({"imgsz": (768, 640, 3)}, ConfigError, "must be a whole number of pixels"),
            ({"device": [0, 1]}, ConfigError, "one device at a time"),
            ({"bboxes": [BOX, BOX], "points": POINT}, PromptError, "bboxes of 2 objects, points of 1"),
        ):
            with pytest.raises(error, match=message):
                sam(BGR, stream=True, **options)
        with pytest.raises(ConfigError, match="stream: is 1"):
            sam(BGR, stream=1)

    def test_keywords_of_everything_are_refused_with_prompts(self, sam: SAM) -> None:
        given = {
            "point_grids": [[[0.5, 0.5]]],
            "seconds": 1,
            "conf_thres": 0.5,
            "stability_score_thresh": 0.5,
        }
        for name in SEARCH:
            with pytest.raises(ConfigError, match=f"{name}: is for segmenting everything"):
                sam(
                    BGR,
                    bboxes=BOX,
                    **{name: given.get(name, DEFAULTS[name])},
                )
        assert len(sam(BGR, bboxes=BOX, iou=0.9)[0]) == 1

    def test_what_is_accepted(self, sam: SAM) -> None:
        for options in ({"imgsz": 768}, {"imgsz": [768, 768]}, {"retina_masks": False}, {"device": "cpu"}):
            assert len(sam(BGR, bboxes=BOX, **options)[0]) == 1

    def test_prompts_are_checked_with_the_image(self, sam: SAM) -> None:
        with pytest.raises(PromptError, match=r"^points\[0\]\.x: is 900, outside the image of 451 x 300"):
            sam(BGR, points=[900, 370])
        with pytest.raises(PromptError, match=r"^object 1: box: .* x0 > x1"):
            sam(BGR, bboxes=[BOX, [50, 10, 20, 30]])
        with pytest.raises(PromptError, match=r"^object 0: points: has shape \(3,\)"):
            sam(BGR, points=[[1, 2, 3], [4, 5, 6]])
        with pytest.raises(PromptError, match=r"labels: 1 labels for 2 points"):
            sam(BGR, points=[[POINT, POINT]], labels=[[1]])
        with pytest.warns(PromptWarning, match="all points are background"):
            sam(BGR, points=[POINT, OTHER_POINT], labels=[1, 0])

    def test_devices(self, sam: SAM) -> None:
        assert device_name("cuda:0") == device_name(0) == device_name(torch.device("cuda", 0)) == "cuda"
        before = sam.model
        with pytest.raises(ConfigError, match="device 'cuda:7'"):
            sam(BGR, device=7)
        assert sam.to("cpu").model is before
        assert len(sam(BGR, bboxes=BOX)[0]) == 1

    def test_verbose(self, sam: SAM, capsys: pytest.CaptureFixture) -> None:
        sam(BGR, bboxes=BOX, verbose=True)
        told = capsys.readouterr()
        assert re.fullmatch(
            r"image 1 image0\.jpg: 1 0, [\d.]+ ms preprocess, [\d.]+ ms inference, [\d.]+ ms postprocess\n",
            told.err,
        )
        sam(BGR, bboxes=BOX)
        assert capsys.readouterr() == ("", "")

    def test_the_torch_runtime(self, sam: SAM) -> None:
        other = SAM("pocket", runtime="torch", device="cpu")
        (one,), (two,) = sam(BGR, bboxes=BOX), other(BGR, bboxes=BOX)
        assert mask_iou(data_of(one)[0], data_of(two)[0]) > 0.999


class TestFiles:
    def test_a_run_has_a_folder_of_its_own(
        self, sam: SAM, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        shutil.copy(photos / "b.jpg", photos / "below" / "a.jpg")
        sources = [photos / "a.jpg", photos / "below" / "a.jpg"]
        results = sam(sources, bboxes=BOX, save=True, save_txt=True, save_conf=True, save_crop=True)
        folder = Path("runs/segment/predict")
        assert {result.save_dir for result in results} == {str(folder)}
        assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
            *("a.jpg", "a_2.jpg", "crops/0/a.jpg", "crops/0/a_2.jpg", "labels/a.txt", "labels/a_2.txt")
        ]
        line = (folder / "labels" / "a.txt").read_text().split()
        assert line[0] == "0"
        assert len(line) % 2 == 0  # class, pairs, score
        (again,) = sam(sources[0], bboxes=BOX, save_txt=True)
        assert again.save_dir == "runs/segment/predict2"
        (same,) = sam(sources[0], bboxes=BOX, save_txt=True, exist_ok=True)
        assert same.save_dir == str(folder)
        (named,) = sam(sources[0], bboxes=BOX, save=True, project=tmp_path / "p", name="n")
        assert named.save_dir == str(tmp_path / "p" / "n")
        (nothing,) = sam(sources[0], bboxes=BOX)
        assert nothing.save_dir is None

    def test_frames_have_their_number(self, sam: SAM, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", [cat()[:300, :450]] * 2)
        sam(path, bboxes=BOX, save_txt=True, project=tmp_path, name="out")
        assert sorted(p.name for p in (tmp_path / "out" / "labels").iterdir()) == ["v_1.txt", "v_2.txt"]

    def test_a_folder_that_cannot_be_made(self, sam: SAM, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be made"):
            sam(BGR, bboxes=BOX, save=True, project=tmp_path / "file")


class TestWeights:
    @pytest.mark.parametrize(
        ("name", "entry"),
        [
            ("mobile_sam.pt", "mobile_sam"),
            ("mobile_sam", "mobile_sam"),
            ("sam_b.pt", "sam_vit_b"),
            ("sam_l.pt", "sam_vit_l"),
            ("sam_h.pt", "sam_vit_h"),
            ("vit_t", "mobile_sam"),
            ("pocket", ALIASES["pocket"]),
            ("efficientvit_sam_l2.pt", "efficientvit_sam_l2"),
        ],
    )
    def test_names(self, name: str, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert find_checkpoint(name).entry.name == entry
        assert find_checkpoint(name).path is None

    def test_missing_weights_say_how_to_get_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MOBILESAM_HOME", str(tmp_path))
        with pytest.raises(WeightsError, match="run: mobilesam weights pull mobile_sam"):
            SAM("mobile_sam.pt")
        with pytest.raises(WeightsError, match="run: mobilesam weights pull sam_vit_b"):
            SAM()
        with pytest.raises(WeightsError, match=r"none\.pt: not found"):
            SAM(tmp_path / "none.pt")

    @pytest.mark.parametrize("name", ["yolo11n.pt", "sam2_b.pt", "FastSAM-s.pt", "no such", ""])
    def test_unknown_names(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"choose a file or one of mobile_sam\.pt, sam_b\.pt"):
            SAM(name)
        with pytest.raises(ConfigError, match="give a name"):
            SAM(3)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["yolo11n.pt", "FastSAM-s.pt"])
    def test_detectors_have_a_page(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"; detectors: docs/how-to/detectors\.md$"):
            SAM(name)
        kind = {"y": YOLO, "F": FastSAM}[name[0]]
        with pytest.raises(
            ConfigError, match=rf"^{kind.__name__}: is not here; .* see docs/how-to/detectors\.md"
        ):
            kind(name)

    def test_a_file_is_known_by_its_tensors(self, sam: SAM, tmp_path: Path) -> None:
        path = tmp_path / "best.safetensors"
        shutil.copy(weights_path(entry_of("pocket")), path)
        own = SAM(path)
        assert own.model.name.startswith("pocket network with best.safetensors")
        np.testing.assert_array_equal(data_of(own(BGR, bboxes=BOX)[0]), data_of(sam(BGR, bboxes=BOX)[0]))

    @pytest.mark.parametrize("network", ["vit_t", "efficientvit_sam_l1"])
    def test_whose_file_it_is(self, tmp_path: Path, network: str) -> None:
        index = graph_index(network)
        draws = np.random.default_rng(0)
        tensors = {
            name: draws.standard_normal(shape, np.float32).astype(np.float16)
            for name, shape in (index.parameters | index.buffers).items()
        }
        save_file(tensors, tmp_path / "some.safetensors")
        assert find_checkpoint(tmp_path / "some.safetensors").entry.network == network
        del tensors[next(iter(tensors))]
        save_file(tensors, tmp_path / "part.safetensors")
        with pytest.raises(WeightsError, match="not the weights of this network: lacks"):
            SAM(tmp_path / "part.safetensors")

    def test_files_of_other_networks(self, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        save_file({"model.22.x": np.arange(4, dtype=np.float32)}, path)
        with pytest.raises(WeightsError, match="holds an object detector; give weights of SAM"):
            SAM(path)
        path.write_bytes(b"no weights")
        with pytest.raises(WeightsError, match=r"other\.safetensors: damaged"):
            SAM(path)


class TestInfo:
    def test_numbers(self, sam: SAM, capsys: pytest.CaptureFixture) -> None:
        layers, parameters, gradients, gflops = sam.info(detailed=True)
        assert parameters == sum(p.numel() for p in build_network("pocket").parameters())
        assert (gradients, gflops) == (0, GFLOPS["pocket"])
        told = capsys.readouterr().out
        assert f"{layers} layers, {parameters:,} parameters" in told
        assert "mask_decoder" in told
        sam.info(verbose=False)
        assert capsys.readouterr().out == ""
        assert summarise_network("vit_t").parameters == 10_130_092

    @pytest.mark.parametrize("name", NETWORKS)
    def test_operations(self, name: str) -> None:
        with torch.device("meta"), torch.no_grad():
            network = build_network(name)
            with FlopCounterMode(display=False) as counter:
                network.encode(torch.zeros(1, 3, network.spec.image_size, network.spec.image_size))
        assert GFLOPS[name] == pytest.approx(counter.get_total_flops() / 1e9, abs=1e-3)


class TestOtherMethods:
    def test_val(self, sam: SAM, tmp_path: Path) -> None:
        folder = write_set(tmp_path / "set", count=2)
        scores = sam.val(data=folder, kinds="box", smallest=0.001)
        wanted = score_prompted(sam.model, folder, kinds=["box"], smallest=0.001)
        assert scores.kinds == wanted.kinds
        with pytest.raises(ConfigError, match="run: mobilesam evaluate masks"):
            sam.val()
        with pytest.raises(ConfigError, match="kinds: 'bx' is unknown; choose some of box"):
            sam.val(folder, kinds=["bx"])
        with pytest.raises(
            ConfigError, match="imgsz: is not an argument of val; there are data, kinds, smallest"
        ):
            sam.val(folder, imgsz=640)

    def test_train(self, sam: SAM, tmp_path: Path) -> None:
        write_set(tmp_path / "set")
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(
            'network = "pocket"\nstart = "pocket"\nheld_out = 0\n[[sets]]\npath = "set"\n'
            "[[stages]]\nimage_size = 64\nsteps = 2\nimages = 2\nobjects = 2\n"
        )
        weights = sam.train(recipe, data=tmp_path, out=tmp_path / "run", device="cpu", workers=0)
        assert len(SAM(weights)(BGR, bboxes=BOX, conf=0.0)[0]) == 1
        with pytest.raises(ConfigError, match="run: mobilesam train masks RECIPE"):
            sam.train()
        with pytest.raises(
            ConfigError, match="epochs: is not an argument of train; there are recipe, data, out"
        ):
            sam.train(data="coco8.yaml", epochs=3)

    def test_export(self, sam: SAM, tmp_path: Path) -> None:
        """The files themselves are what tests/e2e/test_export.py looks at."""
        assert sam.export(format="onnx", out=tmp_path) == str(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} >= {"pocket-encoder.onnx", "pocket-decoder.onnx"}

    def test_other_exports(self, sam: SAM) -> None:
        with pytest.raises(ConfigError, match="format: is 'engine'; there is onnx"):
            sam.export(format="engine")
        with pytest.raises(ConfigError, match="half: is not an argument of export"):
            sam.export(half=True)


def test_the_page_runs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(photos / "a.jpg", "photo.jpg")
    Path("shots").mkdir()
    shutil.copy(photos / "a.jpg", "shots")
    write_video(tmp_path / "film.mp4", [cat()[:300, :450]] * 3)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) >= 4
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), namespace)
    assert isinstance(namespace["model"], SAM)


def test_the_page_names_every_option() -> None:
    page = PAGE.read_text()
    for name in DEFAULTS:
        assert f"`{name}`" in page, name
