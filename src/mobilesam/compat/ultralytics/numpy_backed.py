"""What all values of a result share: they are NumPy arrays and stay where they are."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from mobilesam.core.errors import ConfigError


class NumpyBacked:
    """``cpu``, ``numpy`` and ``to("cpu")`` return the value itself; a GPU is refused, with what to do instead."""

    def cpu(self) -> Self:
        """Return itself: it is on the processor."""
        return self

    def numpy(self) -> Self:
        """Return itself: its values are NumPy arrays."""
        return self

    def to(self, device: Any = "cpu") -> Self:
        """Return itself for ``cpu``.

        Raises:
            ConfigError: for anything else.
        """
        refuse_device(device)
        return self

    def detach(self) -> Self:
        """Return itself: there are no gradients."""
        return self

    def cuda(self) -> Self:
        """Refuse, and say how values get to a GPU.

        Raises:
            ConfigError: always.
        """
        return self.to("cuda")


def refuse_device(device: Any) -> None:
    """Refuse every device but the processor.

    Raises:
        ConfigError: says how values get there.
    """
    if str(device) != "cpu":
        raise ConfigError(
            f"device {str(device)!r}: results are NumPy arrays; "
            "take what you need there, such as torch.as_tensor(result.masks.data).cuda()"
        )


def chosen(index: Any, count: int) -> list[int]:
    """Return the numbers that an index stands for: a number, a slice, numbers or truth values.

    Raises:
        IndexError: for a number beyond the last.
    """
    return [int(i) for i in np.atleast_1d(np.arange(count)[index])]
