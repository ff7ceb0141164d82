"""What does the work of a command: this machine, or a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

import click

from mobilesam.cli.fields import option_field
from mobilesam.core.text import printable
from mobilesam.work.base import ENGINES, LOCAL, RAY
from mobilesam.work.ray import RayEngine


@dataclass(frozen=True)
class EngineOptions:
    """What does the work.

    Attributes:
        engine: what does the work: ``local``, this machine alone, or ``ray``, the processes of a cluster.
        workers: how many do it: threads of this machine, or processes of a cluster, each with the model.
        address: of a Ray cluster that runs, HOST:PORT or ``auto``.
    """

    engine: str = option_field(LOCAL, metavar="NAME")
    workers: int | None = option_field(None, metavar="N", shown_default="one for each core")
    address: str | None = option_field(
        None, metavar="HOST:PORT", shown_default="a cluster of this machine alone"
    )

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise click.UsageError(
                f"--engine: is {printable(self.engine)!r}; choose one of {', '.join(ENGINES)}"
            )
        if self.address is not None:
            self.check_ray("--address")

    def check_ray(self, option: str) -> None:
        """Refuse an option that only a Ray cluster has, where none does the work."""
        if self.engine != RAY:
            raise click.UsageError(f"{option}: is of a Ray cluster; give --engine ray as well")

    def ray(self, *, gpu: bool = False) -> RayEngine | None:
        """Return the cluster that does the work; None where this machine does."""
        return RayEngine(self.workers, self.address, gpu=gpu) if self.engine == RAY else None
