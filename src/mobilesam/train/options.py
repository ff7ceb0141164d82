"""How a training runs, without any effect on its weights. The command line's options are made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mobilesam.core.ranges import check_number, check_whole_number


@dataclass(frozen=True)
class RunOptions:
    """How a training runs.

    Attributes:
        follow_symlinks: also read photos in other folders that links in a set lead to.
        device: ``cpu`` or ``cuda``; by default cuda if there is one.
        threads: processor threads.
        workers: processes that make samples.
        accumulate: take each step's images in this many parts, one after the other, to fit into less memory.
        minutes: save and stop after this many minutes; the same command resumes.
        report_every: steps between two lines of the log.
        save_every: steps between two checkpoints and held-out scores.
        tensorboard: also write the log's figures for TensorBoard, into tensorboard/ in the run's folder.
        force: resume even if the recipe or the data has changed since the checkpoint.

    Raises:
        PromptError: for a number outside its range.
    """

    follow_symlinks: bool = False
    device: str | None = None
    threads: int | None = None
    workers: int = 1
    accumulate: int = field(default=1, metadata={"metavar": "PARTS"})
    minutes: float = field(default=math.inf, metadata={"shown_default": "no limit"})
    report_every: int = field(default=50, metadata={"metavar": "STEPS"})
    save_every: int = field(default=500, metadata={"metavar": "STEPS"})
    tensorboard: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_whole_number("threads", self.threads, 1)
        check_whole_number("workers", self.workers, 0)
        check_whole_number("accumulate", self.accumulate, 1)
        if self.minutes != math.inf:
            check_number("minutes", self.minutes, 0.0)
        check_whole_number("report_every", self.report_every, 1)
        check_whole_number("save_every", self.save_every, 1)
