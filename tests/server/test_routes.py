"""What the routes answer: the same as the library, in the forms that the documents promise."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

import mobilesam
from mobilesam.core.rle import dict_to_rle, mask_to_rle, rle_to_mask
from mobilesam.core.schema import document
from mobilesam.formats.datasets.load import read_dataset
from mobilesam.formats.prompt_file import read_prompts
from mobilesam.formats.result_shapes import RESULTS
from mobilesam.server import shapes
from mobilesam.server.app import ENDPOINTS
from tests.photos import cat, jpeg

BOX = {"objects": [{"box": [5, 0, 370, 295], "label": "cat"}]}
POINT = {"objects": [{"points": [[210, 140]]}]}
DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "server.md"


@pytest.fixture(scope="module")
def model() -> mobilesam.Model:
    return mobilesam.load("pocket", threads=1)


@pytest.fixture(scope="module")
def embedding(model: mobilesam.Model) -> mobilesam.Embedding:
    return model.embed(jpeg(cat()))


def fits(content: object, shape: object) -> bool:
    Draft202012Validator(document("", shape)).validate(content)
    return True


def mask_of(record: dict) -> np.ndarray:
    return rle_to_mask(dict_to_rle(record["segmentation"]))


def test_an_image_is_encoded_once(client: httpx.Client, image: dict) -> None:
    assert fits(image, shapes.IMAGE) and (image["width"], image["height"]) == (451, 300)
    again = client.post("/v1/images", content=jpeg(cat()))
    assert again.status_code == 200 and again.json()["id"] == image["id"]
    png = io.BytesIO()
    Image.open(io.BytesIO(jpeg(cat()))).save(png, "PNG")
    other_file = client.post("/v1/images", files={"file": ("a.png", png.getvalue())})
    assert other_file.status_code == 200 and other_file.json()["id"] == image["id"]  # the same pixels


def test_masks_are_the_librarys(
    client: httpx.Client, image: dict, model: mobilesam.Model, embedding: mobilesam.Embedding
) -> None:
    answer = client.post(f"/v1/images/{image['id']}/segment", json=BOX).json()
    assert fits(answer, RESULTS)
    (found,) = answer["images"][0]["objects"]
    expected = model.segment(embedding, mobilesam.Prompt(**BOX["objects"][0]))
    assert found["label"] == "cat"
    assert np.array_equal(mask_of(found["masks"][0]), expected.mask)
    three = client.post(f"/v1/images/{image['id']}/segment?multimask=true", json=BOX).json()
    assert len(three["images"][0]["objects"][0]["masks"]) == 3


def test_the_quick_form_is_the_same_mask(
    client: httpx.Client, image: dict, model: mobilesam.Model, embedding: mobilesam.Embedding
) -> None:
    answer = client.post(
        f"/v1/images/{image['id']}/segment",
        json=POINT,
        headers={"Accept": "application/vnd.mobilesam.logits"},
    )
    shape = tuple(map(int, answer.headers["x-mobilesam-shape"].split(",")))
    assert shape == (3, 300, 451)
    logits = np.frombuffer(answer.content, np.int8).reshape(shape)
    expected = model.segment(embedding, mobilesam.Prompt(**POINT["objects"][0]))
    assert int(answer.headers["x-mobilesam-chosen"]) == expected.choice
    assert np.array_equal(logits > 0, expected.masks)
    ious = [float(one) for one in answer.headers["x-mobilesam-iou"].split(",")]
    assert np.allclose(ious, expected.predicted_iou, atol=1e-3)
    small = client.post(
        f"/v1/images/{image['id']}/segment?side=100",
        json=POINT,
        headers={"Accept": "application/vnd.mobilesam.logits"},
    )
    assert small.headers["x-mobilesam-shape"] == "3,67,100"


def test_masks_in_other_forms(client: httpx.Client, image: dict) -> None:
    def ask(kind: str) -> httpx.Response:
        answer = client.post(f"/v1/images/{image['id']}/segment", json=BOX, headers={"Accept": kind})
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        return answer

    plain = mask_of(ask("application/json").json()["images"][0]["objects"][0]["masks"][0])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(ask("image/png").content))) > 0, plain)
    (annotation,) = ask("application/vnd.coco+json").json()["annotations"]
    assert np.array_equal(mask_of(annotation), plain)
    (feature,) = ask("application/geo+json").json()["features"]
    assert feature["properties"]["label"] == "cat" and feature["geometry"]["type"] == "MultiPolygon"
    refused = client.post(f"/v1/images/{image['id']}/segment", json=BOX, headers={"Accept": "text/html"})
    assert refused.status_code == 406


def test_everything_comes_line_by_line(client: httpx.Client, image: dict) -> None:
    body = {"preset": "tidy", "options": {"max_prompts": 24}}
    with client.stream("POST", f"/v1/images/{image['id']}/everything", json=body) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert all(fits(line, shapes.EVERYTHING_LINE) for line in lines)
    masks = [line["mask"] for line in lines if "mask" in line]
    assert masks and lines[-1]["done"]["masks"] == len(masks)
    assert all(mask_of(mask).sum() == mask["area"] for mask in masks)
    assert {"progress": [24, 24]} in lines


def test_a_cut_out_of_a_prompt_of_a_mask_and_of_the_subject(client: httpx.Client, image: dict) -> None:
    address = f"/v1/images/{image['id']}/cutout"

    def cut(body: dict) -> np.ndarray:
        answer = client.post(address, json=body)
        assert answer.status_code == 200, answer.text
        assert json.loads(answer.headers["x-mobilesam-warnings"]) is not None
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    assert cut({}).shape == (300, 451, 4)
    assert cut(BOX | {"options": {"background": "white"}, "format": "jpg"}).shape == (300, 451, 3)
    mask = np.zeros((300, 451), bool)
    mask[100:200, 150:250] = True
    rgba = cut({"masks": [mask_to_rle(mask).to_dict()], "options": {"crop": True}})
    assert 98 <= rgba.shape[0] <= 112 and 98 <= rgba.shape[1] <= 112 and rgba[50, 50, 3] == 255
    refused = client.post(address, json={"options": {"background": "/etc/hostname"}})
    assert refused.status_code == 400 and "background" in refused.json()["error"]["message"]


def test_a_session_is_stepped_through(client: httpx.Client, image: dict) -> None:
    def act(session: dict | None, action: dict) -> dict:
        body = {"session": session, "action": action}
        answer = client.post(f"/v1/images/{image['id']}/session", json=body)
        assert answer.status_code == 200, answer.text
        assert fits(answer.json(), shapes.SESSION_ANSWER)
        return answer.json()

    first = act(None, {"point": [210, 140], "label": 1})
    assert len(first["object"]["masks"]) == 3 and first["undo"] and not first["redo"]
    other = (first["object"]["chosen"] + 1) % 3
    chosen = act(first["session"], {"choose": other})
    assert chosen["object"]["chosen"] == other
    second = act(chosen["session"], {"point": [20, 20], "label": 0})
    back = act(act(second["session"], {"undo": True})["session"], {"undo": True})
    assert back["object"] == first["object"] and back["redo"]
    assert act(act(back["session"], {"redo": True})["session"], {"redo": True})["object"] == second["object"]
    nothing = act(first["session"], {"undo": True})
    assert nothing["object"] is None and not nothing["undo"]


def test_the_picture_that_the_server_sees(client: httpx.Client, image: dict) -> None:
    small = client.get(f"/v1/images/{image['id']}/picture?side=90")
    assert Image.open(io.BytesIO(small.content)).size == (90, 60)


def test_photos_are_listed_shown_and_labelled(client: httpx.Client, folder: Path) -> None:
    listed = client.get("/v1/photos").json()
    assert fits(listed, shapes.PHOTOS)
    assert [one["name"] for one in listed["photos"]] == ["cat.jpg", "more/small.jpg"]
    assert client.get("/v1/photos/0").content == (folder / "cat.jpg").read_bytes()
    image = client.post("/v1/photos/1/image").json()
    assert (image["width"], image["height"]) == (151, 100)
    mask = np.zeros((100, 151), bool)
    mask[20:60, 30:90] = True
    objects = [
        {"label": "face", "segmentation": mask_to_rle(mask).to_dict(), "prompt": {"box": [30, 20, 90, 60]}}
    ]
    answer = client.put("/v1/photos/1/labels", json={"objects": objects})
    assert answer.json() == {"files": ["small.json", "small.prompts.json"]}, answer.text
    assert client.get("/v1/photos/1/labels").json() == {"objects": objects}
    assert [one["done"] for one in client.get("/v1/photos").json()["photos"]] == [False, True]
    (photo,) = read_dataset(folder / "more" / "small.json").photos
    (labelled,) = photo.objects
    assert labelled.label == "face" and np.array_equal(rle_to_mask(labelled.mask), mask)
    (prompt,) = read_prompts(folder / "more" / "small.prompts.json").prompts
    assert prompt.label == "face" and prompt.box == [30, 20, 90, 60]
    del objects[0]["prompt"]
    assert client.put("/v1/photos/1/labels", json={"objects": objects}).json() == {"files": ["small.json"]}
    assert client.put("/v1/photos/1/labels", json={"objects": []}).json() == {"files": []}
    assert sorted(path.name for path in (folder / "more").iterdir()) == ["small.jpg"]


def test_no_file_of_somebody_else_is_replaced(client: httpx.Client, folder: Path) -> None:
    theirs = {"cat.json": '{"shapes": "mine"}', "cat.prompts.json": "{}"}
    for name, text in theirs.items():
        (folder / name).write_text(text)
    mask = np.ones((300, 451), bool)
    body = {"objects": [{"segmentation": mask_to_rle(mask).to_dict(), "prompt": {"points": [[9, 9]]}}]}
    for _ in range(2):  # what it has written itself it does replace
        files = client.put("/v1/photos/0/labels", json=body).json()["files"]
        assert files == ["cat.mobilesam.json", "cat.mobilesam.prompts.json"]
    assert client.put("/v1/photos/0/labels", json={"objects": []}).json() == {"files": []}
    for name, text in theirs.items():
        assert (folder / name).read_text() == text
        (folder / name).unlink()
    assert client.get("/v1/photos/0").content == (folder / "cat.jpg").read_bytes()


def test_labels_that_do_not_fit_the_photo_are_refused(client: httpx.Client, folder: Path) -> None:
    wrong = mask_to_rle(np.ones((10, 10), bool)).to_dict()
    answer = client.put("/v1/photos/0/labels", json={"objects": [{"segmentation": wrong}]})
    assert answer.status_code == 422 and "10 x 10" in answer.json()["error"]["message"]
    assert client.get("/v1/photos/2/labels").status_code == 404
    assert not (folder / "cat.json").exists()


def test_who_watches_the_server(client: httpx.Client, image: dict) -> None:
    assert client.get("/health").json() == client.get("/ready").json() == {"status": "UP"}
    (model,) = client.get("/v1/models").json()["models"]
    assert fits({"models": [model]}, shapes.MODELS) and model["name"] == image["model"]
    text = client.get("/metrics").text
    assert re.search(r'mobilesam_requests_total\{method="POST",route="/v1/images",status="20[01]"\} \d', text)
    assert re.search(r"^mobilesam_images [1-9]", text, re.M)
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{(\w+=\"[^\"]*\",?)+\})? [0-9.e+-]+", line), line


def test_the_document_of_the_routes_is_whole(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["responses"], (path, method)
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    if "schema" in content and "$ref" not in content["schema"]:
                        Draft202012Validator.check_schema(content["schema"])
    told = DOCUMENT.read_text()
    for one in ENDPOINTS:  # each is in the documents
        path = one.path.removeprefix("/v1/photos/{index}") or one.path
        assert one.path in told or f"`{path}`" in told or path in told, one.path


def test_the_page_is_there(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200 and "<title>MobileSAM" in page.text
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    assert "'unsafe-inline'" not in page.headers["content-security-policy"]
