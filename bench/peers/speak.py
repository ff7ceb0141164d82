"""The benchmark's protocol for workers that run without mobilesam, and what they have in common."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib import metadata
from types import ModuleType

import torch


def protocol() -> ModuleType:
    """Return mobilesam's module by its file: the package itself is not in the peers' environments."""
    spec = importlib.util.spec_from_file_location("protocol", os.environ["MOBILESAM_BENCH_PROTOCOL"])
    module = importlib.util.module_from_spec(spec)
    sys.modules["protocol"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def facts_of(network: torch.nn.Module, *packages: str) -> dict:
    """Size and versions of a network on random weights, four bytes a parameter."""
    count = sum(one.numel() for one in network.parameters())
    return {
        "parameters": count,
        "bytes_a_parameter": 4,
        "file_bytes": 4 * count,
        "weights": "random",
        "runtime": "PyTorch",
        "versions": {name: metadata.version(name) for name in ("torch", *packages)},
    }


def use_threads(asked: dict) -> None:
    """Let PyTorch have as many threads as the benchmark says."""
    torch.set_num_threads(asked["threads"])
    torch.manual_seed(0)
