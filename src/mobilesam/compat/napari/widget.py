"""The plug-in's buttons."""

from __future__ import annotations

from typing import Any

from mobilesam.compat.napari.clicks import Clicks
from mobilesam.core.errors import MobileSamError, missing_extra

try:
    from magicgui.widgets import ComboBox, Container, Label, PushButton
except ModuleNotFoundError as error:
    raise missing_extra("mobilesam.compat.napari", "napari") from error

HINT = "Add points on the object, or a box.\nPoints in 'not on it' say what does not belong."


class ClicksWidget(Container):
    """What napari docks: choose an image and begin, then one object after the other.

    Args:
        napari_viewer: the viewer, which napari passes by this name.
    """

    def __init__(self, napari_viewer: Any) -> None:
        self.viewer = napari_viewer
        self.clicks: Clicks | None = None
        self.image = ComboBox(label="image", choices=lambda widget: images_of(napari_viewer))
        self.begin = PushButton(text="Begin")
        self.next = PushButton(text="Next object", enabled=False)
        self.told = Label()
        super().__init__(widgets=[self.image, self.begin, self.next, self.told])
        self.begin.changed.connect(self._begin)
        self.next.changed.connect(self._next)
        for event in (napari_viewer.layers.events.inserted, napari_viewer.layers.events.removed):
            event.connect(lambda event: self.image.reset_choices())

    def _begin(self) -> None:
        if self.image.value is None:
            self.told.value = "Open an image first."
            return
        try:
            self.clicks = Clicks(self.viewer, self.viewer.layers[self.image.value])
        except MobileSamError as error:
            self.told.value = str(error)
            return
        self.next.enabled = True
        self.told.value = HINT

    def _next(self) -> None:
        if self.clicks is not None:
            self.clicks.next()
            self.told.value = f"Object {self.clicks.number}.\n{HINT}"


def images_of(viewer: Any) -> list[str]:
    """Return the names of a viewer's layers of images."""
    return [layer.name for layer in viewer.layers if hasattr(layer, "rgb")]
