"""Mutations of small valid files: reading ends well or with our error, and never otherwise."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from mobilesam.core.errors import ImageError, LimitError
from mobilesam.formats.image import decode_mask, read_with_remarks
from tests.hostile.image_files import SMALL, TINY_HEIC
from tests.hostile.image_parts import encoded, flipped, gif, picture, png, tiff_image
from tests.pace import within

MAX_PIXELS = 1_000_000  # small enough that a mutated size is no longer to decode
SLOW = 2.0  # seconds of the processor for one file
SEEDS = {name: make() for name, make in SMALL.items()} | {
    "heic": TINY_HEIC,
    "frames.gif": gif(3),
    "16-bit.png": png(picture().astype(np.uint16) * 257),
    "deflate.tiff": encoded(picture()[::2, ::2], "TIFF", compression="tiff_adobe_deflate"),
    "strip.tiff": tiff_image(48, 64, picture().tobytes()),
    "progressive.jpeg": encoded(picture(), "JPEG", quality=60, progressive=True),
    "lossless.webp": encoded(picture(), "WEBP", lossless=True),
}
MUTATIONS = ("bits", "bytes", "cut", "swap", "insert")


def mutated(data: bytes, kind: str, seed: int) -> bytes:
    """The file with one kind of damage."""
    rng = np.random.default_rng(seed)
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
    if kind == "bits":
        return flipped(data, seed, int(rng.integers(1, 9)), 0)
    if kind == "bytes":
        return data[:at] + rng.bytes(length) + data[at + length :]
    if kind == "cut":
        return data[:at] + data[at + length :]
    if kind == "swap":  # the values that sizes and offsets break at
        odd = (0, 0x7F, 0x80, 0xFF)[int(rng.integers(4))]
        return data[:at] + bytes([odd]) * min(length, 4) + data[at + min(length, 4) :]
    other = int(rng.integers(len(data)))
    return data[:at] + data[other : other + length] + data[at:]


def try_all(files: Iterator[bytes]) -> Counter:
    """Read each file twice over, as an image and as a mask; return how it ended."""
    ends: Counter = Counter()
    for data in files:
        start = time.process_time()
        try:
            read_with_remarks(data, max_pixels=MAX_PIXELS)
            ends["read"] += 1
        except (ImageError, LimitError) as error:
            ends[error.code] += 1
            assert len(str(error)) <= 300
            assert str(error).isprintable()
        try:
            decode_mask(data)
        except (ImageError, LimitError):
            pass
        seconds = time.process_time() - start
        assert within(seconds, SLOW), f"{seconds} s for {data!r}"
    return ends


@pytest.mark.parametrize("name", SEEDS)
def test_mutations(name: str) -> None:
    data = SEEDS[name]
    ends = try_all(mutated(data, kind, seed) for kind in MUTATIONS for seed in range(40))
    assert ends["I"] > 0, "no mutation was bad enough to be noticed"


@pytest.mark.parametrize("name", SEEDS)
def test_cut_at_many_places(name: str) -> None:
    data = SEEDS[name]
    step = max(1, len(data) // 60)
    ends = try_all(data[:end] for end in range(0, len(data), step))
    assert ends["I"] > 0


@pytest.mark.long
def test_cut_at_every_byte_and_thousands_of_mutations() -> None:
    """Prints the row of docs/explanation/long-series.md."""
    start, ends = time.process_time(), Counter()
    for data in SEEDS.values():
        ends += try_all(data[:end] for end in range(len(data)))
        ends += try_all(mutated(data, kind, seed) for kind in MUTATIONS for seed in range(1000, 30_000))
    seconds = time.process_time() - start
    print(f"{sum(ends.values()):,} files, {dict(ends)}, {seconds:.0f} s of one core")
    assert set(ends) <= {"read", "I", "L"}
