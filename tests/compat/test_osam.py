"""osam's own calls, as labelme makes them, on ``pocket``."""

from __future__ import annotations

import numpy as np
import osam.apis
import osam.types
import pytest

import mobilesam
from mobilesam.compat.osam import NAME, points_to_prompt, register
from tests.photos import cat


def test_osam_knows_the_model_once() -> None:
    before = len(osam.apis.registered_model_types)
    made = register()
    assert register() is made and len(osam.apis.registered_model_types) <= before + 1
    assert osam.apis.get_model_type_by_name(NAME) is made
    assert made.get_size() > 1e6 and len(made.get_id()) == 12  # labelme offers no download


def test_a_session_as_labelme_has_it() -> None:
    model = register()()
    image = cat()
    embedding = model.encode_image(image=image)
    own = mobilesam.load("pocket")
    for points, labels, expected in (
        ([[210, 140]], [1], mobilesam.Prompt([[210, 140]])),
        ([[210, 140], [20, 20]], [1, 0], mobilesam.Prompt([[210, 140], [20, 20]], [1, 0])),
        ([[5, 0], [370, 295]], [2, 3], mobilesam.Prompt(box=[5, 0, 370, 295])),
    ):
        prompt = osam.types.Prompt(points=np.array(points, float), point_labels=np.array(labels))
        request = osam.types.GenerateRequest(
            model=model.name, image=image, image_embedding=embedding, prompt=prompt
        )
        (found,) = model.generate(request=request).annotations
        mask = np.zeros(image.shape[:2], bool)
        box = found.bounding_box
        mask[box.ymin : box.ymax + 1, box.xmin : box.xmax + 1] = found.mask
        assert np.array_equal(mask, own.segment(own.embed(image), expected).mask)


def test_without_an_embedding_or_a_prompt() -> None:
    register()
    request = osam.types.GenerateRequest(model=NAME, image=cat())
    answer = osam.apis.generate(request)
    assert answer.annotations[0].mask.any() and answer.image_embedding.original_width == 451
    with pytest.raises(ValueError, match="image is required"):
        osam.apis.generate(osam.types.GenerateRequest(model=NAME))


@pytest.mark.parametrize("labels", [[2], [2, 2], [3, 2, 3], []])
def test_corners_without_a_partner(labels: list[int]) -> None:
    with pytest.raises(mobilesam.PromptError, match="point_labels"):
        points_to_prompt([[1, 1]] * max(1, len(labels)), labels)
