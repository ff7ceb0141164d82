"""Soft edges: how much of each pixel is the object, and what colour the object has there.

Only a band along the mask's edge is looked at, on a copy of limited resolution; what is found there is linear in
the image's colours (He et al. 2010, guided image filtering), so the full-size edge follows the full-size image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from mobilesam.core.arrays import Image, Logits, Mask
from mobilesam.core.boxes import mask_to_box

WORK_PIXELS = 250_000  # of the copy that the band is worked out on
UNSURE = 4.0  # logits nearer to 0 belong to the band
NEAR, FAR = 0.015, 0.05  # the band's least and greatest half width, in the root of the worked part's area
SMOOTH = 1e-4  # the filter's epsilon: variances of colours (0..1) below it are noise
FINE = 1e-6  # the same if a matte is only enlarged
STEEP = 1.2  # by how much the filtered edge is steepened around a half
COLOUR_REACH = 0.05  # how far colours of the object and of the ground are looked for, in the same root
DONE = 0.02  # this near to 0 and 1, nothing is soft
CHUNK = 2**18  # pixels whose colours are cleaned at a time
STRIP_ROWS = 256  # of the full size, that are worked on at a time

Matte = Callable[[np.ndarray, np.ndarray], np.ndarray]  # image (h, w, 3) 0..1, trimap (h, w) -> alpha (h, w)


@dataclass(frozen=True, eq=False)
class SoftEdge:
    """A mask with a soft edge.

    Attributes:
        alpha: (H, W) uint8, 0 outside of the object and 255 inside.
        band: (N,) flat numbers of the pixels in between.
        difference: (N, 3) the object's colour around there minus that of what is behind, in 0..255.
        colour: (N, 3) the object's colour around there.
    """

    alpha: np.ndarray
    band: np.ndarray
    difference: np.ndarray
    colour: np.ndarray


def soften(image: Image, mask: Mask, logits: Logits | None = None, *, matte: Matte | None = None) -> SoftEdge:
    """Return a mask's soft edge.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W).
        logits: (h, w) of any size over the whole image; the edge may lie where they are near 0. Without them only
            the mask's own edge is softened.
        matte: solves the band on the small copy; a guided filter if None.
    """
    width = mask.shape[1]
    alpha = mask.astype(np.uint8) * 255
    if not mask.any() or mask.all():
        return _hard(alpha)
    x0, y0, x1, y1 = _around(mask)
    scale = min(1.0, float(np.sqrt(WORK_PIXELS / ((x1 - x0) * (y1 - y0)))))
    size = max(2, round((x1 - x0) * scale)), max(2, round((y1 - y0) * scale))
    window = slice(y0, y1), slice(x0, x1)
    small = _shrink(image[window], size).astype(np.float32) / 255
    part = _shrink(alpha[window], size).astype(np.float32) / 255
    sure = None if logits is None else _resize_logits(logits, (x0, y0, x1, y1), mask.shape, size)
    band = unsure_band(part, sure)
    if not band.any():
        return _hard(alpha)
    if matte is None:
        target = part
        smooth, steep = SMOOTH, STEEP
    else:
        target = matte(small, np.where(band, 0.5, part >= 0.5))
        smooth, steep = FINE, 1.0
    radius = max(1, round((NEAR * 1.5 if matte is None else NEAR / 4) * np.sqrt(part.size)))
    slope, offset = guided_coefficients(small, target, band, radius, smooth)
    found = np.where(band, target if matte is not None else (slope * small).sum(-1) + offset, target)
    around = colours_around(small[::2, ::2], np.clip(found, 0, 1)[::2, ::2])

    # Where the copy is wholly in or out, in agreement with the mask, the full size is too.
    soft = np.abs(found - 0.5) < 0.5 - DONE
    band &= _spread(soft, 1) | ((found >= 0.5) != (part >= 0.5)) | ((part > 0) & (part < 1))
    # At full size only the band, strip by strip, by the same linear functions of the image's own colours.
    full = y1 - y0, x1 - x0
    linear = np.dstack([slope, offset])
    numbers, near = [], []
    for top in range(0, full[0], STRIP_ROWS):
        rows, columns = _full_band(band, full, slice(top, min(top + STRIP_ROWS, full[0])))
        places = _Places(rows, columns, full, band.shape)
        colours = image[rows + y0, columns + x0].astype(np.float32) / 255
        if scale == 1.0 and matte is not None:
            values = target[rows, columns]
        else:
            here = places.sample(linear)
            values = np.einsum("nc,nc->n", here[:, :3], colours) + here[:, 3]
        values = np.clip((values - 0.5) * steep + 0.5, 0, 1)
        flat = (rows + y0) * width + columns + x0
        alpha.ravel()[flat] = np.rint(values * 255).astype(np.uint8)
        inside = (values > 0) & (values < 1)
        numbers.append(flat[inside])
        near.append(_Places(rows[inside], columns[inside], full, around.shape).sample(around) * 255)
    colours = np.concatenate(near)
    return SoftEdge(alpha, np.concatenate(numbers), colours[:, :3] - colours[:, 3:], colours[:, :3])


def _hard(alpha: np.ndarray) -> SoftEdge:
    return SoftEdge(alpha, np.zeros(0, np.int64), *np.zeros((2, 0, 3), np.float32))


def clean_colours(image: Image, edge: SoftEdge) -> Image:
    """Return an image (H, W, 3) whose soft pixels have the object's colour, without the colour of what was behind.

    A pixel is ``alpha F + (1 - alpha) B``, so ``F`` is the pixel plus ``(1 - alpha) (F - B)``. The difference of the
    two is smooth and comes from the small copy; the texture stays the image's own. If alpha is too low that would
    go too far, so no pixel is moved past the object's colour around it. 16-bit samples keep their depth.
    """
    cleaned = np.array(image, order="C")
    pixels, alpha = cleaned.reshape(-1, 3), edge.alpha.ravel()
    white = np.iinfo(image.dtype).max
    for start in range(0, len(edge.band), CHUNK):
        band = edge.band[start : start + CHUNK]
        share = 1 - alpha[band, None].astype(np.float32) / 255
        part = slice(start, start + CHUNK)
        old = pixels[band].astype(np.float32)
        move = share * edge.difference[part] * (white / 255)
        left = edge.colour[part] * (white / 255) - old
        move = np.where(
            move > 0, np.minimum(move, np.maximum(left, 0)), np.maximum(move, np.minimum(left, 0))
        )
        pixels[band] = np.clip(np.rint(old + move), 0, white).astype(image.dtype)
    return cleaned


def unsure_band(part: np.ndarray, logits: np.ndarray | None) -> Mask:
    """Return where (h, w) the edge may lie.

    That is everything very near the mask's edge and, a little farther away, where the logits are unsure.

    Args:
        part: (h, w) how much of each pixel is mask, 0..1.
        logits: (h, w), or None.
    """
    root = float(np.sqrt(part.size))
    near = _edge_within(part, max(1, round(NEAR * root)))
    if logits is None:
        return near
    far = _edge_within(part, max(2, round(FAR * root)))
    return near | (far & (np.abs(logits) < UNSURE))


def guided_coefficients(
    image: np.ndarray, target: np.ndarray, where: Mask, radius: int, smooth: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the guided filter's linear functions of colour, (h, w, 3) and (h, w), averaged over their windows.

    Args:
        image: (h, w, 3) in 0..1, the guide.
        target: (h, w) in 0..1, what is approximated.
        where: (h, w) the only place where the functions are right; elsewhere they are constants.
        radius: of the windows, in pixels.
        smooth: variance of colours that still counts as none.
    """
    wide = _spread(where, radius)
    means = _box_mean(np.dstack([image, target[..., None]]), radius)
    products = [image[..., i] * image[..., j] for i in range(3) for j in range(i, 3)]
    products += [image[..., i] * target for i in range(3)]
    squares = _box_mean(np.dstack(products), radius)[wide]
    mean, level = means[wide][:, :3], means[wide][:, 3]
    matrix = np.empty((len(mean), 3, 3))
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    for number, (i, j) in enumerate(pairs):
        matrix[:, i, j] = matrix[:, j, i] = squares[:, number] - mean[:, i] * mean[:, j]
    matrix += np.eye(3) * smooth
    covariance = squares[:, len(pairs) :] - mean * level[:, None]
    slopes = np.linalg.solve(matrix, covariance[..., None])[..., 0]
    field = np.zeros((*target.shape, 4), np.float32)
    field[..., 3] = target
    field[wide, :3] = slopes
    field[wide, 3] = level - (slopes * mean).sum(-1)
    smoothed = _box_mean(field, radius)
    field[where] = smoothed[where]
    return field[..., :3], field[..., 3]


def colours_around(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return the object's colour and that of what is behind it (h, w, 6), each averaged over the surroundings.

    Near pixels are weighted by how surely they belong to one or the other; if the neighbourhood has none, a
    larger one is used.
    """
    fore, ground = (np.clip(2 * one - 1, 0, 1) ** 2 for one in (alpha, 1 - alpha))
    means = []
    for weight in (fore, ground):
        colour = np.zeros_like(image)
        missing = np.ones(alpha.shape, bool)
        for reach in (COLOUR_REACH / 6, COLOUR_REACH / 2, COLOUR_REACH * 2, 1.0):
            radius = max(1, round(reach * np.sqrt(alpha.size)))
            sums = _box_mean(np.dstack([image * weight[..., None], weight[..., None]]), radius)
            known = missing & (sums[..., 3] > 1e-3)
            colour[known] = sums[known][:, :3] / sums[known][:, 3:]
            missing &= ~known
            if not missing.any():
                break
        means.append(colour)
    return np.dstack(means).astype(np.float32)


def _around(mask: Mask) -> tuple[int, int, int, int]:
    """Return the mask's box with a margin for its edge."""
    height, width = mask.shape
    x0, y0, x1, y1 = mask_to_box(mask)
    margin = 4 + round(2 * FAR * np.sqrt((x1 - x0) * (y1 - y0)))
    return max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)


def _shrink(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return uint8 values (H, W) or (H, W, 3) at (width, height), each an average."""
    return np.asarray(Pillow.fromarray(values).resize(size, Pillow.Resampling.BOX))


def _resize_logits(
    logits: Logits, box: tuple[int, int, int, int], full: tuple[int, ...], size: tuple[int, int]
) -> np.ndarray:
    """Return the part of a whole image's logits that lies in a box of it, at (width, height)."""
    down, across = logits.shape[0] / full[0], logits.shape[1] / full[1]
    x0, y0, x1, y1 = box
    place = (x0 * across, y0 * down, x1 * across, y1 * down)
    picture = Pillow.fromarray(np.ascontiguousarray(logits, np.float32))
    return np.asarray(picture.resize(size, Pillow.Resampling.BILINEAR, box=place))


def _edge_within(part: np.ndarray, radius: int) -> Mask:
    """Return where a window of a radius sees both the mask and what is outside."""
    mean = _box_mean(part[..., None], radius)[..., 0]
    return (mean > 1e-4) & (mean < 1 - 1e-4)


def _spread(where: Mask, radius: int) -> Mask:
    return _box_mean(where[..., None].astype(np.float32), radius)[..., 0] > 1e-6


def _box_mean(values: np.ndarray, radius: int) -> np.ndarray:
    """Return the mean of each pixel's window (h, w, C); at the border, of the part inside the image."""
    for axis in (0, 1):
        length = values.shape[axis]
        sums = np.cumsum(values, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
        low = np.maximum(np.arange(length) - radius, 0)
        high = np.minimum(np.arange(length) + radius + 1, length)
        counts = (high - low).reshape([-1 if i == axis else 1 for i in range(3)])
        values = (np.take(sums, high, axis) - np.take(sums, low, axis)) / counts
    return values.astype(np.float32)


def _full_band(band: Mask, full: tuple[int, int], strip: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns (N,) of a larger window's strip that lie in a band of its small copy."""
    row = np.arange(strip.start, strip.stop) * band.shape[0] // full[0]
    column = np.arange(full[1]) * band.shape[1] // full[1]
    rows, columns = np.nonzero(band[np.ix_(row, column)])
    return rows + strip.start, columns


class _Places:
    """Where some pixels of a large window lie in its small copy; samples values of the copy there, linearly."""

    def __init__(
        self, rows: np.ndarray, columns: np.ndarray, full: tuple[int, int], small: tuple[int, ...]
    ) -> None:
        self.y = _Axis(rows, full[0], small[0])
        self.x = _Axis(columns, full[1], small[1])

    def sample(self, values: np.ndarray) -> np.ndarray:
        """Return values (h, w, C) of the copy at the places, (N, C) float32."""
        y, x = self.y, self.x
        width = values.shape[1]
        flat = values.reshape(width * len(values), -1)
        across, down = x.part[:, None], y.part[:, None]
        upper, lower = y.low * width, y.high * width
        mixed = np.take(flat, upper + x.low, axis=0)
        mixed += (np.take(flat, upper + x.high, axis=0) - mixed) * across
        below = np.take(flat, lower + x.low, axis=0)
        below += (np.take(flat, lower + x.high, axis=0) - below) * across
        mixed += (below - mixed) * down
        return mixed


class _Axis:
    """Numbers along a long side as places between the pixels of a short one."""

    def __init__(self, numbers: np.ndarray, full: int, small: int) -> None:
        place = np.clip((numbers + 0.5) * (small / full) - 0.5, 0, small - 1)
        self.low = place.astype(np.int64)
        self.high = np.minimum(self.low + 1, small - 1)
        self.part = (place - self.low).astype(np.float32)
