"""Real photos that come with scikit-image, and objects in them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from mobilesam.core.rle import mask_to_rle


def cat() -> np.ndarray:
    """A cat's face (300, 451, 3); CC0."""
    return data.chelsea()


def jpeg(image: np.ndarray, **options: object) -> bytes:
    """The image as a JPEG file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def write_set(folder: Path, count: int = 4) -> Path:
    """Write a small set in the form of the training data: photos with drawn-in discs as objects."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        image = np.roll(data.coffee()[::4, ::4], 10 * i, axis=1).copy()
        height, width = image.shape[:2]
        for _ in range(2):
            x, y, r = rng.integers(30, width - 30), rng.integers(30, height - 30), rng.integers(12, 28)
            rows, columns = np.mgrid[:height, :width]
            disc = (columns - x) ** 2 + (rows - y) ** 2 < r**2
            image[disc] = rng.integers(0, 255, 3)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": [int(x - r), int(y - r), int(2 * r), int(2 * r)],
                    "segmentation": mask_to_rle(disc).to_dict(),
                }
            )
        Image.fromarray(image).save(folder / "images" / f"{i}.jpg", quality=95)
        images.append({"id": i + 1, "file_name": f"{i}.jpg", "width": width, "height": height})
    content = {"images": images, "annotations": annotations}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder
