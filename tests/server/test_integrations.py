"""What other programs' clients send and understand: real clients where they are small, recorded contracts otherwise."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import osam.types
import pytest
from label_studio_converter import brush
from PIL import Image

import mobilesam
from mobilesam.cli.main import run
from mobilesam.server.integrations.brush_rle import mask_to_brush
from mobilesam.server.integrations.cvat import FUNCTION
from tests.photos import cat, jpeg
from tests.server.running import Running, running

CONFIG = """<View>
  <Image name="img" value="$picture" zoom="true"/>
  <BrushLabels name="brush" toName="img"><Label value="cat"/></BrushLabels>
  <KeyPointLabels name="point" toName="img" smart="true"><Label value="cat"/></KeyPointLabels>
</View>"""


@pytest.fixture(scope="module")
def model() -> mobilesam.Model:
    return mobilesam.load("pocket", threads=1)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Label Studio keeps its files."""
    path = tmp_path_factory.mktemp("media")
    (path / "upload" / "1").mkdir(parents=True)
    (path / "upload" / "1" / "a cat.jpg").write_bytes(jpeg(cat()))
    return path


@pytest.fixture(scope="module")
def backend(media: Path) -> Iterator[Running]:
    with running(["serve", "--label-studio-media", str(media)]) as one:
        yield one


@pytest.fixture(scope="module")
def other(backend: Running) -> Iterator[httpx.Client]:
    with backend.client() as one:
        yield one


def picture_in(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


class TestRembg:
    """Forms as ``curl -F file=@photo.jpg`` and rembg's own page send them."""

    def test_the_subject_and_its_parameters(self, client: httpx.Client, model: mobilesam.Model) -> None:
        given = {
            "model": "u2net",
            "a": "true",
            "af": "240",
            "ab": "10",
            "ae": "10",
            "ppm": "false",
            "om": "true",
        }
        mask = picture_in(client.post("/api/remove", files={"file": jpeg(cat())}, data=given))
        assert np.array_equal(mask, model.cutout(jpeg(cat())).alpha)

    def test_prompts_and_backgrounds(self, client: httpx.Client) -> None:
        extras = json.dumps({"sam_prompt": [{"type": "rectangle", "data": [5, 0, 370, 295], "label": 1}]})
        given = {"extras": extras, "om": "false"}
        rgba = picture_in(client.post("/api/remove", files={"file": jpeg(cat())}, data=given))
        assert rgba.shape == (300, 451, 4)
        red = picture_in(client.post("/api/remove?bgc=255,0,0,255", files={"file": jpeg(cat())}, data=given))
        assert red.shape == (300, 451, 3) and tuple(red[rgba[..., 3] == 0][0]) == (255, 0, 0)

    @pytest.mark.parametrize(
        "data",
        [
            {"om": "perhaps"},
            {"bgc": "red"},
            {"extras": "{"},
            {"size": "3"},
            {"extras": '{"sam_prompt": [{}]}'},
        ],
    )
    def test_what_cannot_be_meant(self, client: httpx.Client, data: dict) -> None:
        answer = client.post("/api/remove", files={"file": jpeg(cat())}, data=data)
        assert answer.status_code in (400, 422), answer.text

    def test_nothing_is_fetched(self, client: httpx.Client) -> None:
        assert client.get("/api/remove?url=http://127.0.0.1:1/a.jpg").status_code == 405
        assert client.post("/api/remove", data={"url": "http://127.0.0.1:1/a.jpg"}).status_code == 400


class TestOsam:
    """Requests and answers through osam's own classes."""

    def ask(self, client: httpx.Client, points: list, labels: list) -> osam.types.GenerateResponse:
        prompt = osam.types.Prompt(points=np.array(points), point_labels=np.array(labels))
        request = {
            "model": "pocket",
            "image": base64.b64encode(jpeg(cat())).decode(),
            "prompt": json.loads(prompt.model_dump_json()),
        }
        answer = client.post("/api/generate", json=request)
        assert answer.status_code == 200, answer.text
        content = answer.json()
        for one in content["annotations"]:
            data = base64.b64decode(one["mask"])
            one["mask"] = np.asarray(Image.open(io.BytesIO(data))) > 0
        return osam.types.GenerateResponse(**content)

    def test_points_and_the_corners_of_a_box(self, client: httpx.Client, model: mobilesam.Model) -> None:
        embedding = model.embed(jpeg(cat()))
        for points, labels, prompt in (
            ([[210, 140]], [1], mobilesam.Prompt([[210, 140]])),
            ([[5, 0], [370, 295]], [2, 3], mobilesam.Prompt(box=[5, 0, 370, 295])),
            (
                [[210, 140], [5, 0], [370, 295]],
                [1, 2, 3],
                mobilesam.Prompt([[210, 140]], box=[5, 0, 370, 295]),
            ),
        ):
            (found,) = self.ask(client, points, labels).annotations
            whole = np.zeros((300, 451), bool)
            box = found.bounding_box
            whole[box.ymin : box.ymax + 1, box.xmin : box.xmax + 1] = found.mask
            assert np.array_equal(whole, model.segment(embedding, prompt).mask)

    @pytest.mark.parametrize(
        "change",
        [
            {"image": None},
            {"image": "no base64!"},
            {"prompt": {"points": [[1, 1]], "point_labels": []}},
            {"prompt": {"points": [[1, 1]], "point_labels": [2]}},
            {"prompt": {"points": [[1, 1]], "point_labels": [5]}},
            {"prompt": {"texts": ["a dog"]}},
            {"prompt": None},
            {"prompt": {"points": [[9999, 1]], "point_labels": [1]}},
        ],
        ids=str,
    )
    def test_what_cannot_be_meant(self, client: httpx.Client, change: dict) -> None:
        request = {"model": "pocket", "image": base64.b64encode(jpeg(cat())).decode()}
        request |= {"prompt": {"points": [[9, 9]], "point_labels": [1]}} | change
        assert client.post("/api/generate", json=request).status_code in (400, 422)


class TestLabelStudio:
    """What Label Studio 1.23 sends, and its converter's own decoder for what comes back."""

    def predict(self, client: httpx.Client, clicks: list, image: str) -> httpx.Response:
        body = {
            "tasks": [{"id": 3, "data": {"picture": image}}],
            "project": "1.1700000000",
            "label_config": CONFIG,
            "params": {"login": None, "password": None, "context": {"result": clicks}},
        }
        return client.post("/predict", json=body)

    def click(self, x: float, y: float, *, is_positive: bool = True) -> dict:
        value = {"x": x, "y": y, "width": 0.3, "keypointlabels": ["cat"]}
        return {
            "id": "abc",
            "type": "keypointlabels",
            "value": value,
            "is_positive": is_positive,
            "from_name": "point",
            "to_name": "img",
            "original_width": 451,
            "original_height": 300,
        }

    def test_it_is_alive_and_set_up(self, other: httpx.Client) -> None:
        assert other.get("/health").json()["status"] == "UP"
        setup = {
            "project": "1.17",
            "schema": CONFIG,
            "hostname": "http://localhost:8080",
            "access_token": "t",
        }
        assert other.post("/setup", json=setup).json() == {"model_version": "pocket-7"}

    def test_clicks_become_a_brushed_mask(self, other: httpx.Client, model: mobilesam.Model) -> None:
        clicks = [self.click(46.6, 46.6), self.click(2.0, 2.0, is_positive=False)]
        answer = self.predict(other, clicks, "/data/upload/1/a%20cat.jpg")
        assert answer.status_code == 200, answer.text
        (found,) = answer.json()["results"]
        (result,) = found["result"]
        assert (result["from_name"], result["to_name"]) == ("brush", "img")
        assert result["value"]["brushlabels"] == ["cat"] and found["model_version"] == "pocket-7"
        flat = brush.decode_rle(result["value"]["rle"])
        mask = flat.reshape(result["original_height"], result["original_width"], 4)[..., 3] > 0
        embedding = model.embed(jpeg(cat()))
        points = [[0.466 * 451, 0.466 * 300], [0.02 * 451, 0.02 * 300]]
        assert np.array_equal(mask, model.segment(embedding, mobilesam.Prompt(points, [1, 0])).mask)

    def test_a_rectangle(self, other: httpx.Client) -> None:
        value = {"x": 1.0, "y": 0, "width": 80.0, "height": 98.0, "rectanglelabels": ["cat"], "rotation": 0}
        answer = self.predict(
            other, [{"type": "rectanglelabels", "value": value}], "/data/local-files/?d=upload/1/a%20cat.jpg"
        )
        (result,) = answer.json()["results"][0]["result"]
        assert result["value"]["brushlabels"] == ["cat"]

    def test_without_a_click_nothing(self, other: httpx.Client) -> None:
        body = {"tasks": [{"data": {"picture": "x"}}] * 2, "label_config": CONFIG, "params": {}}
        assert [one["result"] for one in other.post("/predict", json=body).json()["results"]] == [[], []]

    @pytest.mark.parametrize(
        "image",
        [
            "http://127.0.0.1:1/a.jpg",
            "/data/upload/../../../etc/passwd",
            "/data/local-files/?d=/etc/passwd",
            "/data/local-files/?d=..%2f..%2fetc%2fpasswd",
            "file:///etc/passwd",
            "/data/upload/1/none.jpg",
            "data:image/png;base64,AAAA",
        ],
    )
    def test_no_other_file_and_no_address_is_read(self, other: httpx.Client, image: str) -> None:
        answer = self.predict(other, [self.click(50, 50)], image)
        assert answer.status_code in (400, 415, 422), answer.text
        assert "root:" not in answer.text

    def test_without_the_folder_it_says_what_to_do(self, client: httpx.Client) -> None:
        answer = self.predict(client, [self.click(50, 50)], "/data/upload/1/a.jpg")
        assert "--label-studio-media" in answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        "config", ["<View/>", "no xml", '<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "<View>" * 500]
    )
    def test_configurations_that_do_not_fit(self, other: httpx.Client, config: str) -> None:
        body = {"tasks": [{"data": {"picture": "x"}}], "label_config": config}
        body["params"] = {"context": {"result": [self.click(5, 5)]}}
        assert other.post("/predict", json=body).status_code == 400

    @pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 60), (300, 451)])
    @pytest.mark.parametrize("kind", ["noise", "empty", "full", "part"])
    def test_run_lengths_are_read_by_its_own_decoder(self, shape: tuple[int, int], kind: str) -> None:
        noise = np.random.default_rng(0).random((40, 60))[: shape[0], : shape[1]] > 0.5
        mask = np.zeros(shape, bool)
        if kind == "noise":
            mask[: noise.shape[0], : noise.shape[1]] = noise
        elif kind != "empty":
            mask[1 if kind == "part" else 0 :] = True
        flat = brush.decode_rle(mask_to_brush(mask))
        assert np.array_equal(flat.reshape(*shape, 4)[..., 3] > 0, mask)


class TestCvat:
    """The folder that nuclio deploys, called as nuclio calls it."""

    def test_the_function_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "function"
        assert run(["export", "cvat", "--out", str(folder)]) == 0
        assert sorted(one.name for one in folder.iterdir()) == ["function.yaml", "main.py"]
        assert "{" not in (folder / "function.yaml").read_text() and "type: interactor" in FUNCTION
        namespace: dict = {}
        exec(compile((folder / "main.py").read_text(), "main.py", "exec"), namespace)
        context = SimpleNamespace(user_data=SimpleNamespace(), Response=SimpleNamespace)
        namespace["init_context"](context)
        image = base64.b64encode(jpeg(cat())).decode()
        body = {"image": image, "pos_points": [[210, 140]], "neg_points": [[9, 9]], "threshold": 0.5}
        answer = namespace["handler"](context, SimpleNamespace(body=json.dumps(body).encode()))
        content = json.loads(answer.body)
        mask = np.array(content["mask"])
        assert answer.status_code == 200 and mask.shape == (300, 451) and mask[140, 210] == 1
        assert len(content["points"]) > 3
        body = {"image": image, "pos_points": [], "neg_points": [], "obj_bbox": [[5, 0], [370, 295]]}
        boxed = namespace["handler"](context, SimpleNamespace(body=body))
        assert boxed.status_code == 200 and np.array(json.loads(boxed.body)["mask"]).any()
        for bad in ({}, {"image": "!"}, {"image": image}, {"image": image, "pos_points": [[9999, 1]]}, b"{"):
            assert namespace["handler"](context, SimpleNamespace(body=bad)).status_code == 400
        shutil.rmtree(folder)
