"""The subject of a photo, without a prompt.

Asked with a box around the whole image, a model returns the ground; what is left is mostly the subject. Where it
is unsure of the ground, because the subject fills the frame, the masks of likely objects stand in. What was found
is asked for again by its box: in the image, in its mirror image and in a window around it. Answers that agree are
averaged; how well they agree says how sure the result is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mobilesam.core.arrays import Image, Logits, Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.frame import Frame
from mobilesam.core.metrics import mask_iou
from mobilesam.core.postprocess import visible_part
from mobilesam.core.prompts import LOW_RES_PER_GRID, names_with
from mobilesam.core.regions import label_runs
from mobilesam.core.rle import mask_to_rle
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Detector, select_boxes
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Segmentation

# Chosen on the sets for training (docs/explanation/subject.md).
SURE_OF_GROUND = 0.85  # predicted IoU of the ground, from which what is left is the subject
GROUND_OBJECTNESS = 0.2  # below it, what is left competes with objects as one that is so likely
MOST_OBJECTS = 40  # boxes that are tried where it is not
LEAST_OBJECTNESS = 0.02
OBJECT_NMS = 0.7
BORDER_COST = 0.7  # of a mask that holds the whole border of the image
AGREES = 0.8  # IoU with the first answer, from which another is averaged with it
CLIPPED = 6.0  # logits count up to this, so that one answer alone does not decide
PART = 0.3  # of the largest region: smaller ones do not count for the box
MARGIN, LEAST_MARGIN = 0.1, 8  # of the window around the box: of its sides, and pixels

MODESTY = 0.08  # by how much masks are better than confidence times agreement says, on the sets for training


def find_subject(predictor: Predictor, embedding: Embedding, detector: Detector) -> Segmentation:
    """Segment the subject; see :meth:`mobilesam.Model.subject`.

    Args:
        predictor: what segments.
        embedding: of the image.
        detector: what finds boxes of objects, asked only where the ground is unsure.
    """
    asker = _Asker(predictor, embedding)
    ground, sure = asker.whole(asker.plain)
    first = -ground
    from_ground = True
    if sure < SURE_OF_GROUND:
        standing = _prominence(first[None], np.array([sure]), np.array([GROUND_OBJECTNESS]))[0]
        likeliest = _likeliest_object(predictor, embedding, detector, standing)
        if likeliest is not None:
            first, sure = likeliest
            from_ground = False
    height, width = embedding.original_size
    box = asker.box_of(first)
    if box is None:
        return asker.result(first, 0.0)
    answers = [asker.box(asker.plain, box)] if from_ground else []
    mirror = asker.look(embedding.image[:, ::-1], mirrored=True)
    answers.append(asker.box(mirror, box))
    if from_ground:
        answers.append(-asker.whole(mirror)[0])
    x0, y0, x1, y1 = box
    across, down = MARGIN * (x1 - x0) + LEAST_MARGIN, MARGIN * (y1 - y0) + LEAST_MARGIN
    left, top = int(max(0, x0 - across)), int(max(0, y0 - down))
    right, bottom = int(min(width, x1 + across)), int(min(height, y1 + down))
    window = asker.look(embedding.image[top:bottom, left:right], corner=(left, top))
    answers.append(asker.box(window, box))
    if from_ground:
        answers.append(-asker.whole(window)[0])
    agreement = np.array([_iou(one, first) for one in answers])
    total = np.clip(first, -CLIPPED, CLIPPED)
    for one, agrees in zip(answers, agreement, strict=True):
        if agrees >= AGREES:
            total = total + np.clip(one, -CLIPPED, CLIPPED)
    joined = total / (1 + np.count_nonzero(agreement >= AGREES))
    return asker.result(joined, min(1.0, sure * float(agreement.mean()) + MODESTY))


def _likeliest_object(
    predictor: Predictor, embedding: Embedding, detector: Detector, at_least: float
) -> tuple[Logits, float] | None:
    """Return the visible logits of the most prominent object, and its predicted IoU; None where none is enough so."""
    boxes = select_boxes(
        detector.find(embedding),
        embedding.original_size,
        confidence=LEAST_OBJECTNESS,
        nms_thresh=OBJECT_NMS,
        most=MOST_OBJECTS,
    )
    if not len(boxes):
        return None
    prompts = [Prompt(box=box) for box in boxes.xyxy]
    valid = predictor.validate(embedding, prompts, [names_with("")] * len(prompts))
    found = predictor.segment(embedding, valid, multimask=False)
    logits = visible_part(np.stack([one.low_res_masks[0] for one in found]), embedding.frame)
    predicted = np.array([one.predicted_iou[0] for one in found])
    prominence = _prominence(logits, predicted, boxes.scores)
    best = int(prominence.argmax())
    return (logits[best], float(predicted[best])) if prominence[best] > at_least else None


def _prominence(logits: Logits, predicted: np.ndarray, objectness: np.ndarray) -> np.ndarray:
    """Return how prominent masks (N, h, w) are: large, well segmented, likely objects, not along the border."""
    inside = logits > 0
    border = np.array([_border_share(one) for one in inside])
    large = np.sqrt(inside.mean((1, 2)))
    return predicted * objectness**0.25 * large * (1 - BORDER_COST * border)


def _border_share(mask: Mask) -> float:
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(border.mean())


def _iou(logits: Logits, others: Logits) -> float:
    return mask_iou(logits > 0, others > 0)


@dataclass(frozen=True)
class _View:
    """A look at the image, or at a part of it.

    Attributes:
        embedding: of what is seen.
        corner: (x, y) of its upper left corner in the image.
        mirrored: whether left and right are swapped.
    """

    embedding: Embedding
    corner: tuple[int, int] = (0, 0)
    mirrored: bool = False

    def box(self, box: tuple[float, float, float, float]) -> list[float]:
        """Return a box of the image as it lies here."""
        x0, y0, x1, y1 = box
        x, y = self.corner
        if self.mirrored:
            width = self.embedding.original_size[1]
            x0, x1 = width - x1, width - x0
        return [x0 - x, y0 - y, x1 - x, y1 - y]


class _Asker:
    """Asks for masks in views of an image; every answer comes as visible logits (h, w) of the whole image."""

    def __init__(self, predictor: Predictor, embedding: Embedding) -> None:
        self.predictor = predictor
        self.plain = _View(embedding)
        self.frame = embedding.frame
        self.side = max(embedding.image_embedding.shape[-2:]) * LOW_RES_PER_GRID
        self.size = self.frame.grid_size(self.side)

    def look(self, image: Image, *, corner: tuple[int, int] = (0, 0), mirrored: bool = False) -> _View:
        """Embed a part of the image, or its mirror image."""
        return _View(self.predictor.embed(np.ascontiguousarray(image)), corner, mirrored)

    def whole(self, view: _View) -> tuple[Logits, float]:
        """Ask with a box around all of a view; the logits and the predicted IoU."""
        height, width = view.embedding.original_size
        return self._ask(view, [0, 0, width, height])

    def box(self, view: _View, box: tuple[float, float, float, float]) -> Logits:
        """Ask with a box of the image."""
        return self._ask(view, view.box(box))[0]

    def _ask(self, view: _View, box: list[float]) -> tuple[Logits, float]:
        valid = self.predictor.validate(view.embedding, [Prompt(box=box)], [names_with("")])
        found = self.predictor.segment(view.embedding, valid, multimask=False)[0]
        low_res = found.low_res_masks[0]
        if view is self.plain:
            logits = visible_part(low_res, self.frame)
        else:
            logits = self._laid_over(low_res, view)
        return logits, float(found.predicted_iou[0])

    def _laid_over(self, low_res: Logits, view: _View) -> Logits:
        """Return a view's logits at the cells of the whole image; where it does not reach they are low."""
        (height, width), (x, y) = view.embedding.original_size, view.corner
        across = _centres(self.frame, self.size[1], self.side, axis=1) - x
        down = _centres(self.frame, self.size[0], self.side, axis=0) - y
        if view.mirrored:
            across = width - across
        seen = view.embedding.frame
        rows = _linear(down, seen.input_size[0] / height * self.side / seen.side, low_res.shape[0])
        columns = _linear(across, seen.input_size[1] / width * self.side / seen.side, low_res.shape[1])
        logits = rows @ low_res @ columns.T
        logits[(down < 0) | (down > height)] = -CLIPPED
        logits[:, (across < 0) | (across > width)] = -CLIPPED
        return logits

    def box_of(self, logits: Logits) -> tuple[float, float, float, float] | None:
        """Return the box of the large regions of a mask, in pixels of the image; None for an empty mask."""
        mask = logits > 0
        if not mask.any():
            return None
        x0, y0, x1, y1 = mask_to_box(_large_regions(mask))
        height, width = self.frame.original_size
        cell = self.frame.side / self.side
        across, down = (cell * width / self.frame.input_size[1], cell * height / self.frame.input_size[0])
        return x0 * across, y0 * down, min(x1 * across, width), min(y1 * down, height)

    def result(self, visible: np.ndarray, predicted_iou: float) -> Segmentation:
        """Return visible logits as a segmentation, whose prompt is the box around the whole image."""
        height, width = self.size
        low_res = np.full((1, self.side, self.side), -CLIPPED, np.float32)
        low_res[0, :height, :width] = visible
        low_res[0, height:, :width] = low_res[0, height - 1, :width]  # what enlarging sees beyond the border
        low_res[0, :, width:] = low_res[0, :, width - 1, None]
        embedding = self.plain.embedding
        box = [0, 0, embedding.original_size[1], embedding.original_size[0]]
        prompt = self.predictor.validate(embedding, [Prompt(box=box)], [names_with("")])[0]
        return Segmentation(
            low_res,
            np.array([predicted_iou], np.float32),
            embedding,
            replace(prompt, box=None),
            is_subject=True,
        )


def _centres(frame: Frame, cells: int, side: int, *, axis: int) -> np.ndarray:
    """Return where the middles of visible cells lie in the image, in pixels along an axis."""
    scale = frame.original_size[axis] / frame.input_size[axis] * frame.side / side
    return (np.arange(cells) + 0.5) * scale


def _linear(places: np.ndarray, scale: float, length: int) -> np.ndarray:
    """Return the (N, length) matrix that reads cells at places, in pixels, between their middles."""
    cell = np.clip(places * scale - 0.5, 0, length - 1)
    low = np.minimum(cell.astype(int), length - 2)
    matrix = np.zeros((len(places), length), np.float32)
    row = np.arange(len(places))
    matrix[row, low] = 1 - (cell - low)
    matrix[row, low + 1] = cell - low
    return matrix


def _large_regions(mask: Mask) -> Mask:
    """Return the regions of a mask that are not much smaller than its largest."""
    rle = mask_to_rle(mask)
    starts, ends, labels = label_runs(rle)
    areas = np.bincount(labels, weights=ends - starts)
    kept = areas[labels] >= PART * areas.max()
    large = np.zeros(mask.size, bool)
    for start, end in zip(starts[kept], ends[kept], strict=True):
        large[start:end] = True
    return large.reshape(mask.shape, order="F")
