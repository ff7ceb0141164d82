"""Which part of an input a prompt is decoded from, and how the parts come together again."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mobilesam.core.preprocess import padded_size
from mobilesam.core.types import MULTIMASK, DecoderInputs, Prompt
from mobilesam.core.views import BEYOND, WHOLE, Views
from mobilesam.networks.pocket_decoder import end_at_box
from mobilesam.networks.sam import Sam
from mobilesam.segment.model import Model
from mobilesam.train.masks import for_prompts
from tests.seeded_networks import network_with

VIEWS = Views(image_size=768, size=512)
SQUARE = (768, 768)


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


@pytest.mark.parametrize(
    ("size", "padded_to", "wanted"),
    [
        ((512, 768), 96, (576, 768)),
        ((768, 432), 96, (768, 480)),
        ((768, 768), 96, (768, 768)),
        ((1, 768), 96, (96, 768)),
        ((700, 768), 96, (768, 768)),
        ((512, 768), 0, (768, 768)),
    ],
)
def test_an_input_is_padded_no_further_than_it_must(
    size: tuple[int, int], padded_to: int, wanted: tuple[int, int]
) -> None:
    assert padded_size(size, 768, padded_to) == wanted


PAD = (0, 0, -1)
SMALL = box(20, 30, 100, 90)
CHOICES = {
    "a small box": (asked(*SMALL), (0, 0, 256, 256)),
    "on the right": (asked(*box(600, 30, 700, 90)), (384, 0, 384, 384)),
    "at the bottom": (asked(*box(20, 600, 100, 700)), (0, 384, 384, 384)),
    "in the last corner": (asked(*box(600, 600, 760, 760)), (256, 256, 512, 512)),
    "the smallest window": (asked(*box(260, 260, 300, 300)), (176, 176, 192, 192)),
    "as large as may be, in the middle": (asked(*box(256, 256, 512, 512)), (128, 128, 512, 512)),
    "too large": (asked(*box(0, 0, 257, 20)), WHOLE),
    "one point": (asked((50, 50, 1), PAD), WHOLE),
    "points": (asked((50, 50, 1), (60, 60, 1), (400, 90, 0), PAD), WHOLE),
    "a box and a point in it": (asked((30, 40, 1), *SMALL), (0, 0, 256, 256)),
    "a box and a point far away": (asked((700, 40, 1), *SMALL), WHOLE),
    "a box and a background point that needs a larger window": (
        asked((300, 40, 0), *SMALL),
        (0, 0, 384, 384),
    ),
    "a box and a background point out of every window": (asked((700, 40, 0), *SMALL), WHOLE),
    "a small mask": (asked((30, 40, 1), PAD, mask=mask_of(20, 30, 100, 90)), (0, 0, 256, 256)),
    "a mask alone": (asked(PAD, mask=mask_of(600, 30, 700, 90)), (384, 0, 384, 384)),
    "a small mask and a point that makes it large": (
        asked((30, 400, 1), PAD, mask=mask_of(20, 30, 100, 90)),
        WHOLE,
    ),
    "a large mask": (asked((30, 40, 1), PAD, mask=mask_of(20, 30, 500, 90)), WHOLE),
    "an empty mask": (asked((30, 40, 1), PAD, mask=mask_of(0, 0, 0, 0)), WHOLE),
    "a mask that goes on below the picture": (
        asked(PAD, mask=mask_of(600, 700, 700, 770)),
        (384, 384, 384, 384),
    ),
    "a box that ends beyond the picture": (asked(*box(600, 600, 769, 768.001)), (256, 256, 512, 512)),
    "a box that begins before it": (asked(*box(-9, 30, 80, 90)), (0, 0, 256, 256)),
    "a box's first corner alone": (asked((20, 30, 2)), WHOLE),
    "a small box and a large mask": (asked(*SMALL, mask=mask_of(20, 30, 500, 90)), (0, 0, 256, 256)),
}


@pytest.mark.parametrize(("inputs", "window"), CHOICES.values(), ids=CHOICES)
def test_choice(inputs: DecoderInputs, window: tuple[int, int, int, int]) -> None:
    assert VIEWS.choose(inputs, SQUARE).tolist() == [list(window)]


def test_what_a_mask_says_of_the_padding_is_nothing() -> None:
    small, shape = mask_of(20, 30, 100, 90), (576, 768)
    alone = VIEWS.choose(asked(PAD, mask=small), shape).tolist()
    small[300:, 380] = 4
    assert VIEWS.choose(asked(PAD, mask=small), shape).tolist() == alone == [[0, 0, 256, 256]]
    assert VIEWS.choose(asked(PAD, mask=mask_of(660, 660, 700, 700)), shape).tolist() == [list(WHOLE)]


def test_a_window_ends_with_a_low_picture() -> None:
    assert VIEWS.choose(asked(*box(300, 20, 340, 60)), (96, 768)).tolist() == [[224, 0, 192, 96]]


# Of a side of exactly 256, rounding a corner to float32 decides.
@given(
    st.tuples(*[st.floats(0, 511)] * 2),
    st.tuples(*[st.floats(1, 255.9)] * 2),
    st.sampled_from([(768, 768), (768, 576), (480, 768), (96, 768)]),
)
def test_every_small_box_has_a_window(
    corner: tuple[float, float], size: tuple[float, float], shape: tuple[int, int]
) -> None:
    height, width = shape
    x0, y0 = min(corner[0], width - 1), min(corner[1], height - 1)
    x1, y1 = min(x0 + size[0], width), min(y0 + size[1], height)
    inputs = asked(*box(x0, y0, x1, y1))
    (window,) = VIEWS.choose(inputs, shape).tolist()
    assert window != list(WHOLE)
    x, y, w, h = window
    assert 0 <= x and x + w <= width and 0 <= y and y + h <= height
    assert not any(side % 16 for side in window)
    shown = VIEWS.coords(inputs.point_coords, np.array([window]), shape)
    assert shown.min() >= 0 and (shown <= [w, h]).all()


def test_a_window_shows_what_lies_there() -> None:
    pixels = np.arange(480 * 768).reshape(480, 768)
    for window in ((0, 0, 512, 480), (288, 320, 192, 160)):
        shown = VIEWS.cut(pixels, window, (480, 768))
        assert shown.shape == (window[3], window[2])
        ((x, y),) = VIEWS.coords(np.array([[[300.0, 400.0]]]), np.array([window]), (480, 768))[0].astype(int)
        assert shown[y, x] == pixels[400, 300]


def test_the_whole_of_a_low_picture_is_the_upper_part_of_what_lies_on_its_square() -> None:
    square = np.arange(384 * 384).reshape(384, 384)
    np.testing.assert_array_equal(VIEWS.cut(square, WHOLE, (480, 768)), square[:240])


def test_the_whole_is_shown_smaller_with_its_pixels_middles_where_they_were() -> None:
    coords = np.array([[[-0.5, 767.5], [383.5, 383.5]]])
    np.testing.assert_allclose(
        VIEWS.coords(coords, np.array([WHOLE]), SQUARE), [[[-0.5, 511.5], [255.5, 255.5]]], atol=1e-5
    )


@pytest.mark.parametrize("shape", [(768, 768), (576, 768), (768, 576)])
def test_prompts_come_back_in_their_order_and_place(shape: tuple[int, int]) -> None:
    """A decoder that returns the arrays it is given shows where each mask comes from. In a portrait, x and y change places."""
    height, width = shape
    portrait = height > width
    fine = np.arange(height * width // 4, dtype=np.float32).reshape(1, 1, height // 2, width // 2)
    embedding = {
        "fine": fine,
        "image_embedding": fine[..., ::4, ::4],
        "whole_image_embedding": np.zeros((1, 1, height // 12, width // 12)),
    }
    asked_for = [
        asked(*box(600, 400, 760, 500)),
        asked((50, 50, 1), PAD),
        asked(*SMALL),
        asked(*box(0, 0, 257, 20)),
        asked(*box(600, 30, 700, 90)),
        asked(*box(210, 130, 290, 190)),
    ]
    if portrait:
        asked_for = [DecoderInputs(one.point_coords[..., ::-1], one.point_labels) for one in asked_for]
    together = DecoderInputs(
        np.concatenate([one.point_coords for one in asked_for]),
        np.concatenate([one.point_labels for one in asked_for]),
    )
    sizes = []

    def decode(arrays: dict, inputs: DecoderInputs) -> tuple[np.ndarray, np.ndarray]:
        b = len(inputs.point_coords)
        sizes.append((b, *arrays["image_embedding"].shape))
        assert len(arrays["fine"]) == len(arrays["image_embedding"])
        first = inputs.point_coords[:, :1, int(portrait)]
        return np.repeat(arrays["fine"], b // len(arrays["fine"]), axis=0), first

    masks, ious = VIEWS.decode(embedding, together, decode, np.full, np.concatenate)
    assert sizes == [
        (2, 1, 1, height // 12, width // 12),  # the whole is read once for all its prompts
        (2, 2, 1, 32, 32),
        (1, 1, 1, 48, 48),
        (1, 1, 1, 64, 64),
    ]
    assert masks.shape == (6, 1, 384, 384)
    square = np.full((384, 384), BEYOND)
    square[: height // 2, : width // 2] = fine[0, 0]
    for one, mask in zip(asked_for, masks, strict=True):
        (window,) = VIEWS.choose(one, shape).tolist()
        wanted = np.full((384, 384), BEYOND)
        VIEWS.cut(wanted, window, shape)[:] = VIEWS.cut(square, window, shape)
        beyond = wanted.T if portrait else wanted  # what enlarging reads beyond the picture
        last = min(shape) // 2
        beyond[last : last + 1] = beyond[last - 1]
        np.testing.assert_array_equal(mask[0], wanted)
    np.testing.assert_allclose(ious[:, 0], [344, 33 + 1 / 6, 20, -1 / 6, 216, 98], atol=1e-4)


@pytest.fixture(scope="module")
def pocket_network() -> Sam:
    return network_with("pocket", 0)


CUT = (("coarse_embedding", 16), ("image_embedding", 8), ("skip_stride4", 4), ("skip_stride2", 2))


def cut_by_hand(embedding: dict[str, torch.Tensor], x: int, y: int, side: int) -> dict[str, torch.Tensor]:
    return {
        name: embedding[name][..., y // stride : (y + side) // stride, x // stride : (x + side) // stride]
        for name, stride in CUT
    }


@torch.inference_mode()
def test_a_network_decodes_what_its_views_show(pocket_network: Sam) -> None:
    """Each prompt of a batch, from arrays cut by hand."""
    network, rng = pocket_network, torch.Generator().manual_seed(0)
    embedding = network.encode(torch.rand(1, 3, 768, 768, generator=rng))
    coords = torch.tensor([[[520.0, 530.0], [600.0, 640.0]], [[600.0, 20.0], [700.0, 80.0]]])
    labels = torch.tensor([[2.0, 3.0]] * 2)
    masks, ious = network.decode(embedding, coords, labels)
    assert masks.shape == (2, 3, 384, 384)
    for i, (x, y, side) in enumerate(((368, 384, 384), (384, 0, 384))):
        shown, quality = network.decode_view(
            cut_by_hand(embedding, x, y, side),
            coords[i : i + 1] - torch.tensor([x, y]),
            labels[i : i + 1],
            mask_tokens=MULTIMASK,
            side=64,
        )
        wanted = torch.full((3, 384, 384), BEYOND)
        wanted[:, y // 2 : (y + side) // 2, x // 2 : (x + side) // 2] = shown[0]
        assert (masks[i] - wanted).abs().max() <= 1e-4
        assert (ious[i] - quality[0]).abs().max() <= 1e-5


@torch.inference_mode()
def test_a_part_of_a_square_is_decoded_as_such(pocket_network: Sam) -> None:
    """Where a cell lies, and how large a mask is, does not depend on what else is shown."""
    maps = pocket_network.prompt_encoder.prompt_maps
    assert maps is not None
    positions, labels = torch.rand(2, 3, 2), torch.tensor([[1.0, 0.0, -1.0], [1.0, 2.0, 3.0]])
    whole, part = maps(positions, labels, (64, 64)), maps(positions, labels, (24, 40), 64)
    assert torch.equal(part, whole[..., :24, :40])

    evidence, tokens = pocket_network.mask_decoder.evidence, torch.tensor([1, 2, 3])
    logits = torch.full((2, 3, 256, 256), -4.0)
    logits[..., :40, :60] = 4 * torch.rand(2, 3, 40, 60)
    expected = torch.rand(2, 4)
    theirs = evidence(expected, logits[..., :96, :160], tokens, 256)
    torch.testing.assert_close(theirs, evidence(expected, logits, tokens))

    logits[..., 40:, :] = logits[..., :, 60:] = -4
    corners = torch.tensor([[[1 / 256, 0.0], [59 / 256, 39 / 256]]]).expand(2, -1, -1)
    ends = torch.tensor([[2.0, 3.0]] * 2)
    ended = end_at_box(logits, corners, ends)
    assert (ended != logits).any()
    assert torch.equal(end_at_box(logits[..., :96, :160], corners, ends, 256), ended[..., :96, :160])


@torch.inference_mode()
def test_training_cuts_the_same_windows(pocket_network: Sam) -> None:
    network, rng = pocket_network, torch.Generator().manual_seed(0)
    embedding = network.encode(torch.rand(2, 3, 768, 768, generator=rng))
    windows = torch.tensor([[256, 128, 512, 512], [0, 16, 512, 512]])
    each = for_prompts(network, embedding, 2, windows)
    for i, (x, y, side, _) in enumerate(windows.tolist()):
        wanted = cut_by_hand({name: array[i] for name, array in embedding.items()}, x, y, side)
        assert each.keys() == wanted.keys()
        for name, array in wanted.items():
            assert torch.equal(each[name][i], array)


@pytest.mark.parametrize("portrait", [False, True])
def test_a_mask_reaches_the_end_of_a_picture_without_padding(pocket: Model, portrait: bool) -> None:
    """Of 4:3 nothing is padded, so what lies below the picture was never decoded."""
    image = np.full((1200, 1600, 3), (90, 140, 60), np.uint8)
    image[700:, 500:1000] = 200, 60, 40
    image ^= np.random.default_rng(0).integers(0, 8, image.shape, np.uint8)
    x0, y0, x1, y1 = 500, 700, 1000, 1200
    prompt = Prompt(box=[y0, x0, y1, x1] if portrait else [x0, y0, x1, y1])
    image = np.ascontiguousarray(image.transpose(1, 0, 2)) if portrait else image
    mask = pocket.segment(pocket.embed(image), prompt).mask
    last = mask[:, -1] if portrait else mask[-1]
    assert last.sum() >= 480


@torch.inference_mode()
def test_both_runtimes_arrays_give_the_same(pocket_network: Sam) -> None:
    """The same code puts NumPy arrays and tensors together."""
    views = pocket_network.views
    assert views is not None
    inputs = CHOICES["a small box"][0]
    logits = np.ones((1, 2, 128, 128), np.float32)
    arrays = {"image_embedding": np.zeros((1, 1, 96, 96))}
    ours, _ = views.decode(arrays, inputs, lambda *_: (logits, np.ones((1, 2))), np.full, np.concatenate)
    theirs, _ = views.decode(
        {"image_embedding": torch.zeros(1, 1, 96, 96)},
        inputs,
        lambda *_: (torch.from_numpy(logits), torch.ones(1, 2)),
        partial(torch.full, device="cpu"),
        torch.cat,
    )
    np.testing.assert_array_equal(ours, theirs.numpy())
