"""Every reader of files, as a function of bytes, with small valid inputs to begin from."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

MAX_PIXELS = 1_000_000  # small enough that a size which only the header has is no work
RECIPES = Path(__file__).parents[2] / "recipes"


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        read: takes any bytes; what it raises is judged.
        seeds: valid inputs.
        grammar: words of the format, of which inputs are put together too.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    grammar: tuple[str, ...] = ()


@cache
def folder() -> Path:
    """Where readers of paths find their input, in memory where there is such a place."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=shared if shared.is_dir() else None))


def as_file(data: bytes, name: str) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def read_picture(data: bytes) -> None:
    from mobilesam.formats.image import read_with_remarks

    read_with_remarks(data, max_pixels=MAX_PIXELS)


def read_mask(data: bytes) -> None:
    from mobilesam.formats.image import decode_mask

    decode_mask(data, max_pixels=MAX_PIXELS)


def read_tiff(data: bytes) -> None:
    """The first bytes are put right, so that no input is lost for want of them."""
    data = (data[:4] if data[:2] in (b"II", b"MM") else b"II*\0") + data[4:]
    try:
        read_picture(data)
    finally:
        read_mask(data)


def read_video(data: bytes) -> None:
    from mobilesam.formats.video import read_frames

    for number, _ in read_frames(as_file(data, "a.mp4"), max_pixels=MAX_PIXELS):
        if number >= 8:
            break


def read_prompts(data: bytes) -> None:
    from mobilesam.formats.prompt_file import parse_prompts

    parse_prompts(data.decode("utf-8", "replace"), name="a.json", folder=folder())


def read_coco(data: bytes) -> None:
    from mobilesam.formats.datasets.photos import read_photos

    (folder() / "images").mkdir(exist_ok=True)
    as_file(b"", "images/a.png")
    as_file(data, "instances.json")
    read_photos(folder())


def read_rle(data: bytes) -> None:
    from mobilesam.core.rle import dict_to_rle, rle_to_mask

    height, width = (data[0], data[1]) if len(data) > 1 else (1, 1)
    rle_to_mask(dict_to_rle({"size": [height, width], "counts": data[2:]}))


def read_recipe(data: bytes) -> None:
    from mobilesam.train.recipe import read_recipe as read

    read(as_file(data, "a.toml"))


def read_checkpoint(data: bytes) -> None:
    from mobilesam.weights import read_tensors

    read_tensors(as_file(data, "a.pt" if data[:1] in (b"P", b"\x80") else "a.safetensors"))


def read_onnx(data: bytes) -> None:
    from mobilesam.runtimes.onnx_file import open_onnx_file

    open_onnx_file(as_file(data, "a.onnx"), threads=1)


def read_labels(name: str) -> Callable[[bytes], object]:
    """Return a reader of a set whose one file of labels is the input; in a record, right checksums are made."""

    def read(data: bytes) -> None:
        from mobilesam.formats.datasets.load import read_dataset

        read_dataset(as_labels(data, name), format=name)

    return read


def as_labels(data: bytes, name: str) -> Path:
    """Lay an input where a format's labels of ``a.png`` stand."""
    set_folder = folder() / name
    if not set_folder.exists():
        for below in ("images", *(Path(file).parent for file in LABEL_FILES.values())):
            (set_folder / below).mkdir(parents=True, exist_ok=True)
        PillowImage.new("RGB", (9, 8)).save(set_folder / "images" / "a.png")
        (set_folder / "data.yaml").write_text("path: .\ntrain: images\nnames: [c]\n")
    if name == "record":
        data = b"".join(map(framed, data.decode("utf-8", "replace").splitlines()))
    path = set_folder / LABEL_FILES[name]
    path.write_bytes(data)
    return set_folder if name in ("record", "yolo") else path


LABEL_FILES = {
    "cvat": "annotations.xml",
    "labelme": "labelme/a.json",
    "record": "record.jsonl",
    "sa1b": "sa1b/a.json",
    "voc": "Annotations/a.xml",
    "yolo": "labels/a.txt",
}


def framed(body: str) -> bytes:
    """Return a line of a record with the right checksum, so that no input is lost for want of it."""
    from mobilesam.formats.datasets.record import _checksum

    return f'{{"checksum":"{_checksum(body)}","line":{body}}}\n'.encode()


def read_session(data: bytes) -> None:
    from mobilesam.core.errors import PromptError
    from mobilesam.formats.json_text import read_json
    from mobilesam.segment.session import check_session

    text = data.decode("utf-8", "replace")
    check_session(read_json(text, "a.json", lambda message, code: PromptError(message)), "a.json")


def picture_seeds() -> list[bytes]:
    from tests.hostile.image_files import SMALL, TINY_HEIC
    from tests.hostile.image_parts import bmp, encoded, picture

    small = picture()[::4, ::4]
    runs = bmp(16, 16, b"\x10\x05\0\0" * 16 + b"\0\1", depth=8, compression=1)
    progressive = encoded(small, "JPEG", progressive=True)
    return [*(make() for make in SMALL.values()), TINY_HEIC, runs, progressive]


def tiff_seeds() -> list[bytes]:
    from tests.hostile.image_tiff import BLACK_IS_ZERO, DEFLATE, LZW, NONE, RGB, Form, tiff_of

    made = []
    for dtype, samples, photometric in (
        ("u1", 3, RGB),
        ("u2", 4, RGB),
        ("u2", 1, BLACK_IS_ZERO),
        ("i2", 1, 0),
    ):
        values = np.arange(18 * 20 * samples).reshape(18, 20, samples).astype(dtype)
        for packing, planar, tiled, order in (
            (NONE, True, False, "<"),
            (LZW, False, True, ">"),
            (DEFLATE, True, False, ">"),
        ):
            made.append(
                tiff_of(
                    values, Form(photometric, planar, packing, tiled, order, predictor=2 - (packing == NONE))
                )
            )
    return made


def video_seeds() -> list[bytes]:
    from tests.videos import write_video

    frames = [np.full((32, 48, 3), shade, np.uint8) for shade in (20, 90, 160)]
    kinds = (
        *(("mp4", "mpeg4"), ("mkv", "mpeg4"), ("avi", "mpeg4"), ("webm", "libvpx"), ("mov", "libx264")),
        *(("ts", "mpeg2video"), ("mpg", "mpeg1video"), ("flv", "flv"), ("wmv", "wmv2")),
    )
    return [write_video(folder() / f"seed.{end}", frames, codec).read_bytes() for end, codec in kinds]


def prompt_seeds() -> list[bytes]:
    objects = [
        {"points": [[1, 2], [3, 4]], "labels": [1, 0]},
        {"box": [1, 2, 30, 40]},
        {"mask": {"size": [4, 4], "counts": [3, 4, 9]}},
        {"mask": {"size": [4, 4], "counts": "349"}},
        {"mask": "coarse.png"},
    ]
    contents = [{"version": 1, "objects": [one]} for one in objects] + [
        {"version": 1, "texts": ["a dog", "leash"]}
    ]
    return [json.dumps(content).encode() for content in contents]


def coco_seeds() -> list[bytes]:
    from mobilesam.core.rle import mask_to_rle

    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:7] = True
    rle = mask_to_rle(mask)
    made = []
    for compressed in (False, True):
        record = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 12, "bbox": [3, 2, 4, 3]}
        record["segmentation"] = rle.to_dict(compressed=compressed)
        image = {"id": 1, "file_name": "a.png", "width": 9, "height": 8, "source": "b"}
        made.append(
            json.dumps(
                {"images": [image], "annotations": [record], "categories": [{"id": 1, "name": "c"}]}
            ).encode()
        )
    return made


def label_seeds(name: str) -> Callable[[], list[bytes]]:
    """Return what makes a format's file of a small set, as we write it."""

    def seeds() -> list[bytes]:
        from mobilesam.core.rle import mask_to_rle
        from mobilesam.formats.datasets.load import write_dataset
        from mobilesam.formats.datasets.model import LabelledObject, LabelledPhoto, make_dataset
        from mobilesam.formats.datasets.record import Head, head_to_line, photo_to_line

        mask = np.zeros((8, 9), bool)
        mask[2:5, 3:7] = True
        objects = (
            LabelledObject("c", (3.0, 2.0, 7.0, 5.0), mask_to_rle(mask), score=0.5, id=1),
            LabelledObject("c", (1.0, 1.0, 8.0, 7.0), id=2),
        )
        dataset = make_dataset([LabelledPhoto("a.png", (8, 9), objects)])
        if name == "cvat":
            return [CVAT]
        if name == "record":
            lines = [head_to_line(Head(dataset.categories, {})), *map(photo_to_line, dataset.photos)]
            return [b"".join(line[line.index(b'"line":') + 7 : -2] + b"\n" for line in lines)]
        out = Path(tempfile.mkdtemp(dir=folder()))
        return [
            p.read_bytes()
            for p in write_dataset(dataset, out, [name])
            if p.name == Path(LABEL_FILES[name]).name
        ]

    return seeds


CVAT = b"""<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels><label>
<name>c</name></label></labels></task></meta><image id="0" name="a.png" width="9" height="8">
<box label="c" xtl="1" ytl="1" xbr="8" ybr="7"/><polygon label="c" points="1,1;8,1;8,7"/>
<mask label="c" rle="2, 3, 4" left="1" top="1" width="3" height="3"/></image></annotations>"""


def session_seeds() -> list[bytes]:
    history = [
        {"point": [21.0, 14.0], "label": 1},
        {"box": [1, 2, 30, 40]},
        {"stroke": [[1, 1], [5, 9]], "width": 4, "label": 0},
        {"mask": {"size": [4, 4], "counts": [3, 4, 9]}},
        {"choose": 2},
        {"clear": True},
    ]
    return [
        json.dumps(
            {
                "version": 1,
                "model": "pocket-7",
                "image": "0" * 64,
                "size": [40, 50],
                "actions": history,
                "position": n,
            }
        ).encode()
        for n in (0, 6)
    ]


def rle_seeds() -> list[bytes]:
    return [bytes([4, 4]) + b"349", bytes([200, 100]) + b"0PQc0000`oNPPP1", bytes([0, 0])]


def recipe_seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted(RECIPES.glob("*.toml"))]


def checkpoint_seeds() -> list[bytes]:
    import torch
    from safetensors.numpy import save

    tensors = {"a.weight": np.ones((2, 3), np.float32), "b": np.arange(4, dtype=np.float16)}
    made = [save(tensors)]
    for old in (False, True):
        buffer = io.BytesIO()
        as_torch = {name: torch.from_numpy(array) for name, array in tensors.items()}
        torch.save({"model": as_torch}, buffer, _use_new_zipfile_serialization=not old)
        made.append(buffer.getvalue())
    return made


def onnx_seeds() -> list[bytes]:
    from onnx import TensorProto, helper

    shape = [1, 3, 8, 8]
    one, two = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "found"))
    weight = helper.make_tensor("ones", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 2.0, 3.0])
    graph = helper.make_graph(
        [helper.make_node("Add", ["images", "ones"], ["found"])], "g", [one], [two], [weight]
    )
    return [
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
        ).SerializeToString()
    ]


LABEL_WORDS = {
    ".xml": (
        "<object>",
        "</bndbox>",
        "<!DOCTYPE a [",
        "&a;",
        'points="',
        'rle="',
        "NaN",
        "1e999",
        "-1",
        "<!--",
    ),
    ".json": (
        '"points"',
        '"shapes"',
        '"counts"',
        '"size"',
        "NaN",
        "1e999",
        "null",
        "-1",
        "[]",
        "{}",
        '"../b"',
    ),
    ".jsonl": ('"mask"', '"box"', '"facts"', "NaN", "1e999", "null", "-1", "[]", "{}", '"../b"'),
    ".txt": ("0 0.5", "nan", "inf", "1e999", "-1", "0x1"),
}
TARGETS = {
    "images": Target(read_picture, picture_seeds),
    "masks": Target(read_mask, picture_seeds),
    "tiff": Target(read_tiff, tiff_seeds),
    "videos": Target(read_video, video_seeds),
    "prompts": Target(
        read_prompts,
        prompt_seeds,
        (
            '"points"',
            '"labels"',
            '"box"',
            '"mask"',
            '"counts"',
            '"size"',
            "NaN",
            "1e999",
            "null",
            "[[",
            "]]",
            "{}",
        ),
    ),
    "coco": Target(
        read_coco,
        coco_seeds,
        (
            '"images"',
            '"annotations"',
            '"segmentation"',
            '"counts"',
            '"bbox"',
            "NaN",
            "1e999",
            "null",
            "-1",
            "[]",
            "{}",
            '"../b"',
        ),
    ),
    **{
        name: Target(read_labels(name), label_seeds(name), LABEL_WORDS[ending])
        for name, ending in {one: Path(file).suffix for one, file in LABEL_FILES.items()}.items()
    },
    "sessions": Target(read_session, session_seeds, LABEL_WORDS[".json"]),
    "rle": Target(read_rle, rle_seeds),
    "recipes": Target(
        read_recipe,
        recipe_seeds,
        ("[[sets]]", "[[stages]]", "nan", "-inf", "true", "[]", "{}", "= 1e999", "= -1", '= ""'),
    ),
    "checkpoints": Target(
        read_checkpoint,
        checkpoint_seeds,
        ("PK\\x03\\x04", "\\x80\\x02", "data.pkl", '"dtype"', '"F32"', '"shape"', '"data_offsets"'),
    ),
    "onnx": Target(read_onnx, onnx_seeds),
}
