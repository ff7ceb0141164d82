"""What was found in one image, in the form that ultralytics' users know."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from mobilesam.compat.ultralytics.boxes import Boxes
from mobilesam.compat.ultralytics.drawing import draw_result, encode_image, show_image
from mobilesam.compat.ultralytics.masks import EachMask, HasMask, Masks
from mobilesam.compat.ultralytics.numpy_backed import NumpyBacked, chosen
from mobilesam.core.arrays import ArrayLike, Image, Size
from mobilesam.core.errors import ConfigError, missing_extra
from mobilesam.formats.image import image_to_png
from mobilesam.formats.yolo import masks_to_yolo_lines
from mobilesam.storage.atomic import write_bytes

PHASES = ("preprocess", "inference", "postprocess")


@dataclass(frozen=True)
class FoundObject:
    """One mask of an image.

    Attributes:
        number: of the object among the prompts, or among what was found; its class.
        score: predicted IoU.
        what: the mask.
    """

    number: int
    score: float
    what: HasMask


class Results(NumpyBacked):
    """The masks and boxes of one image; a sequence of results with one mask each.

    Where ``predict`` found nothing, ``masks`` is (0, H, W) and ``boxes`` has length 0. ``masks`` is None in a
    result that was made without masks. ``probs``, ``keypoints`` and ``obb`` are always None.

    Args:
        orig_img: (H, W, 3) uint8 BGR.
        path: of the image's file.
        names: what the classes are called.
        boxes: (N, 6) x0, y0, x1, y1, score, class.
        masks: (N, H, W).
        probs: None.
        keypoints: None.
        obb: None.
        speed: milliseconds of each phase.

    Attributes:
        orig_shape: (height, width).
        save_dir: folder that files were written to, or None.

    Raises:
        ConfigError: for shapes that do not fit together.

    Example:
        >>> image, mask = np.zeros((6, 8, 3), np.uint8), np.ones((1, 6, 8), bool)
        >>> result = Results(image, "a.jpg", {0: "leaf"}, [[0, 0, 8, 6, 0.9, 0]], mask)
        >>> len(result), result.verbose(), result.summary()[0]["box"]
        (1, '1 leaf, ', {'x1': 0.0, 'y1': 0.0, 'x2': 8.0, 'y2': 6.0})
    """

    probs = keypoints = obb = None

    def __init__(
        self,
        orig_img: Image,
        path: str,
        names: Mapping[int, str],
        boxes: ArrayLike = None,
        masks: ArrayLike = None,
        probs: None = None,
        keypoints: None = None,
        obb: None = None,
        speed: Mapping[str, float] | None = None,
    ) -> None:
        self.orig_img = orig_img
        self.path = path
        self.names = dict(names)
        self.speed: dict[str, float | None] = {**dict.fromkeys(PHASES), **(speed or {})}
        self.save_dir: str | None = None
        self.boxes = Boxes(np.zeros((0, 6)), self.orig_shape)
        self.masks: Masks | None = None
        self.update(boxes, masks, probs, obb, keypoints)

    @classmethod
    def of(
        cls,
        objects: Sequence[FoundObject],
        orig_img: Image,
        path: str,
        names: Mapping[int, str],
        speed: Mapping[str, float],
    ) -> Results:
        """Return the result with what was found; masks are not looked at yet."""
        result = cls(orig_img, path, names, speed=speed)
        result.masks = Masks.of([one.what for one in objects], result.orig_shape)
        if objects:
            result.boxes = Boxes(partial(objects_to_rows, objects), result.orig_shape)
        return result

    @property
    def orig_shape(self) -> Size:
        """(height, width) of the image."""
        return self.orig_img.shape[0], self.orig_img.shape[1]

    def __len__(self) -> int:
        return len(self.boxes) if self.masks is None else len(self.masks)

    def __getitem__(self, index: Any) -> Results:
        numbers = chosen(index, len(self))
        result = self.new()
        result.masks = None if self.masks is None else self.masks[numbers]
        result.boxes = self.boxes[numbers]
        return result

    def __iter__(self) -> Iterator[Results]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Results({self.path!r}, {width} x {height}, {len(self)} masks)"

    def update(
        self,
        boxes: ArrayLike = None,
        masks: ArrayLike = None,
        probs: None = None,
        obb: None = None,
        keypoints: None = None,
    ) -> None:
        """Replace the boxes, the masks or both.

        Raises:
            ConfigError: for shapes that do not fit together, or for anything that a segmentation does not have.
        """
        for name, value in (("probs", probs), ("obb", obb), ("keypoints", keypoints)):
            if value is not None:
                raise ConfigError(f"{name}: is given; a segmentation has masks and boxes")
        new_boxes, new_masks = self.boxes, self.masks
        if boxes is not None:
            new_boxes = boxes if isinstance(boxes, Boxes) else Boxes(boxes, self.orig_shape)
        if masks is not None:
            new_masks = masks if isinstance(masks, Masks) else Masks(masks, self.orig_shape)
            if boxes is None and len(new_boxes) == 0:
                new_boxes = Boxes(masks_to_rows(new_masks), self.orig_shape)
        elif new_boxes and not new_masks:
            new_masks = None  # boxes alone, where nothing was found before
        if new_masks is not None and len(new_boxes) != len(new_masks):
            raise ConfigError(
                f"boxes, masks: {len(new_boxes)} and {len(new_masks)}; give one box for each mask"
            )
        self.boxes, self.masks = new_boxes, new_masks

    def new(self) -> Results:
        """Return a result of the same image with nothing found."""
        result = Results(self.orig_img, self.path, self.names)
        result.speed, result.save_dir = dict(self.speed), self.save_dir
        return result

    def plot(
        self,
        conf: bool = True,
        line_width: int | None = None,
        font_size: float | None = None,
        *,
        pil: bool = False,
        img: np.ndarray | None = None,
        labels: bool = True,
        boxes: bool = True,
        masks: bool = True,
        show: bool = False,
        save: bool = False,
        filename: str | Path | None = None,
    ) -> Any:
        """Return the image with masks, boxes and labels drawn in, (H, W, 3) uint8 BGR.

        Args:
            conf: scores in the labels.
            line_width: of the boxes, in pixels.
            font_size: of the labels, in pixels.
            pil: a PIL image (RGB) instead.
            img: (H, W, 3) uint8 BGR to draw on instead of the image.
            labels: names at the boxes.
            boxes: draw boxes, with their labels.
            masks: draw masks.
            show: also open a window.
            save: also write it.
            filename: where to; see :meth:`save`.

        Raises:
            ConfigError: for an ``img`` of another size.
            OutputError: if it cannot be shown or written.
        """
        ground = self.orig_img if img is None else np.asarray(img)
        if ground.shape != (*self.orig_shape, 3) or ground.dtype != np.uint8:
            raise ConfigError(
                f"img: has shape {ground.shape} and type {ground.dtype}; must be {(*self.orig_shape, 3)} uint8 BGR"
            )
        texts = [self._label(row, conf) if labels else "" for row in self.boxes.data] if boxes else []
        rgb = draw_result(
            ground[..., ::-1],
            EachMask(self.masks.objects if self.masks is not None and masks else ()),
            self.boxes.xyxy if boxes else np.zeros((0, 4)),
            texts,
            width=line_width,
            font_size=font_size,
        )
        if show:
            show_image(rgb, self.path)
        if save:
            self._write(rgb, filename)
        return PillowImage.fromarray(rgb) if pil else np.ascontiguousarray(rgb[..., ::-1])

    def _label(self, row: np.ndarray, conf: bool) -> str:
        return f"{self._name(row[-1])} {row[-2]:.2f}" if conf else self._name(row[-1])

    def _name(self, number: float) -> str:
        return str(self.names.get(int(number), int(number)))

    def show(self, **options: Any) -> None:
        """Open a window with the drawing; options are those of :meth:`plot`.

        Raises:
            OutputError: if there is no display.
        """
        self.plot(**{**options, "show": True})

    def save(self, filename: str | Path | None = None, **options: Any) -> str:
        """Write the drawing, in the format of the file's ending, and return where.

        Args:
            filename: by default ``results_`` and the image's own name, in the current folder.
            options: of :meth:`plot`.

        Raises:
            ConfigError: for an ending that is not written.
            OutputError: if the file cannot be written.
        """
        pil = self.plot(**{**options, "pil": True})
        return self._write(np.asarray(pil), filename)

    def _write(self, rgb: Image, filename: str | Path | None) -> str:
        path = Path(f"results_{Path(self.path).stem}.jpg" if filename is None else filename)
        write_bytes(path, encode_image(rgb, path.suffix, str(path)))
        return str(path)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Write a line for each mask, ``class x1 y1 x2 y2 ...`` in 0..1, and return where.

        The outline goes through the mask's outermost pixels, so that training fills the mask, see
        :mod:`mobilesam.formats.yolo`; ``masks.xyn`` goes around them. It is one ring, with bridges to
        further regions and holes. An empty mask has no line; without masks the lines are
        ``class x y width height``.
        An existing file is replaced.

        Args:
            txt_file: the file.
            save_conf: the score at the end of each line.

        Raises:
            OutputError: if it cannot be written.
        """
        numbers = self.boxes.data[:, -1].astype(int).tolist()
        scores = self.boxes.data[:, -2].tolist() if save_conf else None
        if self.masks is None:
            ends = [""] * len(numbers) if scores is None else [f" {score:g}" for score in scores]
            boxes = [" ".join(f"{value:g}" for value in box) for box in self.boxes.xywhn.tolist()]
            lines = [f"{number} {box}{end}" for number, box, end in zip(numbers, boxes, ends, strict=True)]
        else:
            lines = masks_to_yolo_lines(EachMask(self.masks.objects), numbers, scores=scores)
        write_bytes(txt_file, "".join(f"{line}\n" for line in lines).encode())
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> list[str]:
        """Write the part of the image in each box to ``save_dir/CLASS/file_name``, and return where.

        A number is added to a name that is taken. Boxes without area have no file.

        Raises:
            OutputError: if a file cannot be written.
        """
        written = []
        for row in self.boxes.data:
            x0, y0, x1, y1 = (int(v) for v in row[:4])
            crop = self.orig_img[max(y0, 0) : y1, max(x0, 0) : x1, ::-1]
            if not crop.size:
                continue
            folder = Path(save_dir) / self._name(row[-1]).replace("/", "_").replace("\\", "_")
            name = Path(Path(file_name).name).with_suffix(".jpg")
            paths = (folder / f"{name.stem}{i if i > 1 else ''}.jpg" for i in count(1))
            path = next(p for p in paths if not p.exists())
            write_bytes(path, encode_image(crop, path.suffix, str(path)), overwrite=False)
            written.append(str(path))
        return written

    def verbose(self) -> str:
        """Return how many masks of each class there are, as part of a line."""
        counts = Counter(self._name(number) for number in self.boxes.cls)
        if not counts:
            return "(no detections), "
        return "".join(f"{n} {name}{'s' if n > 1 else ''}, " for name, n in counts.items())

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return a dictionary for each mask: name, class, confidence, box and the outline's segments.

        Args:
            normalize: coordinates in 0..1 of the image's sides.
            decimals: of all numbers.
        """
        boxes = self.boxes.xyxyn if normalize else self.boxes.xyxy
        rings = None if self.masks is None else (self.masks.xyn if normalize else self.masks.xy)
        records = []
        for i, row in enumerate(self.boxes.data):
            numbers = (round(float(v), decimals) for v in boxes[i])
            record: dict[str, Any] = {
                "name": self._name(row[-1]),
                "class": int(row[-1]),
                "confidence": round(float(row[-2]), decimals),
                "box": dict(zip(("x1", "y1", "x2", "y2"), numbers, strict=True)),
            }
            if self.boxes.is_track:
                record["track_id"] = int(row[4])
            if rings is not None:
                columns = rings[i].astype(float).round(decimals).T.tolist()
                record["segments"] = dict(zip(("x", "y"), columns, strict=True))
            records.append(record)
        return records

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Return :meth:`summary` as a pandas table.

        Raises:
            MissingExtraError: if pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise missing_extra("to_df", "tables") from error
        return pandas.DataFrame(self.summary(normalize, decimals))

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return :meth:`summary` as comma-separated text with a line of names; boxes and segments are JSON."""
        records = self.summary(normalize, decimals)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(records[0]) if records else [], lineterminator="\n")
        if records:
            writer.writeheader()
        for record in records:
            writer.writerow({k: json.dumps(v) if isinstance(v, dict) else v for k, v in record.items()})
        return text.getvalue()

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return :meth:`summary` as JSON."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    tojson = to_json

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the drawing."""
        return image_to_png(np.asarray(self.plot(pil=True)))


def objects_to_rows(objects: Sequence[FoundObject]) -> np.ndarray:
    """Return the rows (N, 6) of objects: box, score and class."""
    return np.array([[*one.what.box, one.score, one.number] for one in objects], np.float32)


def masks_to_rows(masks: Masks) -> np.ndarray:
    """Return rows (N, 6) for masks without other information: score 1, each a class of its own."""
    rows = [[*one.box, 1.0, i] for i, one in enumerate(masks.objects)]
    return np.array(rows, np.float32).reshape(-1, 6)
