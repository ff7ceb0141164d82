"""The widget's side in Python: messages of the browser become actions of a session, and masks become a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from mobilesam.core.arrays import ArrayLike, Image, Mask
from mobilesam.core.errors import MobileSamError, missing_extra
from mobilesam.draw.overlay import COLOURS, OPACITY, line_width, outline
from mobilesam.segment.model import Model
from mobilesam.segment.results import Segmentation
from mobilesam.segment.session import Session

try:
    import anywidget
    import traitlets
except ModuleNotFoundError as error:
    raise missing_extra("mobilesam.compat.notebook", "notebook") from error

SHOWN_SIDE = 1024  # pixels of the picture's longer side in the notebook, at most
QUALITY = 90  # of the picture as JPEG
OUTLINE_OPACITY = 0.9
HINT = "Click on a thing. Right-click or Alt-click on what does not belong to it. Drag a box around it."


class Clicker(anywidget.AnyWidget):
    """An image in a notebook, and what was clicked on it.

    Args:
        model: what segments.
        image: a path, an array (H, W, 3), or whatever else :meth:`mobilesam.Model.embed` takes.

    Raises:
        ImageError: if the image cannot be read.
        MissingExtraError: at import, without anywidget.

    Example:
        >>> import mobilesam
        >>> from mobilesam.compat.notebook import Clicker  # doctest: +SKIP
        >>> clicker = Clicker(mobilesam.load("pocket"), "photo.jpg")  # doctest: +SKIP
        >>> clicker  # doctest: +SKIP
        >>> clicker.mask.shape  # doctest: +SKIP
        (427, 640)
    """

    _esm = Path(__file__).with_name("clicker.js")
    _css = Path(__file__).with_name("clicker.css")
    picture = traitlets.Bytes(help="the image as JPEG, as large as it is shown").tag(sync=True)
    size: traitlets.List[int] = traitlets.List(help="width and height of the image").tag(sync=True)
    overlay = traitlets.Bytes(help="the masks as a PNG of the picture's size").tag(sync=True)
    told = traitlets.Unicode(HINT, help="what is said below the picture").tag(sync=True)
    asked = traitlets.Dict(help="points, labels and box of the object that is worked on").tag(sync=True)
    can = traitlets.Dict(help="which buttons have something to do").tag(sync=True)

    def __init__(self, model: Model, image: ArrayLike) -> None:
        self._begin = model.session(image)
        self._sessions: list[Session] = [self._begin]
        self._image = self._begin.embedding.image
        height, width = self._image.shape[:2]
        scale = min(1.0, SHOWN_SIDE / max(height, width))
        self._shown = max(1, round(height * scale)), max(1, round(width * scale))
        super().__init__(picture=_jpeg(self._image, self._shown), size=[width, height])
        self.on_msg(self._on_message)
        self._show()

    @property
    def session(self) -> Session:
        """The session of the object that is worked on."""
        return self._sessions[-1]

    @property
    def sessions(self) -> tuple[Session, ...]:
        """A session for each object that has a mask, in the order in which they were begun."""
        return tuple(session for session in self._sessions if session.mask is not None)

    @property
    def masks(self) -> tuple[Mask, ...]:
        """The mask (H, W) of each object."""
        return tuple(session.mask for session in self.sessions if session.mask is not None)

    @property
    def mask(self) -> Mask | None:
        """The mask (H, W) of the object that is worked on; None before the first click."""
        return self.session.mask

    @property
    def segmentation(self) -> Segmentation | None:
        """The model's answer on the object that is worked on, with all its masks; None before the first click."""
        return self.session.state.found

    def _on_message(self, widget: object, content: Any, buffers: Sequence[Any]) -> None:
        """Do what the browser asks; what cannot be done is told below the picture."""
        try:
            self._do(content)
        except MobileSamError as error:
            self.told = str(error)
            return
        self._show()

    def _do(self, content: Mapping[str, Any]) -> None:
        session = self.session
        match content.get("do"):
            case "act":
                self._sessions[-1] = session.act(content["action"])
            case "undo" if session.can_undo:
                self._sessions[-1] = session.undo()
            case "undo" if len(self._sessions) > 1:
                self._sessions.pop()
            case "redo":
                self._sessions[-1] = session.redo()
            case "next" if session.mask is not None:
                self._sessions.append(self._begin)
            case "choose" if len(session.masks) > 1:
                self._sessions[-1] = session.choose((session.state.chosen + 1) % len(session.masks))

    def _show(self) -> None:
        """Send the browser what there is now."""
        session, state = self.session, self.session.state
        self.overlay = _png(_tint(self.masks, self._shown))
        self.asked = {"points": state.points, "labels": state.labels, "box": state.box}
        self.can = {
            "undo": session.can_undo or len(self._sessions) > 1,
            "redo": session.can_redo,
            "next": session.mask is not None,
            "choose": len(session.masks) > 1,
        }
        best = session.best
        if best is None:
            self.told = HINT
            return
        share = 100 * float(best.mask.mean())
        self.told = f"object {len(self._sessions)}: {share:.1f} % of the image, predicted IoU {best.predicted_iou:.2f}"


def _tint(masks: Sequence[Mask], shown: tuple[int, int]) -> np.ndarray:
    """Return masks tinted and outlined, (h, w, 4) with opacity, at the size that is shown."""
    out = np.zeros((*shown, 4), np.uint8)
    for number, mask in enumerate(masks):
        small = np.asarray(
            PillowImage.fromarray(mask).resize((shown[1], shown[0]), PillowImage.Resampling.NEAREST)
        )
        colour = COLOURS[number % len(COLOURS)]
        out[small] = (*colour, round(255 * OPACITY))
        out[outline(small, line_width(out))] = (*colour, round(255 * OUTLINE_OPACITY))
    return out


def _jpeg(image: Image, shown: tuple[int, int]) -> bytes:
    picture = PillowImage.fromarray(image).resize((shown[1], shown[0]), PillowImage.Resampling.LANCZOS)
    return _encoded(picture, "JPEG", quality=QUALITY)


def _png(pixels: np.ndarray) -> bytes:
    return _encoded(PillowImage.fromarray(pixels), "PNG", compress_level=1)


def _encoded(picture: PillowImage.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
