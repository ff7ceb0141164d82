"""What holds for every input, not only for the examples."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mobilesam.core.boxes import mask_to_box
from mobilesam.core.errors import ConfigError, LimitError, MobileSamError, PromptError
from mobilesam.core.frame import Frame, input_size_of
from mobilesam.core.metrics import mask_ious
from mobilesam.core.polygons import mask_to_polygons
from mobilesam.core.prompts import mask_to_logits, prompts_to_decoder_inputs, validate_prompt
from mobilesam.core.regions import distance_to_edge
from mobilesam.core.resize import enlarging_taps
from mobilesam.core.rle import Rle, dict_to_rle, mask_to_rle, rle_intersections, rle_to_mask, string_to_counts
from mobilesam.core.text import printable
from mobilesam.core.types import Embedding, Prompt
from mobilesam.formats.image import array_to_rgb, read_image
from mobilesam.formats.prompt_file import PromptFile, parse_prompts
from mobilesam.segment.model import Model
from tests.seeded import seeded_image

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))
sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
arrays = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.int64, np.uint8, bool, complex, object]),
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=5),
)
SIZE = (48, 64)
FRAME = Frame.fit(SIZE, 1024)


@given(masks)
def test_run_lengths_round_trip(mask: np.ndarray) -> None:
    rle = mask_to_rle(mask)
    for compressed in (True, False):
        record = json.loads(json.dumps(rle.to_dict(compressed=compressed)))
        np.testing.assert_array_equal(rle_to_mask(dict_to_rle(record)), mask)
    assert rle.area == mask.sum()


stacks = hnp.array_shapes(min_dims=3, max_dims=3, max_side=12).flatmap(lambda shape: hnp.arrays(bool, shape))


@given(stacks, st.integers(0, 12))
def test_runs_share_what_the_masks_share(stack: np.ndarray, split: int) -> None:
    ours = [mask_to_rle(mask) for mask in stack]
    shared = (stack[:, None] & stack).sum((2, 3))
    np.testing.assert_array_equal(rle_intersections(ours, ours), shared)
    idle = [Rle(rle.size, np.insert(rle.counts, min(split, len(rle.counts)), [0, 0])) for rle in ours]
    np.testing.assert_array_equal(rle_intersections(idle, ours), shared)
    np.testing.assert_array_equal(rle_intersections(ours, idle), shared)
    union = (stack[:, None] | stack).sum((2, 3))
    np.testing.assert_array_equal(mask_ious(ours, ours[:split]), (shared / np.maximum(union, 1))[:, :split])


@given(st.text(max_size=30) | st.binary(max_size=30))
def test_any_text_is_counts_or_an_error(text: str | bytes) -> None:
    try:
        counts = string_to_counts(text)
    except ConfigError:
        return
    assert counts.dtype == np.int64


@given(masks)
def test_polygons_have_the_masks_area_and_box(mask: np.ndarray) -> None:
    polygons = mask_to_polygons(mask)
    assert sum(polygon.area for polygon in polygons) == mask.sum()
    if polygons:
        points = np.concatenate([polygon.exterior for polygon in polygons])
        assert (*points.min(0), *points.max(0)) == mask_to_box(mask)
    assert (distance_to_edge(mask) > 0).tolist() == mask.tolist()


@given(sizes, st.sampled_from([512, 1024]))
def test_size_rule_keeps_the_longer_side(size: tuple[int, int], side: int) -> None:
    height, width = input_size_of(size, side)
    assert max(height, width) == side
    assert min(height, width) >= 1


@given(sizes, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_points_come_back_from_the_input_frame(size: tuple[int, int], x: float, y: float) -> None:
    point = np.array([[x * size[1], y * size[0]]])
    inner = input_size_of(size, 1024)
    np.testing.assert_allclose(
        Frame(inner, size, 1024).to_input(Frame(size, inner, 1024).to_input(point)), point, atol=1e-6
    )


@settings(max_examples=25)
@given(st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_enlarging_keeps_a_constant(size: tuple[int, int]) -> None:
    for taps, length in zip(enlarging_taps(64, Frame.fit(size, 256)), size, strict=True):
        assert taps.weight.shape[0] == length
        np.testing.assert_allclose(taps.weight.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(taps.apply(np.full((64, 2), 3, np.float32)), 3, atol=1e-5)
        assert taps.weight.min() >= 0


@settings(max_examples=300)
@given(st.sampled_from(["points", "labels", "box", "mask"]), anything | arrays, anything | arrays)
def test_any_prompt_is_valid_or_a_prompt_error(field: str, value: object, other: object) -> None:
    fields = {field: value} | ({"points": other} if field == "labels" else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            valid = validate_prompt(Prompt(**fields), FRAME, grid=64)
        except (PromptError, LimitError):
            return
        inputs = prompts_to_decoder_inputs([valid], FRAME)
    assert np.isfinite(inputs.point_coords).all()
    assert inputs.point_coords.shape == (1, valid.slots, 2)
    assert inputs.point_labels.shape == (1, valid.slots)
    assert set(np.unique(inputs.point_labels)) <= {-1, 0, 1, 2, 3}
    assert inputs.mask_input is None or np.isfinite(inputs.mask_input).all()


@given(hnp.arrays(bool, SIZE))
def test_a_mask_prompt_keeps_its_area(mask: np.ndarray) -> None:
    logits = mask_to_logits(mask, 256, FRAME)
    assert logits.shape == (1, 256, 256)
    assert (logits[0, 192:] == -8).all()
    np.testing.assert_array_equal(logits[0, 2:192:4, 2::4] > 0, mask)


@settings(max_examples=200)
@given(
    st.binary(max_size=200)
    | st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"]).flatmap(
        lambda head: st.binary(max_size=100).map(lambda tail: head + tail)
    )
)
def test_any_bytes_are_an_image_or_an_image_error(data: bytes) -> None:
    try:
        image = read_image(data)
    except MobileSamError as error:
        assert error.code in "IL"
        assert len(str(error)) <= 200
        return
    assert image.dtype == np.uint8


@given(arrays)
def test_any_array_is_an_image_or_an_image_error(array: np.ndarray) -> None:
    try:
        image = array_to_rgb(array)
    except MobileSamError as error:
        assert error.code in "UIL"
        return
    assert image.shape[2] == 3


@settings(max_examples=200)
@given(st.text(max_size=60) | anything.map(lambda value: json.dumps(value, default=str)))
def test_any_text_is_prompts_or_an_error(text: str) -> None:
    with pytest.raises(MobileSamError):
        if parse_prompts(text, name="p.json", folder=Path()) != PromptFile():
            raise PromptError("none of these is a prompt file, or else the strategy found one")


@given(st.text())
def test_printable_text_has_no_control_characters(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode("utf-8")


@pytest.fixture(scope="module")
def four(pocket: Model) -> tuple[Embedding, ...]:
    return pocket.embed_batch([seeded_image(20 + 30 * i, 90 - 20 * i, i) for i in range(4)])


OBJECTS = (
    Prompt(points=[3, 4]),
    Prompt(points=[[3, 4], [9, 9]]),
    Prompt(box=[2, 2, 15, 14]),
    Prompt(points=[5, 5], box=[1, 3, 15, 14]),
)


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.sampled_from(OBJECTS), max_size=3)), max_size=5))
def test_batches_of_any_raggedness_keep_the_order(
    pocket: Model, four: tuple[Embedding, ...], wanted: list[tuple[int, list[Prompt]]]
) -> None:
    results = pocket.segment_batch([four[i] for i, _ in wanted], [prompts for _, prompts in wanted])
    assert len(results) == len(wanted)
    for found, (i, prompts) in zip(results, wanted, strict=True):
        assert len(found) == len(prompts)
        for result, prompt in zip(found, prompts, strict=True):
            alone = pocket.segment(four[i], prompt)
            np.testing.assert_allclose(result.low_res_masks, alone.low_res_masks, atol=1e-4)
            np.testing.assert_allclose(result.predicted_iou, alone.predicted_iou, atol=1e-4)
