"""The plug-in without its buttons: layers that are asked with, and the layer of labels that holds the answers.

napari's places are rows before columns, and an image may be one plane of a stack. All layers here share the scale
and place of the image's, so their numbers are pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mobilesam.core.arrays import Image
from mobilesam.core.errors import ConfigError
from mobilesam.core.types import Embedding, Prompt
from mobilesam.segment.model import Model, load

ON, OFF, BOX, MASKS = "on the object", "not on it", "box", "masks"  # names of the layers
COLOURS = {ON: "#28dc3c", OFF: "#f02828"}
POINT_SIZE = 0.015  # of the image's longer side
Plane = tuple[int, ...]  # of a stack: a number for each axis before rows and columns


class Clicks:
    """Layers beside an image, and a mask for what they mean, which follows every change of them.

    Args:
        viewer: napari's viewer, or its model without a window.
        image: the image's layer: (..., H, W), or (..., H, W, 3) if it says that it is RGB.
        model: what segments; ``pocket`` where None.

    Raises:
        ConfigError: for a layer that is not an image, or has several resolutions.
    """

    def __init__(self, viewer: Any, image: Any, model: Model | None = None) -> None:
        if getattr(image, "multiscale", True) or not hasattr(image, "rgb"):
            raise ConfigError(f"layer {image}: is not an image of one resolution; choose another layer")
        self.viewer, self.image = viewer, image
        self.model = model or load()
        self.number = 0
        self._embeddings: dict[Plane, Embedding] = {}
        self._busy = False
        shape = image.data.shape[:-1] if image.rgb else image.data.shape
        height, width = shape[-2:]
        place = {"scale": image.scale, "translate": image.translate}
        self.masks = viewer.add_labels(np.zeros(shape, np.uint16), name=MASKS, **place)
        self.boxes = viewer.add_shapes(
            ndim=len(shape), name=BOX, face_color="transparent", edge_color="white", **place
        )
        self.points = {
            name: viewer.add_points(
                ndim=len(shape),
                name=name,
                size=max(3.0, POINT_SIZE * max(height, width)),
                face_color=COLOURS[name],
                **place,
            )
            for name in (OFF, ON)
        }
        for layer in (*self.points.values(), self.boxes):
            layer.events.data.connect(lambda event: self.update())
        self.next()

    def next(self) -> None:
        """Keep the mask as it is, and begin another object."""
        self._clear()
        self.number += 1
        viewer_layers = self.viewer.layers
        viewer_layers.selection.active = self.points[ON]
        self.points[ON].mode = "add"

    def update(self) -> None:
        """Ask for what the layers mean, and write its mask."""
        plane = self.plane
        prompt = self.prompt(plane)
        if self._busy or prompt is None:
            return
        found = self.model.segment(self.embedding(plane), prompt)
        labels = self.masks.data[plane]
        labels[labels == self.number] = 0
        labels[found.mask & (labels == 0)] = self.number  # what other objects have stays theirs
        self.masks.refresh()

    @property
    def plane(self) -> Plane:
        """Which plane of a stack is shown; empty for a single image."""
        return tuple(int(step) for step in self.viewer.dims.current_step[-self.masks.ndim : -2])

    def prompt(self, plane: Plane) -> Prompt | None:
        """Return what the layers mean in a plane; None where there is nothing in it. The last box counts."""
        points = {name: in_plane(layer.data, plane) for name, layer in self.points.items()}
        boxes = [in_plane(corners, plane) for corners in self.boxes.data]
        boxes = [corners for corners in boxes if len(corners)]
        box = None
        if boxes:
            height, width = self.masks.data.shape[-2:]
            corners = np.clip(boxes[-1], 0, [width, height])
            box = [*corners.min(0), *corners.max(0)]
        at = np.concatenate([points[ON], points[OFF]])
        if not len(at):
            return None if box is None else Prompt(box=box)
        return Prompt(at, [1] * len(points[ON]) + [0] * len(points[OFF]), box)

    def embedding(self, plane: Plane) -> Embedding:
        """Return the embedding of a plane, which is encoded the first time."""
        if plane not in self._embeddings:
            self._embeddings[plane] = self.model.embed(self.pixels(plane))
        return self._embeddings[plane]

    def pixels(self, plane: Plane) -> Image:
        """Return a plane as it is shown, (H, W, 3): grey values between the layer's contrast limits."""
        data = np.asarray(self.image.data[plane])
        if self.image.rgb and data.dtype == np.uint8:
            return np.ascontiguousarray(data[..., :3])
        low, high = self.image.contrast_limits
        grey = np.clip((data.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
        shown = np.round(grey * 255).astype(np.uint8)
        return np.ascontiguousarray(shown[..., :3] if self.image.rgb else np.stack([shown] * 3, -1))

    def _clear(self) -> None:
        """Empty the layers that are asked with, without asking."""
        self._busy = True
        try:
            for layer in self.points.values():
                layer.data = np.zeros((0, self.masks.ndim))
            self.boxes.data = []
        finally:
            self._busy = False


def in_plane(places: np.ndarray, plane: Plane) -> np.ndarray:
    """Return places (N, axes) that lie in a plane of a stack as (n, 2) x and y."""
    places = np.asarray(places, np.float64).reshape(-1, len(plane) + 2)
    inside = (np.round(places[:, :-2]) == plane).all(1) if plane else np.ones(len(places), bool)
    # napari's pixel has its centre at a whole number, ours its corner.
    return places[inside][:, [-1, -2]] + 0.5
