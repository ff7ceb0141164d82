"""``pocket``'s decoder: how prompts are drawn, and when a mask ends at its box."""

from __future__ import annotations

import pytest
import torch

from mobilesam.networks.pocket_decoder import OUTSIDE, PromptMaps, end_at_box
from mobilesam.networks.prompt_encoder import grid_centres

SIDE = 64  # cells of the masks here


def test_prompts_drawn_along_the_axes_are_those_drawn_cell_by_cell() -> None:
    """The plain form: every cell asks every point, and the box, for itself."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(6, 5, 2, generator=generator)
    labels = torch.tensor([[1, 0, 1, 2, 3]] * 3 + [[1, -1, 0, 0, -1]] * 3, dtype=torch.float32)
    positions[:, 4] = (positions[:, 3] + 0.4 * torch.rand(6, 2, generator=generator)).clamp(max=1)
    grid = (24, 32)
    maps = PromptMaps(out_channels=3)
    drawn = []
    maps.widen.register_forward_hook(lambda module, inputs, output: drawn.append(inputs[0]))
    maps(positions, labels, grid)

    centres = grid_centres(grid, positions)
    wanted = torch.zeros(6, PromptMaps.CHANNELS, *grid)
    for i in range(6):
        for first, label in ((0, 1), (4, 0)):
            chosen = positions[i, labels[i] == label]
            distances = [(centres - point).square().sum(-1) for point in chosen]
            squared = torch.stack([torch.full(grid, OUTSIDE), *distances]).amin(0)
            for j, sigma in enumerate(PromptMaps.SIGMAS):
                wanted[i, first + j] = torch.exp(-squared / (2 * sigma**2))
            if len(chosen):
                wanted[i, first + 2] = 0.3 * 0.5 * torch.log(squared + PromptMaps.NEAREST**2)
                wanted[i, first + 3] = 1
        if (labels[i] == 2).any():
            low, high = positions[i, 3:]
            place = (centres - (low + high) / 2) / ((high - low) / 2)
            edge = 1 - place.abs().amax(-1)
            wanted[i, 8] = (edge > 0).float()
            wanted[i, 9:11] = place.clamp(-2, 2).permute(2, 0, 1)
            wanted[i, 11] = edge.clamp(-2, 1)
            wanted[i, 12:] = (high - low)[:, None, None]
    torch.testing.assert_close(drawn[0], wanted, atol=2e-6, rtol=1e-4)


def blob(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    """Logits (1, 1, s, s) of a mask of these cells."""
    logits = torch.full((1, 1, SIDE, SIDE), -3.0)
    logits[..., y0:y1, x0:x1] = 3
    return logits


def test_cells_are_counted_as_exactly_in_lower_precision() -> None:
    """bfloat16 has no odd numbers above 256."""
    masks = torch.full((1, 1, 384, 384), -3.0)
    masks[..., 203:351, 301:377] = 3
    corners = torch.tensor([[[301.0, 203.0], [377.0, 351.0]]]) / 384
    labels = torch.tensor([[2.0, 3.0]])
    exact, rough = (end_at_box(masks.to(dtype), corners, labels) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(exact, rough.float())


def ended(masks: torch.Tensor, box: tuple[float, float, float, float]) -> torch.Tensor:
    """End masks at a box in cells."""
    corners = torch.tensor(box).reshape(1, 2, 2) / SIDE
    return end_at_box(masks, corners, torch.tensor([[2.0, 3.0]]))


def test_a_mask_that_fits_its_box_ends_there() -> None:
    mask = blob(9, 10, 50, 52)  # a cell beyond the box on the left, two below
    after = ended(mask, (10, 10, 50, 50)) > 0
    assert after.any() and not after[..., :10].any() and not after[..., 50:, :].any()
    assert torch.equal(after, (mask > 0) & (blob(10, 10, 50, 50) > 0))  # nothing else is lost


@pytest.mark.parametrize(
    "box",
    [
        (10, 10, 50, 45),  # one side is off by 17 %: the box may be loose
        (14, 14, 46, 46),  # the mask reaches beyond all sides, by four cells and more
        (0, 0, 64, 64),
    ],
)
def test_a_mask_that_does_not_fit_stays_as_it_is(box: tuple[float, float, float, float]) -> None:
    mask = blob(10, 10, 50, 52)
    assert torch.equal(ended(mask, box), mask)


def test_masks_without_a_box_or_without_a_pixel_stay_as_they_are() -> None:
    mask = blob(10, 10, 50, 50)
    points = torch.tensor([[[0.2, 0.2], [0.8, 0.8]]])
    for labels in ([1, 0], [1, -1], [0, 0]):
        assert torch.equal(end_at_box(mask, points, torch.tensor([labels], dtype=torch.float32)), mask)
    empty = torch.full_like(mask, -3)
    assert torch.equal(ended(empty, (10, 10, 50, 50)), empty)


def test_each_mask_of_a_batch_is_compared_with_its_own_box() -> None:
    masks = torch.cat([blob(10, 10, 51, 50), blob(10, 10, 51, 50)])
    masks = torch.cat([masks, torch.cat([blob(0, 0, 60, 60)] * 2)], 1)  # (2, 2, s, s)
    corners = torch.tensor([[[10.0, 10], [50, 50]], [[10, 10], [60, 60]]]) / SIDE
    after = end_at_box(masks, corners, torch.tensor([[2.0, 3.0]] * 2))
    changed = (after != masks).flatten(2).any(2)
    assert changed.tolist() == [[True, False], [False, False]]


def test_a_mask_fills_a_box_between_cells() -> None:
    """The logits cross 0 where the box's side is, between two cells' centres."""
    row = ended(blob(9, 9, 50, 50), (10.25, 10.25, 49, 49))[0, 0, 30]
    before, behind = row[9].item(), row[10].item()
    assert before < 0 < behind
    assert 9.5 - before / (behind - before) == pytest.approx(10.25)
