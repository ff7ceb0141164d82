"""``pocket`` among osam's models, and so in labelme: ``python -m mobilesam.compat.osam`` starts labelme with it.

Tried with osam 0.8 and labelme 6.3. osam has no way to register others' models, so they are added to its list.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mobilesam.core.errors import MissingExtraError, PromptError
from mobilesam.core.types import Prompt
from mobilesam.segment.model import Model, load
from mobilesam.weights import DEFAULT_MODEL, entry_of, weights_path

NAME, SHOWN = "mobilesam:pocket", "MobileSAM pocket (any laptop)"
CORNER_0, CORNER_1 = 2, 3  # labels of the points that are a box


def points_to_prompt(
    points: Sequence[Sequence[float]], labels: Sequence[int], name: str = "prompt"
) -> Prompt:
    """Return the prompt that osam's points mean: 0 and 1 are points, 2 and 3 the corners of one box.

    Raises:
        PromptError: if a corner has no partner, or a point no label.
    """
    if len(points) != len(labels):
        raise PromptError(f"{name}.point_labels: {len(labels)} for {len(points)} points; give one for each")
    of = {kind: [p for p, label in zip(points, labels, strict=True) if label == kind] for kind in range(4)}
    corners = of[CORNER_0], of[CORNER_1]
    if len(corners[0]) != len(corners[1]) or len(corners[0]) > 1:
        raise PromptError(f"{name}.point_labels: 2 and 3 are the corners of one box; give both, once")
    box = [*corners[0][0], *corners[1][0]] if corners[0] else None
    plain, on = [*of[1], *of[0]], [1] * len(of[1]) + [0] * len(of[0])
    return Prompt(plain or None, on or None, box)


def register() -> type:
    """Add ``pocket`` to osam's models, once, and return its class.

    Raises:
        MissingExtraError: if osam is not installed.

    Example:
        >>> register().name  # doctest: +SKIP
        'mobilesam:pocket'
    """
    try:
        import osam.apis
    except ImportError as error:
        raise MissingExtraError(
            "osam: is not installed; pip install osam, or labelme, which brings it"
        ) from error
    known = osam.apis.registered_model_types
    for one in known:
        if one.name == NAME:
            return one
    made = _make_type()
    known.append(made)
    return made


def _make_type() -> type:
    """Return a class as osam wants it; its base is only known now."""
    import osam.types

    class Kept(osam.types.ImageEmbedding):
        """An embedding as osam passes it around, with the whole of ours inside."""

        _own: Any = None

    class Pocket(osam.types.Model):
        """See :func:`register`."""

        name = NAME
        metadata = osam.types.ModelMetadata(
            license_name="Apache License 2.0",
            license_url="https://www.apache.org/licenses/LICENSE-2.0",
            source_url="https://github.com/mobilesam/mobilesam",
            license_spdx="Apache-2.0",
        )
        _blobs: ClassVar[dict[str, Any]] = {}  # the weights come with this package

        def __init__(self) -> None:
            self.model: Model = load(DEFAULT_MODEL)

        @classmethod
        def pull(cls, *arguments: Any, **more: Any) -> None:
            """Fetch nothing: the weights are there."""

        @classmethod
        def get_size(cls) -> int:
            """Return the bytes of the weights."""
            return weights_path(entry_of(DEFAULT_MODEL)).stat().st_size

        @classmethod
        def get_modified_at(cls) -> float:
            """Return when the weights' file was written."""
            return weights_path(entry_of(DEFAULT_MODEL)).stat().st_mtime

        @classmethod
        def get_id(cls) -> str:
            """Return what distinguishes these weights from others."""
            return entry_of(DEFAULT_MODEL).sha256[:12] or NAME

        def encode_image(self, image: np.ndarray) -> Kept:
            """Encode an image (H, W, 3)."""
            own = self.model.embed(np.ascontiguousarray(image))
            height, width = own.original_size
            kept = Kept(original_height=height, original_width=width, embedding=own.image_embedding[0])
            kept._own = own
            return kept

        def generate(self, request: Any) -> Any:
            """Segment what a prompt points at; without one, what lies in the middle."""
            kept = request.image_embedding
            if getattr(kept, "_own", None) is None:
                if request.image is None:
                    raise ValueError(
                        "request.image is required: an embedding of another model cannot be read"
                    )
                kept = self.encode_image(request.image)
            prompt = request.prompt
            middle = [[kept.original_width / 2, kept.original_height / 2]]
            asked = Prompt(middle)
            if prompt is not None and prompt.points is not None:
                asked = points_to_prompt(prompt.points.tolist(), prompt.point_labels.tolist())
            mask = self.model.segment(kept._own, asked).best
            x0, y0, x1, y1 = mask.box
            box = osam.types.BoundingBox(xmin=x0, ymin=y0, xmax=x1 - 1, ymax=y1 - 1)
            found = osam.types.Annotation(
                bounding_box=box, mask=mask.mask[y0:y1, x0:x1].copy(), score=mask.predicted_iou
            )
            return osam.types.GenerateResponse(
                model=NAME, image_embedding=kept, annotations=[found] if mask.area else []
            )

    return Pocket


def main() -> None:
    """Start labelme with ``pocket`` first among its models; the arguments are labelme's."""
    register()
    try:
        from labelme.__main__ import main as start
        from labelme.widgets import AiAssistedAnnotationWidget as Widget
    except ImportError as error:
        sys.exit(f"error[U]: labelme: cannot be started ({error}); pip install labelme")
    Widget._available_models = [(NAME, SHOWN), *Widget._available_models]
    start()


if __name__ == "__main__":
    main()
