"""SA-1B's JSON: an image with its masks as COCO runs, as in SAM's data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mobilesam.core.arrays import Size
from mobilesam.core.boxes import xyxy_to_xywh
from mobilesam.core.types import FoundMask


def masks_to_sa1b(
    masks: Sequence[FoundMask], size: Size, *, file_name: str, image_id: int = 0
) -> dict[str, Any]:
    """Return the JSON of an image (height, width) and its masks; boxes are x, y, width, height."""
    height, width = size
    return {
        "image": {"image_id": image_id, "width": width, "height": height, "file_name": file_name},
        "annotations": [
            {
                "id": i,
                "segmentation": mask.rle.to_dict(),
                "bbox": list(xyxy_to_xywh(mask.box)),
                "area": mask.rle.area,
                "predicted_iou": mask.predicted_iou,
                "stability_score": mask.stability_score,
                "crop_box": list(xyxy_to_xywh(mask.crop)),
                "point_coords": [list(mask.point)],
            }
            for i, mask in enumerate(masks)
        ],
    }
