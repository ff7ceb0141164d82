"""The harness sees what it is there to see, and every reader takes its seeds and some damage of them well."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable

import numpy as np
import pytest

from mobilesam.core.errors import ConfigError
from tests.fuzz.judge import CLEAR_PEAK, Judge
from tests.fuzz.targets import TARGETS

MUTATIONS = 40


if not CLEAR_PEAK.exists():
    pytest.skip("memory is measured by /proc, which this system has not", allow_module_level=True)


def busy(data: bytes) -> None:
    end = time.process_time() + 2.1
    while time.process_time() < end:
        pass


def fault(data: bytes) -> None:
    {}[data]


def greedy(data: bytes) -> None:
    with mmap.mmap(-1, 450 * 2**20) as block:  # never memory that the allocator has kept
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1


def chatty(data: bytes) -> None:
    os.write(2, b"decoder: line 7 is odd\n")


class AsItIsError(ConfigError):
    """An error that does not make its message one short line, as ours do."""

    def __str__(self) -> str:
        return self.message


def wordy(data: bytes) -> None:
    raise AsItIsError("x" * 3000)


def unprintable(data: bytes) -> None:
    raise AsItIsError("a\nb")


def told(data: bytes) -> None:
    raise ConfigError("a: is not b; give c")


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (fault, "KeyError in test_fuzz.py:fault"),
        (busy, "slow"),
        (greedy, "memory"),
        (chatty, "prints: decoder: line # is odd"),
        (wordy, "message of AsItIsError"),
        (unprintable, "message of AsItIsError"),
        (told, None),
        (len, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_a_find(read: Callable[[bytes], object], kind: str | None) -> None:
    with Judge() as judge:
        find, after = judge.try_input(read, b"a"), judge.try_input(len, b"a")
    assert (find and find.kind) == kind
    assert after is None, "the one before is still blamed"


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name: str) -> None:
    """Some readers refuse some of their seeds, as that of masks does photos, but none all."""
    read: list[bytes] = []

    def count(data: bytes) -> None:
        TARGETS[name].read(data)
        read.append(data)

    with Judge() as judge:
        finds = [judge.try_input(count, seed) for seed in TARGETS[name].seeds()]
    assert [find for find in finds if find is not None] == []
    assert read


@pytest.mark.parametrize("name", ["images", "tiff", "masks", "videos"])
def test_damage_of_seeds(name: str) -> None:
    target, rng, finds = TARGETS[name], np.random.default_rng(0), []
    seeds = target.seeds()
    with Judge() as judge:
        for seed in seeds * MUTATIONS:
            data = np.frombuffer(seed, np.uint8).copy()
            data[rng.integers(len(data), size=rng.integers(1, 6))] = rng.integers(256)
            end = rng.integers(len(data) // 2, len(data) + 1)
            finds.append(judge.try_input(target.read, data[:end].tobytes()))
    assert len(finds) == len(seeds) * MUTATIONS
    assert [find for find in finds if find is not None] == []
