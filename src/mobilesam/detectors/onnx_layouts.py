"""Object detectors given as ONNX files: how each family lays out its inputs and outputs.

None of them comes with the package, and none of their makers' code is needed: a layout says
how the image is put into the input, and where boxes and scores stand in the outputs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobilesam.core.arrays import Image, NamedArrays, Size
from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.frame import input_size_of
from mobilesam.core.resize import resize_image
from mobilesam.core.types import Embedding
from mobilesam.detectors.base import Boxes
from mobilesam.runtimes.onnx_file import OnnxFile, open_onnx_file

PAD_GREY = 114  # what YOLO's detectors see where there is no image
YOLOX_STRIDES = (8, 16, 32)
DEFAULT_SIDE = 640  # of inputs whose size the file leaves open
BOX_VALUES = 4
MAX_NAMES = 2**20  # characters of the classes' names in a file
TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}  # of a detector's input

Outputs = list[np.ndarray]
# Boxes (N, 4) xyxy in pixels of the input, scores (N,), classes (N,) or None.
Decoded = tuple[np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Layout:
    """One family's way in and out.

    Attributes:
        about: which detectors have it.
        recognise: whether outputs of these shapes are its own.
        decode: turns the outputs and the input's (height, width) into boxes, scores and classes.
        letterbox: whether the image keeps its proportions in the input; if not, it is stretched.
        centred: whether a letterboxed image lies in the middle; if not, at the top left.
        bgr: whether blue comes first.
        scale: what 255 becomes.
    """

    about: str
    recognise: Callable[[list[tuple[int, ...]], Size], bool]
    decode: Callable[[Outputs, Size], Decoded]
    letterbox: bool = True
    centred: bool = False
    bgr: bool = False
    scale: float = 255.0


def is_yolov8(shapes: list[tuple[int, ...]], size: Size) -> bool:
    """(1, 4 + classes, cells), followed by prototypes of masks in those that segment."""
    return len(shapes[0]) == 3 and BOX_VALUES < shapes[0][1] < shapes[0][2]


def decode_yolov8(outputs: Outputs, size: Size) -> Decoded:
    """Middle, width and height in pixels, then a score for each class, then mask coefficients."""
    rows = outputs[0][0].T
    masks = outputs[1].shape[1] if len(outputs) > 1 and outputs[1].ndim == 4 else 0
    scores = rows[:, BOX_VALUES : rows.shape[1] - masks]
    return middles_to_corners(rows[:, :BOX_VALUES]), scores.max(1), scores.argmax(1)


def yolox_cells(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return the place (N, 2) and the stride (N, 1) of each of YOLOX's cells."""
    places, strides = [], []
    for stride in YOLOX_STRIDES:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        places.append(np.stack([columns, rows], -1).reshape(-1, 2))
        strides.append(np.full((len(places[-1]), 1), stride))
    return np.concatenate(places), np.concatenate(strides)


def is_yolox(shapes: list[tuple[int, ...]], size: Size) -> bool:
    """(1, cells, 5 + classes), with as many cells as its three strides give."""
    cells = sum((size[0] // s) * (size[1] // s) for s in YOLOX_STRIDES)
    return len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == cells and shapes[0][2] > BOX_VALUES


def decode_yolox(outputs: Outputs, size: Size) -> Decoded:
    """Offset of the middle and log of the sides, in cells; then objectness, then classes.

    Only the objectness is the score: a box of a thing whose class is unsure is also worth segmenting.
    """
    rows = outputs[0][0]
    places, strides = yolox_cells(size)
    middles = (rows[:, :2] + places) * strides
    sides = np.exp(rows[:, 2:BOX_VALUES]) * strides
    return (
        middles_to_corners(np.concatenate([middles, sides], 1)),
        rows[:, BOX_VALUES],
        _likeliest(rows[:, BOX_VALUES + 1 :]),
    )


def _likeliest(classes: np.ndarray) -> np.ndarray | None:
    """Return the likeliest of classes (N, C), if there are any."""
    return classes.argmax(1) if classes.shape[1] else None


def is_ssd(shapes: list[tuple[int, ...]], size: Size) -> bool:
    """Boxes (1, N, 4) and scores (1, N), post-processing inside; perhaps classes and a number too."""
    boxes = [shape for shape in shapes if len(shape) == 3 and shape[-1] == BOX_VALUES]
    return len(boxes) == 1 and any(shape == boxes[0][:2] for shape in shapes)


def decode_ssd(outputs: Outputs, size: Size) -> Decoded:
    """y0, x0, y1, x1 in 0..1; of the outputs with one number for each box, the falling one is the scores."""
    boxes = next(array for array in outputs if array.ndim == 3)[0]
    columns = [array[0] for array in outputs if array.ndim == 2 and array.shape[1] == len(boxes)]
    falling = [column for column in columns if (np.diff(column) <= 0).all() and column.max(initial=0) <= 1]
    scores = max(falling or columns, key=lambda column: len(np.unique(column)))
    height, width = size
    others = [column for column in columns if column is not scores and (column == np.round(column)).all()]
    classes = others[0].astype(np.int64) if others and others[0].min(initial=0) >= 0 else None
    return boxes[:, [1, 0, 3, 2]] * [width, height, width, height], scores, classes


def middles_to_corners(boxes: np.ndarray) -> np.ndarray:
    """Turn middle x, middle y, width, height (N, 4) into x0, y0, x1, y1."""
    middles, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([middles - half, middles + half], 1)


LAYOUTS = {
    "yolox": Layout("YOLOX, undecoded as its own exporter writes it", is_yolox, decode_yolox, bgr=True),
    "ssd": Layout("SSD with its post-processing inside", is_ssd, decode_ssd, letterbox=False),
    "yolov8": Layout("YOLOv8, YOLO11 and FastSAM", is_yolov8, decode_yolov8, centred=True, scale=1.0),
}


class LayoutDetector:
    """A detector over an open ONNX file; see :func:`open_detector`."""

    def __init__(self, file: OnnxFile, layout: str | None) -> None:
        self.file = file
        if len(file.inputs) != 1:
            raise WeightsError(f"{file.path}: has {len(file.inputs)} inputs; a detector has one, the image")
        self._input, shape = next(iter(file.inputs.items()))
        if self.file.types[self._input] not in TYPES:
            kind = self.file.types[self._input]
            raise WeightsError(f"{file.path}: its input is {kind}; a detector's is {' or '.join(TYPES)}")
        self._dtype = TYPES[self.file.types[self._input]]
        self._channels_last = len(shape) == 4 and shape[-1] == 3
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise WeightsError(f"{file.path}: its input is {shape}; wanted (1, 3, height, width)")
        sides = shape[1:3] if self._channels_last else shape[2:]
        self.size = (sides[0] or DEFAULT_SIDE, sides[1] or DEFAULT_SIDE)
        self.layout = layout or self._recognise()

    def find(self, embedding: Embedding, texts: Sequence[str] = ()) -> Boxes:
        """Return every box that the file gives; texts are not read."""
        pixels, scale, corner = self._prepare(embedding.image, LAYOUTS[self.layout])
        boxes, scores, classes = LAYOUTS[self.layout].decode(self._run(pixels), self.size)
        return Boxes((boxes - np.tile(corner, 2)) / np.tile(scale, 2), scores, classes=classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its classes that its maker wrote into the file; empty if there are none."""
        return names_of_classes(self.file.metadata.get("names", ""))

    def _recognise(self) -> str:
        blank = np.full((*self.size, 3), PAD_GREY, np.float32)
        shapes = [array.shape for array in self._run(blank)]
        for name, layout in LAYOUTS.items():
            if layout.recognise(shapes, self.size):
                return name
        raise WeightsError(
            f"{self.file.path}: its outputs {shapes} are not those of a known detector; known are {', '.join(LAYOUTS)}"
        )

    def _prepare(self, image: Image, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the input (h, w, 3), its pixels for one of the image (x, y), and the image's corner in it."""
        original, (height, width) = image.shape[:2], self.size
        h, w = height, width
        if layout.letterbox:
            scale = min(height / original[0], width / original[1])
            h, w = input_size_of(original, max(1, int(scale * max(original) + 0.5)))
            h, w = min(h, height), min(w, width)
        corner = np.array([(width - w) // 2, (height - h) // 2]) if layout.centred else np.zeros(2, int)
        pixels = np.full((height, width, 3), PAD_GREY, np.float32)
        pixels[corner[1] : corner[1] + h, corner[0] : corner[0] + w] = resize_image(image, (h, w))
        if layout.bgr:
            pixels = pixels[..., ::-1]
        return pixels * (layout.scale / 255.0), np.array([w / original[1], h / original[0]]), corner

    def _run(self, pixels: np.ndarray) -> Outputs:
        if not self._channels_last:
            pixels = pixels.transpose(2, 0, 1)
        feed: NamedArrays = {self._input: np.ascontiguousarray(pixels[None], self._dtype)}
        return list(self.file.run(feed).values())


def names_of_classes(text: str) -> tuple[str, ...]:
    """Read the names of classes as exporters write them: a list, or a dictionary by number, in Python's form.

    Example:
        >>> names_of_classes("{0: 'person', 1: 'traffic light'}"), names_of_classes("anything else")
        (('person', 'traffic light'), ())
    """
    if len(text) > MAX_NAMES:
        return ()
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    if isinstance(value, dict) and sorted(value, key=str) == sorted(range(len(value)), key=str):
        value = [value[i] for i in range(len(value))]
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def open_detector(
    path: str | Path, *, layout: str | None = None, threads: int | None = None
) -> LayoutDetector:
    """Open a detector's ONNX file.

    Args:
        path: the file.
        layout: name in ``LAYOUTS``; found out from the outputs' shapes if None.

        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores if None.

    Raises:
        ConfigError: for an unknown layout.
        WeightsError: if the file is missing, damaged or not a detector of a known layout.

    Example:
        >>> boxes = open_detector("yolox_nano.onnx").find(model.embed("photo.jpg"))  # doctest: +SKIP
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r}: unknown; choose one of {', '.join(LAYOUTS)}")
    return LayoutDetector(open_onnx_file(path, threads=threads), layout)
