"""Make docs/pictures/gallery: photos that come with scikit-image, cut out without a prompt.

    python -m tools.gallery

Each picture shows the photo, the cut-out on a checkerboard and on a colour. docs/explanation/subject.md says what is
wrong with each.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import mobilesam
from mobilesam.draw.ground import lay_over

FOLDER = Path(__file__).parents[1] / "docs" / "pictures" / "gallery"
PHOTOS = (
    *("astronaut", "camera", "chelsea", "coffee", "rocket", "clock", "retina", "horse", "logo"),
    *("coins", "moon", "hubble_deep_field"),
)
HEIGHT = 220
COLOUR = np.array([255, 196, 61], np.uint8)
MOST_BYTES = 60_000


def checkerboard(size: tuple[int, ...], cell: int) -> np.ndarray:
    """Return squares of white and grey (H, W, 3)."""
    rows, columns = np.indices(size) // cell
    return np.repeat(np.where((rows + columns) % 2, 255, 205).astype(np.uint8)[..., None], 3, axis=2)


def side_by_side(cutout: mobilesam.Cutout) -> Image.Image:
    """Return photo, cut-out on a checkerboard, and on a colour."""
    size = cutout.alpha.shape
    board = lay_over(cutout.image, cutout.alpha, checkerboard(size, max(size) // 40))
    pictures = np.concatenate([cutout.photo, board, lay_over(cutout.image, cutout.alpha, COLOUR)], axis=1)
    picture = Image.fromarray(pictures)
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT), Image.Resampling.LANCZOS)


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = mobilesam.load("pocket")
    for name in PHOTOS:
        photo = np.asarray(getattr(data, name)())
        photo = photo.astype(np.uint8) * 255 if photo.dtype == bool else photo
        cutout = model.cutout(photo)
        buffer = io.BytesIO()
        side_by_side(cutout).save(buffer, "JPEG", quality=85)
        assert len(buffer.getvalue()) <= MOST_BYTES, name
        (FOLDER / f"{name}.jpg").write_bytes(buffer.getvalue())
        sure = cutout.results[0].best.predicted_iou
        print(f"{name}: {len(buffer.getvalue()):,} bytes, predicted IoU {sure:.2f}, {list(cutout.remarks)}")


if __name__ == "__main__":
    main()
