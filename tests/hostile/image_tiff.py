"""TIFF files of any layout, written from an array: byte order, planes, strips, tiles and packing as asked."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NONE, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA = 1, 5, 8, 32773, 32946, 34925
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6}
SHORT, LONG = 3, 4
TILE = 16


@dataclass(frozen=True)
class Form:
    """How a TIFF file is written."""

    photometric: int = RGB
    planar: bool = False
    compression: int = NONE
    tiled: bool = False
    order: str = "<"
    predictor: int = 1
    rows: int = 5
    extra: tuple[int, ...] | None = None
    fill_order: int = 1
    orientation: int = 1
    big: bool = False

    @property
    def name(self) -> str:
        packing = {NONE: "none", LZW: "lzw", DEFLATE: "deflate", PACKBITS: "packbits"}.get(
            self.compression, "other"
        )
        return "-".join(
            (
                {0: "white-is-zero", 1: "black-is-zero", 2: "rgb", 5: "cmyk"}[self.photometric],
                "planar" if self.planar else "together",
                packing,
                "tiles" if self.tiled else "strips",
                "little" if self.order == "<" else "big",
            )
        )


def tiff_of(array: np.ndarray, form: Form, tags: dict[int, tuple[int, list[int]]] | None = None) -> bytes:
    """Write (H, W) or (H, W, S) as a TIFF file of one page."""
    array = array[..., None] if array.ndim == 2 else array
    height, width, samples = array.shape
    blocks = [packed(block, form) for block in blocks_of(array, form)]
    extra = form.extra
    if extra is None:
        extra = (0,) * (samples - {RGB: 3, CMYK: 4}.get(form.photometric, 1))
    entries: dict[int, tuple[int, list[int]]] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [array.dtype.itemsize * 8] * samples),
        259: (SHORT, [form.compression]),
        262: (SHORT, [form.photometric]),
        266: (SHORT, [form.fill_order]),
        274: (SHORT, [form.orientation]),
        277: (SHORT, [samples]),
        284: (SHORT, [2 if form.planar else 1]),
        317: (SHORT, [form.predictor]),
        339: (SHORT, [FORMATS[array.dtype.kind]] * samples),
    }
    if extra:
        entries[338] = (SHORT, list(extra))
    if form.tiled:
        entries |= {322: (LONG, [TILE]), 323: (LONG, [TILE]), 325: (LONG, [len(b) for b in blocks])}
    else:
        entries |= {278: (LONG, [form.rows]), 279: (LONG, [len(b) for b in blocks])}
    entries |= tags or {}
    where = 324 if form.tiled else 273
    size = len(directory(entries | {where: (LONG, [0] * len(blocks))}, form))
    starts = [size + sum(map(len, blocks[:i])) for i in range(len(blocks))]
    return directory(entries | {where: (LONG, starts)}, form) + b"".join(blocks)


def directory(entries: dict[int, tuple[int, list[int]]], form: Form) -> bytes:
    """Everything before the pixels."""
    order, field = form.order, "Q" if form.big else "I"
    start = 16 if form.big else 8
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if form.big else 42)
    head += struct.pack(order + ("HHQ" if form.big else "I"), *((8, 0, start) if form.big else (start,)))
    count = struct.pack(order + ("Q" if form.big else "H"), len(entries))
    width = struct.calcsize(order + field)
    after = start + len(count) + len(entries) * (4 + 2 * width) + width
    listed = values = b""
    for tag, (kind, numbers) in sorted(entries.items()):
        data = struct.pack(f"{order}{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        listed += struct.pack(order + "HH" + field, tag, kind, len(numbers))
        if len(data) <= width:
            listed += data.ljust(width, b"\0")
        else:
            listed += struct.pack(order + field, after + len(values))
            values += data
    return head + count + listed + struct.pack(order + field, 0) + values


def blocks_of(array: np.ndarray, form: Form) -> Iterator[np.ndarray]:
    """The strips or tiles (h, w, S) in their order."""
    planes = [array[..., i : i + 1] for i in range(array.shape[2])] if form.planar else [array]
    for plane in planes:
        if not form.tiled:
            yield from (plane[top : top + form.rows] for top in range(0, len(plane), form.rows))
            continue
        padding = [(0, -side % TILE) for side in plane.shape[:2]]
        whole = np.pad(plane, [*padding, (0, 0)], constant_values=7)
        for top in range(0, len(whole), TILE):
            yield from (whole[top : top + TILE, at : at + TILE] for at in range(0, whole.shape[1], TILE))


def packed(block: np.ndarray, form: Form) -> bytes:
    """The bytes of a strip or tile."""
    if form.predictor == 2:
        block = np.concatenate([block[:, :1], block[:, 1:] - block[:, :-1]], axis=1)
    raw = block.astype(block.dtype.newbyteorder(form.order)).tobytes()
    if form.compression in (DEFLATE, OLD_DEFLATE):
        raw = zlib.compress(raw)
    elif form.compression == LZW:
        raw = lzw(raw)
    elif form.compression == PACKBITS:
        pieces = (raw[i : i + 128] for i in range(0, len(raw), 128))
        raw = b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)
    if form.fill_order == 2:
        raw = bytes(int(f"{byte:08b}"[::-1], 2) for byte in raw)
    return raw


def lzw(raw: bytes) -> bytes:
    """TIFF's LZW."""
    clear, end = 256, 257
    codes, bits = [(clear, 9)], 9
    table = {bytes([i]): i for i in range(256)}
    word, following = b"", 258
    for i in range(len(raw)):
        longer = word + raw[i : i + 1]
        if longer in table:
            word = longer
            continue
        codes.append((table[word], bits))
        table[longer] = following
        following += 1
        word = raw[i : i + 1]
        if following == 4094:
            codes.append((clear, bits))
            table, following = {bytes([i]): i for i in range(256)}, 258
        bits = max(9, following.bit_length())
    codes += [(table[word], bits)]
    codes += [(end, max(9, (following + 1).bit_length()))]
    text = "".join(f"{code:0{width}b}" for code, width in codes)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
