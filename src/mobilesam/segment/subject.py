"""The subject of a photo, without a prompt.

Two ways find it. Asked with a box around the whole image, a model returns the ground; what is left is mostly the
subject. Where it is unsure of the ground, because the subject fills the frame, the masks of likely objects stand in.
And for ``pocket`` a small head has learnt to see where the subject is; its coarse mask is the prompt. Where both mean
the same, the first is better at edges; where they do not, the head is right more often.

What was found is asked for again by its box: in the image, in its mirror image and in a window around it. Answers that
agree are averaged; how well they agree says how sure the result is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mobilesam.core.arrays import Image, Logits, Mask
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.frame import Frame
from mobilesam.core.metrics import mask_iou
from mobilesam.core.postprocess import visible_part
from mobilesam.core.prompts import LOW_RES_PER_GRID, MASK_LOGIT, names_with
from mobilesam.core.regions import label_runs
from mobilesam.core.resize import bilinear_matrix
from mobilesam.core.rle import mask_to_rle
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Detector, select_boxes
from mobilesam.detectors.subject_head import OF_MODEL, SubjectHead, subject_head
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.results import Segmentation

XYXY = tuple[float, float, float, float]  # a box in pixels of the image

# Chosen on the sets for training (docs/explanation/subject.md).
SURE_OF_GROUND = 0.85  # predicted IoU of the ground, from which what is left is the subject
GROUND_OBJECTNESS = 0.2  # below it, what is left competes with objects as one that is so likely
MOST_OBJECTS = 40  # boxes that are tried where it is not
LEAST_OBJECTNESS = 0.02
OBJECT_NMS = 0.7
BORDER_COST = 0.7  # of a mask that holds the whole border of the image
AGREES = 0.8  # IoU with the first answer, from which another is averaged with it
CERTAIN = 30.0  # a logit beyond which nothing changes
CLIPPED = 6.0  # logits count up to this, so that one answer alone does not decide
PART = 0.3  # of the largest region: smaller ones do not count for the box
MARGIN, LEAST_MARGIN = 0.1, 8  # of the window around the box: of its sides, and pixels

MODESTY = 0.08  # by how much masks are better than confidence times agreement says, on the sets for training
# Of sure times agreement, of alike and of there, and what is added: by bench/subject_confidence.py.
WEIGHTS = (0.447, 0.428, 0.119, 0.034)
NEARLY_EVERYTHING = 0.9  # of the image's border: what holds so much of it stands out from nothing
MOST_OF_EVERYTHING = 0.4  # predicted IoU of that
ALIKE = 0.6  # IoU of what the two ways find, from which they mean the same


@dataclass(frozen=True)
class _First:
    """What one way finds at first.

    Attributes:
        logits: (h, w), visible.
        sure: predicted IoU.
        way: ``ground``, ``object`` or ``head``.
    """

    logits: Logits
    sure: float
    way: str


@dataclass(frozen=True)
class Evidence:
    """What tells how sure a subject is.

    Attributes:
        sure: predicted IoU of what was found at first.
        agreement: mean IoU of the later answers with it.
        alike: IoU of what the two ways found; None for a model without the head.
        there: how likely there is a subject, as the head says; None likewise.
        border: part of the image's border that it holds.
    """

    sure: float
    agreement: float = 0.0
    alike: float | None = None
    there: float | None = None
    border: float = 0.0

    @property
    def confidence(self) -> float:
        """The IoU that is to be expected."""
        found = self.sure * self.agreement
        if self.alike is None or self.there is None:
            expected = found + MODESTY
        else:
            expected = float(np.dot(WEIGHTS, (found, self.alike, self.there, 1.0)))
        most = MOST_OF_EVERYTHING if self.border > NEARLY_EVERYTHING else 1.0
        return float(np.clip(expected, 0, most))


def find_subject(predictor: Predictor, embedding: Embedding, detector: Detector) -> Segmentation:
    """Segment the subject; see :meth:`mobilesam.Model.subject`.

    Args:
        predictor: what segments.
        embedding: of the image.
        detector: what finds boxes of objects, asked only where the ground is unsure.
    """
    return find_with_evidence(predictor, embedding, detector)[0]


def find_with_evidence(
    predictor: Predictor, embedding: Embedding, detector: Detector
) -> tuple[Segmentation, Evidence]:
    """Segment the subject, and return what its predicted IoU is made of; see :func:`find_subject`."""
    asker = _Asker(predictor, embedding)
    first = _what_the_ground_leaves(asker, detector)
    evidence = Evidence(first.sure)
    if asker.head is not None:
        learnt, there = _what_the_head_sees(asker, asker.head)
        alike = _iou(first.logits, learnt.logits)
        first = first if alike >= ALIKE else learnt
        evidence = Evidence(first.sure, alike=alike, there=there)
    box = asker.box_of(first.logits)
    if box is None:
        return asker.result(first.logits, 0.0), replace(evidence, sure=0.0)
    answers = _ask_again(asker, first, box)
    agreement = np.array([_iou(one, first.logits) for one in answers])
    total = np.clip(first.logits, -CLIPPED, CLIPPED)
    for one, agrees in zip(answers, agreement, strict=True):
        if agrees >= AGREES:
            total = total + np.clip(one, -CLIPPED, CLIPPED)
    joined = total / (1 + np.count_nonzero(agreement >= AGREES))
    evidence = replace(evidence, agreement=float(agreement.mean()), border=_border_share(joined > 0))
    return asker.result(joined, evidence.confidence), evidence


def _what_the_ground_leaves(asker: _Asker, detector: Detector) -> _First:
    """Return what is not the ground or, where that is unsure, perhaps the most prominent object."""
    ground, sure = asker.whole(asker.plain)
    if sure < SURE_OF_GROUND:
        standing = _prominence(-ground[None], np.array([sure]), np.array([GROUND_OBJECTNESS]))[0]
        likeliest = _likeliest_object(asker.predictor, asker.plain.embedding, detector, standing)
        if likeliest is not None:
            return _First(*likeliest, "object")
    return _First(-ground, sure, "ground")


def _what_the_head_sees(asker: _Asker, head: SubjectHead) -> tuple[_First, float]:
    """Return what the head's coarse mask and its box mean, and how likely there is a subject."""
    coarse, there = asker.coarse(asker.plain, head)
    box = asker.box_of(visible_part(coarse, asker.frame)) or asker.everything
    return _First(*asker.ask(asker.plain, box, coarse), "head"), there


def _ask_again(asker: _Asker, first: _First, box: XYXY) -> list[Logits]:
    """Ask for what was found at first by its box (x0, y0, x1, y1): in the image, mirrored, and in a window around it."""
    image = asker.plain.embedding.image
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    across, down = MARGIN * (x1 - x0) + LEAST_MARGIN, MARGIN * (y1 - y0) + LEAST_MARGIN
    left, top = int(max(0, x0 - across)), int(max(0, y0 - down))
    right, bottom = int(min(width, x1 + across)), int(min(height, y1 + down))
    answers = [] if first.way == "object" else [asker.ask(asker.plain, box)[0]]
    for view in (
        asker.look(image[:, ::-1], mirrored=True),
        asker.look(image[top:bottom, left:right], corner=(left, top)),
    ):
        answers.append(asker.ask(view, box)[0])
        if first.way == "ground":
            answers.append(-asker.whole(view)[0])
        elif first.way == "head" and asker.head is not None:
            answers.append(asker.ask(view, box, asker.coarse(view, asker.head)[0])[0])
    return answers


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

    def box(self, box: XYXY) -> list[float]:
        """Return a box of the image as it lies here."""
        x0, y0, x1, y1 = box
        x, y = self.corner
        if self.mirrored:
            width = self.embedding.original_size[1]
            x0, x1 = width - x1, width - x0
        return [x0 - x, y0 - y, x1 - x, y1 - y]


class _Asker:
    """Asks for masks in views of an image; every answer comes as visible logits (h, w) of the whole image.

    Attributes:
        head: sees where the subject is; None for other models than the one whose features it reads.
    """

    def __init__(self, predictor: Predictor, embedding: Embedding) -> None:
        self.predictor = predictor
        self.plain = _View(embedding)
        self.frame = embedding.frame
        self.head = subject_head() if predictor.name == OF_MODEL else None
        self.side = max(embedding.image_embedding.shape[-2:]) * LOW_RES_PER_GRID
        self.size = self.frame.grid_size(self.side)

    @property
    def everything(self) -> XYXY:
        """The box around the whole image."""
        height, width = self.frame.original_size
        return 0, 0, width, height

    def look(self, image: Image, *, corner: tuple[int, int] = (0, 0), mirrored: bool = False) -> _View:
        """Embed a part of the image, or its mirror image."""
        return _View(self.predictor.embed(np.ascontiguousarray(image)), corner, mirrored)

    def whole(self, view: _View) -> tuple[Logits, float]:
        """Ask with a box around all of a view; the logits and the predicted IoU."""
        height, width = view.embedding.original_size
        return self._ask(view, Prompt(box=[0, 0, width, height]))

    def ask(self, view: _View, box: XYXY, coarse: Logits | None = None) -> tuple[Logits, float]:
        """Ask with a box of the image, and with a coarse mask of the view; the logits and the predicted IoU."""
        return self._ask(view, Prompt(box=view.box(box), mask=None if coarse is None else coarse[None]))

    def coarse(self, view: _View, head: SubjectHead) -> tuple[Logits, float]:
        """Return the head's mask of a view as a prompt's logits (s, s), and how likely there is a subject."""
        seen, there = head.look(view.embedding.arrays)
        height, width = view.embedding.frame.grid_size(self.side)
        cells = self.side // max(seen.shape)
        rows, columns = (bilinear_matrix(n, n * cells) for n in seen.shape)
        logits = (rows @ seen @ columns.T)[:height, :width]  # without what the encoder's input is padded with
        likely = 1 / (1 + np.exp(-np.clip(logits, -CERTAIN, CERTAIN)))
        coarse = np.full((self.side, self.side), -MASK_LOGIT, np.float32)
        coarse[:height, :width] = (2 * likely - 1) * MASK_LOGIT
        return coarse, there

    def _ask(self, view: _View, prompt: Prompt) -> tuple[Logits, float]:
        valid = self.predictor.validate(view.embedding, [prompt], [names_with("")])
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

    def box_of(self, logits: Logits) -> XYXY | None:
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
        whole = Prompt(box=list(self.everything))
        prompt = self.predictor.validate(embedding, [whole], [names_with("")])[0]
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
