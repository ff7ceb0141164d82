"""napari's plug-in: layers that change, masks that follow, and napari itself without a screen.

napari brings pytest plug-ins that warn when they are loaded, so it is not among what all tests need. Where it is
installed: PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 xvfb-run pytest -o addopts= tests/compat/test_napari.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilesam import ConfigError, Model, Prompt
from mobilesam.compat.napari.clicks import OFF, ON, Clicks
from tests.photos import cat

pytestmark = [
    pytest.mark.skipif(find_spec("napari") is None, reason="needs napari: pip install 'mobilesam[napari]'"),
    pytest.mark.filterwarnings("ignore"),  # napari's own
]
FACE, CORNER = (150.0, 230.0), (10.0, 440.0)  # rows before columns


@pytest.fixture
def viewer() -> Any:
    from napari.components import ViewerModel

    return ViewerModel()


def masks_of(pocket: Model, image: np.ndarray, **prompt: Any) -> np.ndarray:
    return pocket.segment(pocket.embed(image), Prompt(**prompt)).mask


def test_points_and_boxes_become_labels(viewer: Any, pocket: Model) -> None:
    image = viewer.add_image(cat(), rgb=True, scale=(2, 2), translate=(5, 7))
    clicks = Clicks(viewer, image, pocket)
    assert [layer.name for layer in viewer.layers][1:] == ["masks", "box", OFF, ON]
    assert viewer.layers.selection.active is clicks.points[ON]
    clicks.points[ON].add([FACE])
    on = [[230.5, 150.5]]
    np.testing.assert_array_equal(clicks.masks.data, masks_of(pocket, cat(), points=on))
    clicks.points[OFF].add([CORNER])
    both = masks_of(pocket, cat(), points=[*on, [440.5, 10.5]], labels=[1, 0])
    np.testing.assert_array_equal(clicks.masks.data, both)
    clicks.next()
    np.testing.assert_array_equal(clicks.masks.data, both)
    assert not len(clicks.points[ON].data)
    clicks.boxes.add_rectangles([[250, 5], [250, 100], [299, 100], [299, 5]])
    second = masks_of(pocket, cat(), box=[5.5, 250.5, 100.5, 299.5])
    np.testing.assert_array_equal(clicks.masks.data == 1, both)
    np.testing.assert_array_equal(clicks.masks.data == 2, second & ~both)
    np.testing.assert_array_equal(clicks.masks.scale, [2, 2])


def test_planes_of_a_stack_are_apart(viewer: Any, pocket: Model) -> None:
    grey = cat().astype(np.float32).mean(-1) * 11 + 300
    stack = np.stack([grey[::-1], grey, grey])
    clicks = Clicks(viewer, viewer.add_image(stack, contrast_limits=(300, 300 + 255 * 11)), pocket)
    viewer.dims.set_current_step(0, 1)
    assert clicks.plane == (1,)
    clicks.points[ON].add([(1.0, *FACE)])
    seen = clicks.pixels((1,))
    assert seen.shape == (300, 451, 3)
    assert np.abs(seen.astype(int) - cat().mean(-1)[..., None]).max() <= 1
    np.testing.assert_array_equal(clicks.masks.data[1], masks_of(pocket, seen, points=[[230.5, 150.5]]))
    assert not clicks.masks.data[[0, 2]].any()


def test_what_is_no_image_is_refused(viewer: Any, pocket: Model) -> None:
    with pytest.raises(ConfigError, match="is not an image of one resolution"):
        Clicks(viewer, viewer.add_points(np.zeros((1, 2))), pocket)


@pytest.fixture
def shown() -> Iterator[Any]:
    import napari

    viewer = napari.Viewer(show=False)
    yield viewer
    viewer.close()


@pytest.mark.long
@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="needs a screen, such as that of xvfb-run")
def test_in_napari(shown: Any) -> None:
    """The plug-in as napari finds it, its buttons pressed."""
    from npe2 import PluginManager, PluginManifest

    manifest = PluginManifest.from_file(
        Path(__file__).parents[2] / "src" / "mobilesam" / "compat" / "napari" / "napari.yaml"
    )
    manager = PluginManager.instance()
    if manifest.name not in manager:  # installed, it is known already
        manager.register(manifest)
    _, widget = shown.window.add_plugin_dock_widget("mobilesam", "Segment by points and boxes")
    widget.begin.changed.emit(True)
    assert widget.told.value == "Open an image first."
    shown.add_image(cat(), name="cat")
    widget.begin.changed.emit(True)
    assert widget.next.enabled and "Add points" in widget.told.value
    shown.layers[ON].add([FACE])
    assert (shown.layers["masks"].data == 1).mean() > 0.3
    widget.next.changed.emit(True)
    assert widget.told.value.startswith("Object 2.")
    if folder := os.environ.get("MOBILESAM_SCREENSHOTS"):
        shown.window.screenshot(str(Path(folder) / "napari.png"), canvas_only=False)
