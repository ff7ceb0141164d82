"""The masks of a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol, Self, overload

import numpy as np

from mobilesam.compat.ultralytics.array import Array, as_array
from mobilesam.compat.ultralytics.numpy_backed import NumpyBacked, chosen
from mobilesam.core.arrays import ArrayLike, Mask, Size
from mobilesam.core.errors import ConfigError
from mobilesam.core.polygons import Polygon, mask_to_polygons, polygons_to_ring
from mobilesam.core.rle import Rle
from mobilesam.segment.results import SegmentedMask

OUTLINE_TOLERANCE = 1.0  # pixels that simplifying may move an outline


class HasMask(Protocol):
    """What a mask is taken from: a segmentation, which is enlarged when asked for, or runs."""

    @property
    def mask(self) -> Mask:
        """(H, W)."""
        ...

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight box (x0, y0, x1, y1), far edges exclusive."""
        ...

    @property
    def rle(self) -> Rle:
        """As runs."""
        ...


class Masks(NumpyBacked):
    """The masks of one image, (N, H, W) at its size.

    They are enlarged when first looked at, so that a mask that is dropped costs nothing.

    Args:
        masks: (N, H, W) or (H, W), boolean or numbers that are not 0 on the object.
        orig_shape: (height, width) of the image.

    Raises:
        ConfigError: for masks of another size.

    Example:
        >>> square = np.zeros((6, 8), bool)
        >>> square[2:5, 1:4] = True
        >>> masks = Masks(square, (6, 8))
        >>> masks.shape, masks.xy[0].tolist()
        ((1, 6, 8), [[1.0, 2.0], [4.0, 2.0], [4.0, 5.0], [1.0, 5.0]])
    """

    def __init__(self, masks: ArrayLike, orig_shape: Size) -> None:
        array = np.asarray(masks) != 0
        array = array[None] if array.ndim == 2 else array
        if array.ndim != 3 or array.shape[1:] != tuple(orig_shape):
            raise ConfigError(
                f"masks: have shape {np.shape(masks)}; must be (N, {orig_shape[0]}, {orig_shape[1]})"
            )
        self.orig_shape: Size = (int(orig_shape[0]), int(orig_shape[1]))
        self.objects: Sequence[HasMask] = tuple(SegmentedMask(mask, np.nan, np.nan) for mask in array)

    @classmethod
    def of(cls, objects: Sequence[HasMask], orig_shape: Size) -> Self:
        """Return the masks of objects, which are not looked at yet."""
        masks = cls(np.zeros((0, *orig_shape), bool), orig_shape)
        masks.objects = tuple(objects)
        return masks

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: Any) -> Masks:
        return Masks.of([self.objects[i] for i in chosen(index, len(self))], self.orig_shape)

    def __iter__(self) -> Iterator[Masks]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Masks of shape {self.shape}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return len(self), self.orig_shape[0], self.orig_shape[1]

    @cached_property
    def data(self) -> Array:
        """All masks (N, H, W) boolean, made when first asked for."""
        data = np.zeros(self.shape, bool)
        for i, one in enumerate(self.objects):
            data[i] = one.mask
        return as_array(data)

    @cached_property
    def xy(self) -> list[np.ndarray]:
        """Each mask's outline (n, 2) float32 in pixels; (0, 2) where it is empty.

        Along the pixels' edges, simplified by up to a pixel, less for small shapes. Several
        regions and holes are one ring, joined by bridges that are walked there and back; filled, it is the mask.
        :meth:`polygons` returns them separately.
        """
        return [polygons_to_ring(p).astype(np.float32) for p in self.polygons(tolerance=OUTLINE_TOLERANCE)]

    @cached_property
    def xyn(self) -> list[np.ndarray]:
        """The outlines in 0..1 of the image's width and height."""
        height, width = self.orig_shape
        return [ring / np.array([width, height], np.float32) for ring in self.xy]

    @property
    def rle(self) -> list[Rle]:
        """Each mask as COCO's runs."""
        return [one.rle for one in self.objects]

    def polygons(self, *, tolerance: float = 0.0) -> list[tuple[Polygon, ...]]:
        """Each mask's regions with their holes; see :func:`mobilesam.core.polygons.mask_to_polygons`."""
        return [mask_to_polygons(one.mask, tolerance=tolerance) for one in self.objects]


class EachMask(Sequence[Mask]):
    """The masks (H, W) of objects, one at a time."""

    def __init__(self, objects: Sequence[HasMask]) -> None:
        self._objects = objects

    def __len__(self) -> int:
        return len(self._objects)

    @overload
    def __getitem__(self, index: int) -> Mask: ...

    @overload
    def __getitem__(self, index: slice) -> EachMask: ...

    def __getitem__(self, index: int | slice) -> Mask | EachMask:
        if isinstance(index, slice):
            return EachMask(self._objects[index])
        return self._objects[index].mask
