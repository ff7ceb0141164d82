"""ultralytics' ``SAM`` class as people use it, over this project's models.

    >>> from mobilesam.compat.ultralytics import SAM
    >>> model = SAM("pocket")                                          # doctest: +SKIP
    >>> results = model("photo.jpg", bboxes=[120, 40, 380, 300])       # doctest: +SKIP
    >>> results[0].masks.data.shape, results[0].save("outlined.jpg")   # doctest: +SKIP
    ((1, 427, 640), 'outlined.jpg')

Written from its documentation and behaviour; nothing of it is used or needed. Results are
NumPy arrays that have a tensor's methods. docs/how-to/ultralytics.md says what differs, and why.
"""

from mobilesam.compat.ultralytics.boxes import Boxes as Boxes
from mobilesam.compat.ultralytics.detectors import YOLO as YOLO
from mobilesam.compat.ultralytics.detectors import FastSAM as FastSAM
from mobilesam.compat.ultralytics.masks import Masks as Masks
from mobilesam.compat.ultralytics.model import SAM as SAM
from mobilesam.compat.ultralytics.results import Results as Results

__all__ = ["SAM", "YOLO", "Boxes", "FastSAM", "Masks", "Results"]
