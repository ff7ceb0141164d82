"""Which part of an input a prompt is decoded from, and how the parts come together again."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilesam.core.types import MULTIMASK, DecoderInputs
from mobilesam.core.views import BEYOND, WHOLE, Views
from mobilesam.networks.sam import Sam
from mobilesam.train.masks import for_prompts
from tests.parity.test_fast_paths import network_with

VIEWS = Views(image_size=768, size=512)
TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT = 1, 2, 3, 4


def asked(*parts: tuple[float, float, int], mask: np.ndarray | None = None) -> DecoderInputs:
    """One prompt of (x, y, label)."""
    array = np.array(parts, np.float32).reshape(1, -1, 3)
    return DecoderInputs(array[..., :2], array[..., 2], None if mask is None else mask[None, None])


def box(x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[float, float, int], ...]:
    return (x0, y0, 2), (x1, y1, 3)


def mask_of(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Logits of 384 x 384, for a box in pixels of the input."""
    mask = np.full((384, 384), -4.0, np.float32)
    mask[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2] = 4
    return mask


PAD = (0, 0, -1)
CHOICES = {
    "a small box": (asked(*box(20, 30, 100, 90)), TOP_LEFT),
    "on the right": (asked(*box(600, 30, 700, 90)), TOP_RIGHT),
    "at the bottom": (asked(*box(20, 600, 100, 700)), BOTTOM_LEFT),
    "in the last corner": (asked(*box(600, 600, 760, 760)), BOTTOM_RIGHT),
    "most room": (asked(*box(260, 260, 300, 300)), TOP_LEFT),
    "as large as may be, in the middle": (asked(*box(256, 256, 512, 512)), TOP_LEFT),
    "too large": (asked(*box(0, 0, 257, 20)), WHOLE),
    "one point": (asked((50, 50, 1), PAD), WHOLE),
    "points": (asked((50, 50, 1), (60, 60, 1), (400, 90, 0), PAD), WHOLE),
    "a box and a point in it": (asked((30, 40, 1), *box(20, 30, 100, 90)), TOP_LEFT),
    "a box and a point far away": (asked((700, 40, 1), *box(20, 30, 100, 90)), WHOLE),
    "a box and a background point out of its window": (asked((700, 40, 0), *box(20, 30, 100, 90)), WHOLE),
    "a small mask": (asked((30, 40, 1), PAD, mask=mask_of(20, 30, 100, 90)), TOP_LEFT),
    "a mask alone": (asked(PAD, mask=mask_of(600, 30, 700, 90)), TOP_RIGHT),
    "a small mask and a point that makes it large": (
        asked((30, 400, 1), PAD, mask=mask_of(20, 30, 100, 90)),
        WHOLE,
    ),
    "a large mask": (asked((30, 40, 1), PAD, mask=mask_of(20, 30, 500, 90)), WHOLE),
    "an empty mask": (asked((30, 40, 1), PAD, mask=mask_of(0, 0, 0, 0)), WHOLE),
    "a small box and a large mask": (
        asked(*box(20, 30, 100, 90), mask=mask_of(20, 30, 500, 90)),
        TOP_LEFT,
    ),
}


@pytest.mark.parametrize(("inputs", "view"), CHOICES.values(), ids=CHOICES)
def test_choice(inputs: DecoderInputs, view: int) -> None:
    assert VIEWS.choose(inputs).tolist() == [view]


# Of a side of exactly 256, rounding a corner to float32 decides.
@given(st.tuples(*[st.floats(0, 512)] * 2), st.tuples(*[st.floats(1, 255.9)] * 2))
def test_every_small_box_has_a_window(corner: tuple[float, float], size: tuple[float, float]) -> None:
    x, y = corner
    inputs = asked(*box(x, y, x + size[0], y + size[1]))
    (view,) = VIEWS.choose(inputs)
    assert view != WHOLE
    shown = VIEWS.coords(inputs.point_coords, np.array([view]))
    assert shown.min() >= 0 and shown.max() <= VIEWS.size


def test_a_window_shows_what_lies_there() -> None:
    pixels = np.arange(768 * 768).reshape(768, 768)
    for view in (TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT):
        shown = VIEWS.cut(pixels, view)
        assert shown.shape == (512, 512)
        ((x, y),) = VIEWS.coords(np.array([[[300.0, 400.0]]]), np.array([view]))[0].astype(int)
        assert shown[y, x] == pixels[400, 300]


def test_the_whole_is_shown_smaller_with_its_pixels_middles_where_they_were() -> None:
    coords = np.array([[[-0.5, 767.5], [383.5, 383.5]]])
    np.testing.assert_allclose(
        VIEWS.coords(coords, np.array([WHOLE])), [[[-0.5, 511.5], [255.5, 255.5]]], atol=1e-5
    )


def test_prompts_come_back_in_their_order_and_place() -> None:
    """A decoder that returns the arrays it is given shows where each mask comes from."""
    fine = np.arange(384 * 384, dtype=np.float32).reshape(1, 1, 384, 384)
    embedding = {"fine": fine, "coarse": fine[..., ::2, ::2], "whole_coarse": np.zeros((1, 1, 128, 128))}
    names = ("in the last corner", "one point", "a small box", "too large", "on the right")
    inputs = [CHOICES[name][0] for name in names]
    together = DecoderInputs(
        np.concatenate([one.point_coords for one in inputs]),
        np.concatenate([one.point_labels for one in inputs]),
    )

    def decode(arrays: dict, inputs: DecoderInputs) -> tuple[np.ndarray, np.ndarray]:
        assert arrays["coarse"].shape[-1] == 128
        b = len(inputs.point_coords)
        return np.repeat(arrays["fine"], b, axis=0), inputs.point_coords[:, :1, 0]

    masks, ious = VIEWS.decode(embedding, together, decode, np.full)
    assert masks.shape == (5, 1, 384, 384)
    for i, name in enumerate(names):
        view = CHOICES[name][1]
        wanted = np.full((384, 384), BEYOND)
        VIEWS.cut(wanted, view)[:] = VIEWS.cut(fine[0, 0], view)
        np.testing.assert_array_equal(masks[i, 0], wanted)
    np.testing.assert_allclose(ious[:, 0], [344, 33 + 1 / 6, 20, -1 / 6, 344], atol=1e-4)


@pytest.fixture(scope="module")
def pocket_network() -> Sam:
    return network_with("pocket", 0)


@torch.inference_mode()
def test_a_network_decodes_what_its_views_show(pocket_network: Sam) -> None:
    """Each prompt of a batch, from arrays cut by hand; the same by the training's way to cut them."""
    network, rng = pocket_network, torch.Generator().manual_seed(0)
    embedding = network.encode(torch.rand(1, 3, 768, 768, generator=rng))
    coords = torch.tensor([[[520.0, 530.0], [600.0, 640.0]], [[600.0, 20.0], [700.0, 90.0]]])
    labels = torch.tensor([[2.0, 3.0]] * 2)
    masks, ious = network.decode(embedding, coords, labels)
    assert masks.shape == (2, 3, 384, 384)
    windows = {}
    for i, (view, (x, y)) in enumerate(((BOTTOM_RIGHT, (256, 256)), (TOP_RIGHT, (256, 0)))):
        cut = {}
        for name, stride in (
            ("coarse_embedding", 16),
            ("image_embedding", 8),
            ("skip_stride4", 4),
            ("skip_stride2", 2),
        ):
            rows, columns = (slice(o // stride, (o + 512) // stride) for o in (y, x))
            cut[name] = embedding[name][..., rows, columns]
        shown, quality = network.decode_view(
            cut, coords[i : i + 1] - torch.tensor([x, y]), labels[i : i + 1], mask_tokens=MULTIMASK
        )
        wanted = torch.full((3, 384, 384), BEYOND)
        wanted[:, y // 2 : (y + 512) // 2, x // 2 : (x + 512) // 2] = shown[0]
        assert (masks[i] - wanted).abs().max() <= 1e-4
        assert (ious[i] - quality[0]).abs().max() <= 1e-5
        windows[view] = cut
    each = for_prompts(network, embedding, 2, torch.tensor([BOTTOM_RIGHT, TOP_RIGHT]))
    for name, array in each.items():
        assert torch.equal(array, torch.cat([windows[BOTTOM_RIGHT][name], windows[TOP_RIGHT][name]]))


@torch.inference_mode()
def test_both_runtimes_arrays_give_the_same(pocket_network: Sam) -> None:
    """The same code puts NumPy arrays and tensors together."""
    views = pocket_network.views
    assert views is not None
    inputs = CHOICES["a small box"][0]
    logits = np.ones((1, 2, 256, 256), np.float32)
    arrays = {"fine": np.zeros((1, 1, 384, 384))}
    ours, _ = views.decode(arrays, inputs, lambda *_: (logits, np.ones((1, 2))), np.full)
    theirs, _ = views.decode(
        {"fine": torch.zeros(1, 1, 384, 384)},
        inputs,
        lambda *_: (torch.from_numpy(logits), torch.ones(1, 2)),
        partial(torch.full, device="cpu"),
    )
    np.testing.assert_array_equal(ours, theirs.numpy())
