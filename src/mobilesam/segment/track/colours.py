"""Which colours an object has: how to recognise it where its shape and place do not tell it from others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobilesam.core.arrays import Image, Mask

HUE_BINS, LIGHT_BINS = 24, 8
RANGE = (0.05, 0.65)  # of the share of red and of green in a colour; few lie beyond
MOST_PIXELS = 4000  # of an object that are looked at
DARK = 30.0  # added to a colour's sum, so that noise in the dark has no hue


@dataclass(frozen=True, eq=False)
class Colours:
    """How often each hue and each lightness occurs, each adding up to 1.

    Attributes:
        hues: (24, 24) by the share of red and of green.
        lights: (8,) by lightness.
    """

    hues: np.ndarray
    lights: np.ndarray

    @classmethod
    def of(cls, image: Image, mask: Mask) -> Colours:
        """Count the colours under a mask (H, W) that is not empty."""
        pixels = image[mask]
        pixels = pixels[:: max(1, len(pixels) // MOST_PIXELS)].astype(np.float32)
        total = pixels.sum(1) + DARK
        red, green = (pixels[:, 0] + DARK / 3) / total, (pixels[:, 1] + DARK / 3) / total
        hues, _, _ = np.histogram2d(red, green, bins=HUE_BINS, range=[RANGE, RANGE])
        lights, _ = np.histogram(pixels.mean(1), bins=LIGHT_BINS, range=(0, 256))
        hues = _blur(_blur(hues).T).T
        lights = _blur(lights[None].astype(float))[0]
        return cls(hues / max(hues.sum(), 1e-9), lights / max(lights.sum(), 1e-9))

    def alike(self, other: Colours) -> float:
        """How much two have in common, 0..1: Bhattacharyya's coefficient of the hues times that of the lightness."""
        hues, lights = np.sqrt(self.hues * other.hues).sum(), np.sqrt(self.lights * other.lights).sum()
        return float(hues * lights)

    def towards(self, other: Colours, part: float) -> Colours:
        """Return these colours moved towards others by a part, 0..1."""
        return Colours(
            (1 - part) * self.hues + part * other.hues, (1 - part) * self.lights + part * other.lights
        )


def _blur(counts: np.ndarray) -> np.ndarray:
    """Blur the rows of counts (n, m), so that in other light a colour still lands near its own cell."""
    padded = np.pad(counts, ((0, 0), (1, 1)))
    return 0.25 * padded[:, :-2] + 0.5 * counts + 0.25 * padded[:, 2:]
