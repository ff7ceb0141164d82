"""Errors of soft edges where alpha is known: hair, fur and glass that this script draws, over real photos.

    python bench/soft_edges.py

The mask is the known alpha as a network would see it, at an eighth of the size and blurred. SAD is in thousands, the gradient error as in the alpha matting
evaluation of Rhemann et al. (2009). Behind are scikit-image's photos, or those of the folder that is given.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import mobilesam
from mobilesam.draw.alpha import soften
from mobilesam.draw.cutout import edge_alpha
from mobilesam.draw.matting import load_matte

SIDE, FINER = 480, 3  # drawn larger, then averaged
COARSER, LOGITS = 8, 12.0  # cells of a network, and the logit between object and ground
GRADIENT_SIGMA = 1.4


def hair(random: np.random.Generator) -> Image.Image:
    """A head with long strands."""
    return _strands(random, count=500, length=(0.15, 0.33), bend=0.5, radius=0.2)


def fur(random: np.random.Generator) -> Image.Image:
    """A body with short, dense strands."""
    return _strands(random, count=3000, length=(0.03, 0.08), bend=0.3, radius=0.3)


def glass(random: np.random.Generator) -> Image.Image:
    """A drinking glass: a rim, a foot, and walls that let most through."""
    side = SIDE * FINER
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    draw.polygon(
        [(side * x, side * y) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.62, 0.8), (0.38, 0.8))], fill=110
    )
    draw.rectangle([side * 0.38, side * 0.5, side * 0.62, side * 0.8], fill=210)
    draw.rectangle([side * 0.36, side * 0.79, side * 0.64, side * 0.84], fill=255)
    return picture


def _strands(
    random: np.random.Generator, *, count: int, length: tuple[float, float], bend: float, radius: float
) -> Image.Image:
    side = SIDE * FINER
    picture = Image.new("L", (side, side))
    draw = ImageDraw.Draw(picture)
    angles = random.uniform(0, 2 * np.pi, count)
    ellipse = radius * np.array([1.0, random.uniform(0.8, 1.3)])
    middle = np.array([0.5, 0.5])
    draw.ellipse([*((middle - ellipse) * side), *((middle + ellipse) * side)], fill=255)
    for angle in angles:
        start = middle + 0.95 * ellipse * [np.cos(angle), np.sin(angle)]
        along, turn = angle, random.normal(0, bend) / 8
        step = random.uniform(*length) / 8
        points = [start]
        for _ in range(8):
            points.append(points[-1] + step * np.array([np.cos(along), np.sin(along)]))
            along += turn
        draw.line([tuple(p * side) for p in points], fill=255, width=int(random.integers(1, 4)))
    return picture


THINGS: dict[str, Callable[[np.random.Generator], Image.Image]] = {"hair": hair, "fur": fur, "glass": glass}


def backgrounds(folder: Path | None) -> list[np.ndarray]:
    """Return photos to lay things on."""
    if folder is not None:
        read = [mobilesam.read_image(path) for path in sorted(folder.iterdir())[:8]]
    else:
        from skimage import data

        read = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    return [np.asarray(Image.fromarray(one).resize((SIDE, SIDE))) for one in read]


def compose(name: str, number: int, behind: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a composite (H, W, 3), its alpha (H, W) in 0..1, and the object's colours."""
    random = np.random.default_rng([number, *name.encode()])
    alpha = np.asarray(THINGS[name](random).resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
    base = random.uniform(20, 235, 3)
    grain = Image.fromarray(random.integers(0, 255, (48, 48, 3), np.uint8)).resize((SIDE, SIDE))
    colours = np.clip(base + (np.asarray(grain) - 127.0) * 0.25, 0, 255)
    mixed = colours * alpha[..., None] + behind * (1 - alpha[..., None])
    return np.rint(mixed).astype(np.uint8), alpha, colours


def coarse(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask (H, W) and logits that a network would give."""
    picture = Image.fromarray(alpha.astype(np.float32))
    small = picture.resize((SIDE // COARSER, SIDE // COARSER), Image.Resampling.BOX)
    logits = (np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) - 0.5) * LOGITS
    return logits > 0, logits


def errors(alpha: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return SAD in thousands, MSE in thousandths, and the gradient error in thousands."""
    gone = alpha - truth
    gradient = (_gradient(alpha) - _gradient(truth)) ** 2
    return float(np.abs(gone).sum() / 1e3), float((gone**2).mean() * 1e3), float(gradient.sum() / 1e3)


def _gradient(alpha: np.ndarray) -> np.ndarray:
    reach = np.arange(-5, 6)
    bell = np.exp(-(reach**2) / (2 * GRADIENT_SIGMA**2))
    bell /= bell.sum()
    slope = -reach / GRADIENT_SIGMA**2 * bell
    along = [
        np.apply_along_axis(
            np.convolve, 1, np.apply_along_axis(np.convolve, 0, alpha, one, "same"), other, "same"
        )
        for one, other in ((bell, slope), (slope, bell))
    ]
    return np.hypot(*along)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photos to lay things on")
    parser.add_argument("--matte", action="store_true", help="also with pymatting (mobilesam[matting])")
    arguments = parser.parse_args()
    ways = {"hard mask": None, "faded pixel": None, "own filter": None}
    if arguments.matte:
        ways["pymatting"] = load_matte()
    table: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for number, behind in enumerate(backgrounds(arguments.photos)):
        for name in THINGS:
            image, truth, _ = compose(name, number, behind)
            mask, logits = coarse(truth)
            for way, matte in ways.items():
                start = time.perf_counter()
                if way == "hard mask":
                    alpha = mask.astype(np.uint8) * 255
                elif way == "faded pixel":
                    alpha = edge_alpha(mask)
                else:
                    alpha = soften(image, mask, logits, matte=matte).alpha
                seconds = time.perf_counter() - start
                table.setdefault((name, way), []).append((*errors(alpha / 255, truth), seconds))
    print(f"{'thing':<8}{'way':<14}{'SAD':>8}{'MSE':>8}{'gradient':>10}{'s':>8}")
    for (name, way), found in table.items():
        sad, mse, gradient, seconds = np.mean(found, axis=0)
        print(f"{name:<8}{way:<14}{sad:>8.2f}{mse:>8.2f}{gradient:>10.2f}{seconds:>8.2f}")


if __name__ == "__main__":
    main()
