"""A run's figures for TensorBoard, in ``OUT/tensorboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilesam.core.errors import missing_extra


class Board:
    """Writes figures as they come.

    Args:
        out: the run's folder.
        step: that the run resumes from; later figures of an earlier attempt are hidden.

    Raises:
        MissingExtraError: without the package tensorboard.
    """

    def __init__(self, out: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_extra("tensorboard", "tensorboard") from error
        self._writer: Any = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write a step's figures by their names, on disk at once."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
