"""Several processes that train one network together, started by ``torchrun``, or joined by another launcher.

Every rank has the whole network and takes its part of each batch. The gradients are averaged, so all ranks take
the same step as one process with the whole batch would. Only the first writes files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mobilesam.core.errors import ConfigError

PATIENCE = timedelta(minutes=30)  # how long ranks wait for the first, which scores and writes


@dataclass(frozen=True)
class Ranks:
    """Which process this is, and of how many.

    Attributes:
        rank: number of this process, from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def part(self, n: int, what: str) -> slice:
        """Return this rank's share of ``n`` things.

        Raises:
            ConfigError: if they cannot be shared out evenly.
        """
        if n % self.world:
            raise ConfigError(f"{what}: is {n}; must be a multiple of the {self.world} ranks")
        each = n // self.world
        return slice(self.rank * each, (self.rank + 1) * each)

    def wait(self) -> None:
        """Wait until all ranks have arrived."""
        if self.world > 1:
            dist.barrier()

    def agree(self, parameters: Sequence[nn.Parameter], loss: float, late: bool) -> tuple[float, bool]:
        """Average gradients and the loss over the ranks, in one exchange; late if any of them is.

        The parameters' ``grad`` are replaced in place.
        """
        if self.world == 1:
            return loss, late
        gradients = [p.grad for p in parameters if p.grad is not None]
        told = torch.tensor([loss, float(late)], dtype=torch.float32, device=parameters[0].device)
        flat = torch.cat([*(g.reshape(-1).float() for g in gradients), told])
        dist.all_reduce(flat)
        flat /= self.world
        place = 0
        for gradient in gradients:
            gradient.copy_(flat[place : place + gradient.numel()].view_as(gradient))
            place += gradient.numel()
        return flat[-2].item(), bool(flat[-1] > 0)


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, if it did; alone otherwise.

    Processes that another launcher has joined, as Ray Train does, stay joined.

    Raises:
        ConfigError: if its variables do not fit together.
    """
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    world = os.environ.get("WORLD_SIZE", "1")
    rank = os.environ.get("RANK", "0")
    if not (world.isdecimal() and rank.isdecimal()):
        raise ConfigError(
            f"RANK and WORLD_SIZE: are {rank!r} and {world!r}; must be numbers, as torchrun sets"
        )
    if int(world) <= 1:
        yield Ranks()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def alike(tensors: dict[str, Tensor], ranks: Ranks) -> None:
    """Copy the first rank's tensors to all others, in place."""
    if ranks.world > 1:
        for tensor in tensors.values():
            dist.broadcast(tensor, 0)
