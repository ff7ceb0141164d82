"""``mobilesam demo``: a real photo, segmented from a point and from a box."""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np

from mobilesam.cli.fields import FileType
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.core.errors import missing_extra
from mobilesam.core.text import printable
from mobilesam.core.types import Prompt
from mobilesam.formats.image import image_to_png
from mobilesam.storage.atomic import write_bytes

# scikit-image's photos: a cat (CC0, Stefan van der Walt), a cup of coffee (CC0, Rachel Michetti).
POINT_PHOTO, POINT = "chelsea", (230, 150)
BOX_PHOTO, BOX = "coffee", (325, 228, 408, 330)
MIN_MASK_REGION_AREA = 200  # pixels


@click.command()
@click.option(
    "--out",
    default="demo-out",
    show_default=True,
    metavar="DIR",
    type=FileType(),
    help="Folder for the pictures.",
)
def demo(out: Path) -> None:
    """Segment two photos, one from a point and one from a box, and write the pictures.

    \b
    pip install 'mobilesam[demo]'
    mobilesam demo --out demo-out
    """
    start = time.perf_counter()
    photos = {name: read_photo(name) for name in (POINT_PHOTO, BOX_PHOTO)}
    loading = time.perf_counter()
    model = load_model(ModelOptions())
    loaded = time.perf_counter()
    click.echo(f"holes and islands below {MIN_MASK_REGION_AREA} pixels are filled and dropped")
    click.echo(f"photos read in {_ms(loading - start)}, model loaded in {_ms(loaded - loading)}")
    tasks = (
        (POINT_PHOTO, f"point {POINT[0]},{POINT[1]}", Prompt(points=[POINT])),
        (BOX_PHOTO, f"box {','.join(map(str, BOX))}", Prompt(box=BOX)),
    )
    for name, told, prompt in tasks:
        start = time.perf_counter()
        embedding = model.embed(photos[name])
        embedded = time.perf_counter()
        result = model.segment(embedding, prompt).cleaned(MIN_MASK_REGION_AREA)
        mask = result.mask
        done = time.perf_counter()
        click.echo(
            f"{name}, {told}: image {_ms(embedded - start)}, mask {_ms(done - embedded)}, "
            f"{result.area} pixels, predicted IoU {result.best.predicted_iou:.2f}"
        )
        for kind, picture in (("mask", mask), ("cutout", result.cutout()), ("overlay", result.overlay())):
            path = out / f"{name}_{kind}.png"
            write_bytes(path, image_to_png(picture))
            click.echo(f"  {kind}: {printable(path)}")


def read_photo(name: str) -> np.ndarray:
    """Return one of scikit-image's photos (H, W, 3).

    Raises:
        MissingExtraError: if scikit-image is not installed.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise missing_extra("demo", "demo") from error
    return getattr(data, name)()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
