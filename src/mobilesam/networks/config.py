"""A network as data: its spec, and how its parts are built. Each encoder's file has the configs of its networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from mobilesam.core.spec import NetworkSpec
from mobilesam.networks.objectness import ObjectnessHead


@dataclass(frozen=True)
class NetworkConfig:
    """One promptable network.

    Attributes:
        spec: what it is.
        encoder: builds its image encoder.
        proposal_head: builds its head for objects; None for a network without one.
    """

    spec: NetworkSpec
    encoder: Callable[[], nn.Module]
    proposal_head: Callable[[], ObjectnessHead] | None = None


@dataclass(frozen=True)
class DetectorConfig:
    """One detector of objects.

    Attributes:
        spec: what it is.
        width: channels of the first layer.
        depth: bottlenecks of the shortest layers.
        head_width: channels of the head's two branches.
        head_depth: convolutions in each of them.
    """

    spec: NetworkSpec
    width: int
    depth: int
    head_width: int
    head_depth: int = 2
