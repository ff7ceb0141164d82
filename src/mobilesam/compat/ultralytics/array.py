"""NumPy arrays with the methods that ultralytics' users call on tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from mobilesam.compat.ultralytics.numpy_backed import refuse_device
from mobilesam.core.arrays import ArrayLike


class Array(np.ndarray):
    """A NumPy array that is moved, cast and reduced like a tensor; the rest is NumPy's.

    An element is an array without axes, as in a tensor, and can be a key of a dictionary.
    ``torch.as_tensor(array)`` makes a tensor that shares its memory.

    Example:
        >>> cls = as_array(np.array([2.0, 0.0], np.float32))
        >>> cls.cpu().int().tolist(), cls[0].item(), {2: "leaf"}[cls[0]]
        ([2, 0], 2.0, 'leaf')
        >>> as_array(np.array([[True, False], [False, False]])).any(dim=0).tolist()
        [True, False]
    """

    def __getitem__(self, index: Any) -> Any:
        return as_array(super().__getitem__(plain(index)))

    def __iter__(self) -> Iterator[Any]:
        if self.ndim == 0:
            raise TypeError("an array without axes cannot be iterated over")
        return (self[i] for i in range(len(self)))

    def __hash__(self) -> int:  # type: ignore[override]
        if self.ndim:
            raise TypeError(f"an array of shape {self.shape} cannot be a key; take an element")
        return hash(self.item())

    @property
    def device(self) -> str:  # type: ignore[override]
        """``cpu``."""
        return "cpu"

    def cpu(self) -> Self:
        """Return itself: it is on the processor."""
        return self

    def detach(self) -> Self:
        """Return itself: it has no gradient."""
        return self

    def numpy(self) -> np.ndarray:
        """Return the same values as a plain NumPy array."""
        return np.asarray(self)

    def clone(self) -> Array:
        """Return a copy."""
        return as_array(self.copy())

    def to(self, what: Any = "cpu", *_: Any, **__: Any) -> Array:
        """Return itself for ``cpu``, or as another type for a NumPy type.

        Raises:
            ConfigError: for a GPU.
        """
        if isinstance(what, type | np.dtype):
            return as_array(self.astype(what))
        refuse_device(what)
        return self

    def cuda(self, *_: Any, **__: Any) -> Array:
        """Refuse, and say how values get to a GPU.

        Raises:
            ConfigError: always.
        """
        return self.to("cuda")

    def int(self) -> Array:
        """As whole numbers of 32 bits."""
        return as_array(self.astype(np.int32))

    def long(self) -> Array:
        """As whole numbers of 64 bits."""
        return as_array(self.astype(np.int64))

    def byte(self) -> Array:
        """As whole numbers in 0..255."""
        return as_array(self.astype(np.uint8))

    def bool(self) -> Array:
        """As truth values."""
        return as_array(self.astype(np.bool_))

    def float(self) -> Array:
        """As float32."""
        return as_array(self.astype(np.float32))

    def double(self) -> Array:
        """As float64."""
        return as_array(self.astype(np.float64))

    def half(self) -> Array:
        """As float16."""
        return as_array(self.astype(np.float16))

    def any(self, dim: Any = None, keepdim: Any = False, **options: Any) -> Any:  # type: ignore[override]
        """Whether any value is true, along ``dim`` (or NumPy's ``axis``)."""
        return self._reduced(np.any, dim, keepdim, options)

    def all(self, dim: Any = None, keepdim: Any = False, **options: Any) -> Any:  # type: ignore[override]
        """Whether all values are true, along ``dim`` (or NumPy's ``axis``)."""
        return self._reduced(np.all, dim, keepdim, options)

    def sum(self, dim: Any = None, keepdim: Any = False, **options: Any) -> Any:  # type: ignore[override]
        """The sum along ``dim`` (or NumPy's ``axis``)."""
        return self._reduced(np.sum, dim, keepdim, options)

    def mean(self, dim: Any = None, keepdim: Any = False, **options: Any) -> Any:  # type: ignore[override]
        """The mean along ``dim`` (or NumPy's ``axis``)."""
        return self._reduced(np.mean, dim, keepdim, options)

    def _reduced(self, how: Any, dim: Any, keepdim: Any, options: dict[str, Any]) -> Any:
        options = {"axis": dim, "keepdims": keepdim, **options}
        found = how(np.asarray(self), **{name: plain(value) for name, value in options.items()})
        return as_array(found)


def as_array(values: ArrayLike) -> Array:
    """Return values as an :class:`Array` that shares their memory."""
    return np.asarray(values).view(Array)


def plain(value: Any) -> Any:
    """Return NumPy's own array for an :class:`Array`, within a tuple too."""
    if isinstance(value, tuple):
        return tuple(plain(one) for one in value)
    return np.asarray(value) if isinstance(value, Array) else value
