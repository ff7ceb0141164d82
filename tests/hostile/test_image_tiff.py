"""TIFF files of every layout: the pixels are those that were written, or the error says what the file holds."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, UnidentifiedImageError

from mobilesam.core.errors import ImageError, LimitError
from mobilesam.formats.image import decode_mask, read_image, read_with_remarks
from mobilesam.formats.sample_depth import sixteen_to_eight
from tests.hostile.image_tiff import (
    BLACK_IS_ZERO,
    CMYK,
    DEFLATE,
    LONG,
    LZW,
    NONE,
    OLD_DEFLATE,
    PACKBITS,
    RGB,
    SHORT,
    WHITE_IS_ZERO,
    Form,
    tiff_of,
)
from tests.series import one_in

HEIGHT, WIDTH = 21, 35  # no multiples of a strip's rows or a tile's sides
ALPHA, PREMULTIPLIED = 2, 1
FORMS = [
    Form(photometric, planar, compression, tiled, order)
    for photometric, planar, compression, tiled, order in itertools.product(
        (RGB, BLACK_IS_ZERO, WHITE_IS_ZERO), (False, True), (NONE, DEFLATE, LZW), (False, True), ("<", ">")
    )
]


def noise(dtype: str, samples: int = 1) -> np.ndarray:
    """Values over the whole range of a type, some of them zero."""
    rng, limits = np.random.default_rng(samples), np.iinfo(dtype)
    values = rng.integers(limits.min, int(limits.max) + 1, (HEIGHT, WIDTH, samples)).astype(dtype)
    values[3:9, 5:17] = 0
    return values


def eight(values: np.ndarray) -> np.ndarray:
    """16 bits by the documented rule."""
    return values if values.dtype == np.uint8 else np.rint(values / 257).astype(np.uint8)


def shown_as(values: np.ndarray, form: Form) -> np.ndarray | None:
    """The image that is meant, or None where the layout has no meaning."""
    samples, colours = values.shape[2], 3 if form.photometric == RGB else 1
    alpha = form.extra is not None and samples > colours
    unclear = colours == 1 and samples > (2 if alpha else 1)
    if values.dtype.kind == "i" or samples < colours or unclear:
        return None
    image = eight(values).astype(int)
    if form.photometric == WHITE_IS_ZERO:
        image[..., 0] = 255 - image[..., 0]
    seen = image[..., :colours]
    if alpha:
        part = image[..., colours:]
        seen = np.rint((seen * part + 255 * (255 - part)) / 255).astype(int)
    return np.broadcast_to(seen, (HEIGHT, WIDTH, 3))


def masked_as(values: np.ndarray, form: Form) -> np.ndarray | None:
    """The mask that is meant, or None where the layout has no meaning."""
    samples, colours = values.shape[2], 3 if form.photometric == RGB else 1
    alpha = form.extra is not None and samples > colours
    signed_white = values.dtype.kind == "i" and form.photometric == WHITE_IS_ZERO
    if samples < colours or (colours == 1 and samples > (2 if alpha else 1)) or signed_white:
        return None
    black = np.iinfo(values.dtype).max if form.photometric == WHITE_IS_ZERO else 0
    mask = (values[..., :colours] != black).any(-1)
    return mask & (values[..., colours] != 0) if alpha else mask


@pytest.mark.parametrize("form", one_in(2, FORMS), ids=lambda form: form.name)
def test_every_layout(form: Form) -> None:
    read = refused = 0
    for dtype, samples in itertools.product(("u1", "u2", "i1", "i2"), (1, 2, 3, 4)):
        values = noise(dtype, samples)
        for extra in (None, (ALPHA,)) if samples in (2, 4) else (None,):
            here = Form(**{**vars(form), "extra": extra})
            data, wanted = tiff_of(values, here), shown_as(values, here)
            if wanted is None:
                refused += 1
                with pytest.raises(
                    ImageError, match=r"is a TIFF of .*(8|16)-bit (un)?signed integers"
                ) as caught:
                    read_with_remarks(data)
                assert "damaged" not in str(caught.value)
            else:
                read += 1
                np.testing.assert_array_equal(read_with_remarks(data)[0], wanted)
            if (mask := masked_as(values, here)) is None:
                with pytest.raises(ImageError, match="is a TIFF of"):
                    decode_mask(data)
            else:
                np.testing.assert_array_equal(decode_mask(data), mask)
    assert (read, refused) == ((6, 18) if form.photometric == RGB else (4, 20))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [LZW, DEFLATE, OLD_DEFLATE, PACKBITS])
@pytest.mark.parametrize("planar", [False, True], ids=["together", "planar"])
def test_differences_packbits_and_turned_bits(order: str, compression: int, planar: bool) -> None:
    for predictor, fill_order, dtype, tiled in itertools.product((1, 2), (1, 2), ("u1", "u2"), (False, True)):
        values = noise(dtype, 3)
        form = Form(RGB, planar, compression, tiled, order, predictor=predictor, fill_order=fill_order)
        np.testing.assert_array_equal(read_image(tiff_of(values, form)), eight(values))


@pytest.mark.parametrize("compression", [NONE, DEFLATE, PACKBITS], ids=["none", "deflate", "packbits"])
def test_planes_of_many_pieces(compression: int) -> None:
    """Rows of all planes are put together piece by piece, with their alpha."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 2**16, (50, 40, 4), dtype=np.uint16)
    values = coarse.repeat(14, axis=0).repeat(16, axis=1)  # 700 x 640: each plane is more than three pieces
    for rows in (7, 700):
        form = Form(RGB, True, compression, extra=(2,), rows=rows)
        together = Form(RGB, False, compression, extra=(2,), rows=rows)
        read = read_image(tiff_of(values, form))
        np.testing.assert_array_equal(read, read_image(tiff_of(values, together)))
        np.testing.assert_array_equal(
            read_image(tiff_of(values[..., :3], Form(RGB, True, compression, rows=rows))),
            eight(values[..., :3]),
        )


def test_every_sample_of_16_bits() -> None:
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(sixteen_to_eight(values), np.round(values / 257))
    np.testing.assert_array_equal(sixteen_to_eight(values.astype(">u2")), np.round(values / 257))


def test_a_second_writer_agrees() -> None:
    """Files of tifffile, which has its own idea of every tag."""
    for dtype, planar, packing, tile, order, big in itertools.product(
        ("u1", "u2"), (False, True), (None, "zlib"), (None, (16, 16)), ("<", ">"), (False, True)
    ):
        values = noise(dtype, 3)
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer,
            np.moveaxis(values, -1, 0) if planar else values,
            photometric="rgb",
            planarconfig="separate" if planar else "contig",
            compression=packing,
            predictor=packing is not None,
            tile=tile,
            byteorder=order,
            bigtiff=big,
        )
        np.testing.assert_array_equal(read_image(buffer.getvalue()), eight(values))


@pytest.mark.parametrize(
    ("values", "form", "says"),
    [
        (noise("u2", 3), Form(planar=True), "16 bits in planes"),
        (noise("u2"), Form(WHITE_IS_ZERO), "16 bits with white as zero"),
        (noise("i1"), Form(BLACK_IS_ZERO), "signed integers"),
        (noise("u1", 3), Form(BLACK_IS_ZERO, True, DEFLATE), "several bands of grey"),
    ],
    ids=["planes", "white-is-zero", "signed", "bands"],
)
def test_what_pillow_reads_as_other_pixels_is_refused_as_its_image(
    values: np.ndarray, form: Form, says: str
) -> None:
    try:
        picture = Image.open(io.BytesIO(tiff_of(values, form)))
    except UnidentifiedImageError:
        return  # an older Pillow refuses it by itself
    with pytest.raises(ImageError, match=f"image: is a TIFF of {says}, .*; give its path or bytes") as caught:
        read_image(picture)
    assert caught.value.code == "U"


def test_other_tiff_files_may_be_opened_by_pillow() -> None:
    for values, form in (
        (noise("u1", 3), Form(planar=True)),
        (noise("u2"), Form(BLACK_IS_ZERO)),
        (noise("u1"), Form(0)),
    ):
        data = tiff_of(values, form)
        np.testing.assert_array_equal(read_image(Image.open(io.BytesIO(data))), read_image(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    """As Pillow turns the same picture of 8 bits."""
    values = noise("u1", 3)
    turned = Image.open(io.BytesIO(tiff_of(values, Form(orientation=orientation))))
    turned.load()
    for form in (Form(orientation=orientation), Form(orientation=orientation, planar=True, big=True)):
        np.testing.assert_array_equal(read_image(tiff_of(values, form)), np.asarray(turned))
        np.testing.assert_array_equal(decode_mask(tiff_of(values, form)), np.asarray(turned).any(-1))


def test_premultiplied_alpha_and_inks() -> None:
    values = noise("u1", 4)
    for planar in (False, True):
        got = read_image(tiff_of(values, Form(planar=planar, extra=(PREMULTIPLIED,))))
        wanted = np.minimum(values[..., :3].astype(int) + 255 - values[..., 3:], 255)
        np.testing.assert_array_equal(got, wanted)
        inks = read_image(tiff_of(values, Form(CMYK, planar=planar)))
        pillow = Image.frombytes("CMYK", (WIDTH, HEIGHT), values.tobytes()).convert("RGB")
        np.testing.assert_array_equal(inks, np.asarray(pillow))
        wide = read_image(tiff_of(values.astype(np.uint16) * 257, Form(CMYK, planar=planar)))
        np.testing.assert_array_equal(wide, inks)


def test_bands_that_are_not_looked_at_are_remarked_on() -> None:
    for planar, extra in itertools.product((False, True), ((0, 0), (ALPHA, 0))):
        values = noise("u2", 5)
        values[..., 3] = 0xFFFF
        image, remarks = read_with_remarks(tiff_of(values, Form(planar=planar, extra=extra)))
        np.testing.assert_array_equal(image, eight(values[..., :3]))
        assert remarks == (f"only the colours of its 5 bands are used; {extra.count(0)} ignored",)


@pytest.mark.parametrize(
    ("dtype", "samples", "form", "says"),
    [
        (
            "u1",
            5,
            Form(BLACK_IS_ZERO),
            r"5 bands of 8-bit unsigned integers \(grey\), whose colours are not stated",
        ),
        (
            "u2",
            8,
            Form(BLACK_IS_ZERO, planar=True),
            r"8 bands of 16-bit unsigned integers \(grey, in planes\)",
        ),
        ("u1", 3, Form(BLACK_IS_ZERO, compression=7), "3 bands .* whose colours are not stated"),
        ("f2", 1, Form(BLACK_IS_ZERO), r"16-bit floats \(grey\), which have no fixed black and white"),
        ("f4", 1, Form(BLACK_IS_ZERO), r"32-bit floats \(grey\), which have no fixed black and white"),
        ("f8", 1, Form(BLACK_IS_ZERO), r"64-bit floats \(grey\), which have no fixed black and white"),
        ("f4", 3, Form(RGB), r"3 bands of 32-bit floats \(RGB\), which have no fixed"),
        ("c8", 1, Form(BLACK_IS_ZERO), r"64-bit complex floats \(grey\), which have no fixed"),
        ("u4", 3, Form(RGB), r"3 bands of 32-bit unsigned integers \(RGB\), which have no fixed"),
        ("i8", 1, Form(BLACK_IS_ZERO), "64-bit signed integers"),
        ("u1", 2, Form(RGB), r"2 bands of 8-bit unsigned integers \(RGB\), which is not read"),
        ("u2", 1, Form(BLACK_IS_ZERO, compression=34887), "in compression 34887, which is not read"),
        ("u2", 1, Form(BLACK_IS_ZERO, DEFLATE, predictor=3), "with predictor 3, which is not read"),
    ],
    ids=str,
)
def test_what_has_no_colours_is_told(dtype: str, samples: int, form: Form, says: str) -> None:
    values = np.ones((HEIGHT, WIDTH, samples), dtype)
    with pytest.raises(ImageError, match=f"image bytes: is a TIFF of .*{says}.*; ") as caught:
        read_image(tiff_of(values, form))
    assert "damaged" not in str(caught.value)
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({258: (SHORT, [5, 6, 5])}, "3 bands of 5 and 6-bit"),
        ({258: (SHORT, [4, 4, 4])}, "3 bands of 4-bit"),
        ({262: (SHORT, [9])}, "ICC Lab"),
        ({262: (SHORT, [777])}, "photometric 777"),
        ({262: (SHORT, [6])}, r"YCbCr, chroma shared\)"),
        ({332: (SHORT, [2]), 262: (SHORT, [5]), 277: (SHORT, [4]), 258: (SHORT, [8] * 4)}, "4 bands .*CMYK"),
    ],
    ids=["rgb565", "rgb444", "icc-lab", "unknown", "ycbcr", "inks"],
)
def test_odd_tags_are_told(tags: dict, says: str) -> None:
    with pytest.raises(ImageError, match=f"is a TIFF of .*{says}.*not read; ") as caught:
        read_image(tiff_of(noise("u1", 3), Form(), tags))
    assert "damaged" not in str(caught.value)


def test_whole_numbers_of_32_bits_are_read_if_they_fit() -> None:
    values = noise("u2")
    for dtype, order in itertools.product(("u4", "i4"), ("<", ">")):
        data = tiff_of(values.astype(dtype), Form(BLACK_IS_ZERO, order=order))
        np.testing.assert_array_equal(read_image(data)[..., :1], eight(values))
        with pytest.raises(ImageError, match="32-bit integers outside 0 to 65,535"):
            read_image(tiff_of(values.astype(dtype) + 70_000, Form(BLACK_IS_ZERO, order=order)))


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_labels_of_any_type_are_masks(dtype: str) -> None:
    labels = (noise("u1") // 50).astype(dtype)
    np.testing.assert_array_equal(decode_mask(tiff_of(labels, Form(BLACK_IS_ZERO))), labels[..., 0] != 0)
    if dtype.startswith("f"):
        labels[0, 0] = np.nan
        with pytest.raises(ImageError, match="holds values that are not numbers"):
            decode_mask(tiff_of(labels, Form(BLACK_IS_ZERO)))


def test_a_faint_mask_of_16_bits_is_not_lost() -> None:
    labels = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    labels[4:9, 4:9, 1] = 1
    for planar in (False, True):
        assert decode_mask(tiff_of(labels, Form(planar=planar))).sum() == 25


@pytest.mark.parametrize(
    "compression", [NONE, LZW, DEFLATE, PACKBITS], ids=["none", "lzw", "deflate", "packbits"]
)
@pytest.mark.parametrize("planar", [False, True], ids=["together", "planar"])
def test_cut_and_damaged_files_are_called_so(compression: int, planar: bool) -> None:
    data = tiff_of(noise("u2", 3), Form(planar=planar, compression=compression))
    for end in range(300, len(data), 171):
        for read in (read_image, decode_mask):
            with pytest.raises(ImageError, match="is a truncated or damaged TIFF file"):
                read(data[:end])


def test_a_wrong_checksum_is_damage() -> None:
    values = noise("u1", 3)
    data = tiff_of(values, Form(compression=DEFLATE, rows=HEIGHT))
    with pytest.raises(ImageError, match=r"damaged TIFF file .*incorrect data check"):
        read_image(data[:-1] + bytes([data[-1] ^ 1]))


def test_more_strips_than_rows_are_refused_before_they_are_read() -> None:
    """2 million offsets for 21 rows: a decoder went through them for a minute and a gigabyte."""
    values, many = noise("u1", 3), 2_000_000
    lists = {279: (LONG, [HEIGHT * WIDTH * 3]), 278: (LONG, [HEIGHT])}
    whole = tiff_of(values, Form(rows=HEIGHT), lists)
    at = whole.index(struct.pack("<HHI", 273, LONG, 1))
    start = struct.unpack_from("<I", whole, at + 8)[0]
    data = bytearray(whole + struct.pack("<I", start) * many)
    struct.pack_into("<HHII", data, at, 273, LONG, many, len(whole))
    np.testing.assert_array_equal(read_image(bytes(data)), values)
    jpeg = bytes(data).replace(struct.pack("<HHII", 259, SHORT, 1, 1), struct.pack("<HHII", 259, SHORT, 1, 7))
    with pytest.raises(LimitError, match="2,000,000 strips, over the 1 that its size can use"):
        read_image(jpeg)


def test_tiny_tiles_are_refused() -> None:
    tags = {322: (LONG, [1]), 323: (LONG, [1]), 324: (LONG, [8]), 325: (LONG, [3])}
    tags |= {256: (LONG, [7000]), 257: (LONG, [7000])}
    with pytest.raises(LimitError, match="49,000,000 tiles, over the limit of 100,000"):
        read_image(tiff_of(noise("u1", 3), Form(), tags))


def test_tags_that_share_their_bytes_are_refused() -> None:
    """4,000 tags that claim the same 100,000 bytes would be 400 MB."""
    count, size = 4000, 100_000
    entries = b"".join(struct.pack("<HHII", 1000 + i, 7, size, 8) for i in range(count))
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(size)
    with pytest.raises(LimitError, match="its tags claim 400,000,000 bytes"):
        read_image(data)
    more = b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries + bytes(size)
    with pytest.raises(LimitError, match="5,000 tags, over the limit of 4,096"):
        read_image(more)


def test_one_strip_that_unpacks_to_a_gigabyte_is_refused() -> None:
    tags = {
        256: (LONG, [7000]),
        257: (LONG, [7000]),
        278: (LONG, [7000]),
        273: (LONG, [8]),
        279: (LONG, [100]),
    }
    data = tiff_of(noise("u2", 3), Form(compression=LZW), tags)
    with pytest.raises(LimitError, match="a block of 294,000,000 bytes, over the limit of 201,326,592"):
        read_image(data)


def test_a_strip_that_holds_more_than_its_size_asks_for_is_read() -> None:
    values = noise("u1", 3)
    form = Form(compression=DEFLATE, rows=HEIGHT)
    longer = zlib.compress(values.tobytes() + bytes(2**20))
    data = tiff_of(values, form)
    start = data.index(packed_size := struct.pack("<HHI", 279, LONG, 1)) + len(packed_size)
    place = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 273, LONG, 1)) + 8)[0]
    data = data[:start] + struct.pack("<I", len(longer)) + data[start + 4 : place] + longer
    np.testing.assert_array_equal(read_image(data), values)


@pytest.mark.parametrize(
    "data",
    [
        tiff_of(noise("u2", 3), Form(compression=LZW))[:-900] + bytes(900),
        tiff_of(noise("u1", 3), Form(compression=PACKBITS))[:-900] + b"\x7f" * 900,
        tiff_of(noise("u1", 3), Form(), {259: (SHORT, [7])}),
        tiff_of(noise("u1"), Form(BLACK_IS_ZERO), {259: (SHORT, [4]), 258: (SHORT, [1])}),
        tiff_of(noise("u1", 3), Form(), {259: (SHORT, [7]), 277: (LONG, [2**17])}),
    ],
    ids=["lzw", "packbits", "jpeg", "ccitt", "samples"],
)
def test_nothing_else_is_printed(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff and Pillow's log print on standard error by themselves."""
    for read in (read_image, decode_mask):
        with contextlib.suppress(ImageError):
            read(data)
    assert capfd.readouterr() == ("", "")
