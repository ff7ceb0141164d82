"""``mobilesam map``: outlines on the ground of everything in a georeferenced picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from mobilesam.annotate.ground import ENDINGS, check_georeferenced, encode, masks_to_features
from mobilesam.cli.everything import DetectorOptions
from mobilesam.cli.fields import option_field, options_from
from mobilesam.cli.options import ModelOptions, load_model
from mobilesam.cli.progress import ImagesProgress
from mobilesam.core.text import printable
from mobilesam.formats.raster import Raster
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.storage.atomic import atomic_write, refuse_existing


@dataclass(frozen=True)
class MapOptions:
    """What is read and written.

    Attributes:
        out: file for the outlines: ``.gpkg`` keeps the reference system, ``.geojson`` is in longitude and latitude.
        tile: side of the squares that are searched one after another, in pixels.
        overlap: least pixels that neighbouring squares share; a quarter of a square without it.
        max_prompts: most boxes and points to ask for in each square.
        bands: the bands for red, green and blue, or one for grey, from 1.
        tidy: fewer outlines, each surer.
        overwrite: replace a file that is there.
        quiet: print errors only.
    """

    out: str = option_field("", "--out", "-o", metavar="FILE", required=True)
    tile: int = 1024
    overlap: int | None = None
    max_prompts: int = 256
    bands: str | None = option_field(None, metavar="R,G,B", shown_default="1,2,3")
    tidy: bool = False
    overwrite: bool = False
    quiet: bool = option_field(False, "--quiet", "-q")

    def __post_init__(self) -> None:
        if Path(self.out).suffix.lower() not in ENDINGS:
            raise click.UsageError(
                f"--out: {printable(self.out)} ends in neither of {', '.join(ENDINGS)}; choose one of them"
            )
        self.band_numbers()

    def band_numbers(self) -> tuple[int, ...] | None:
        """The bands as numbers."""
        if self.bands is None:
            return None
        try:
            return tuple(int(part) for part in self.bands.split(","))
        except ValueError as error:
            raise click.UsageError(
                f"--bands: is {printable(self.bands)}; give numbers such as 3,2,1"
            ) from error

    def search(self) -> EverythingOptions:
        """How the picture is searched."""
        preset = EverythingOptions.tidy if self.tidy else EverythingOptions
        return preset(tile=self.tile, overlap=self.overlap, max_prompts=self.max_prompts)


@click.command()
@click.argument("raster", metavar="RASTER")
@options_from(MapOptions, "options")
@options_from(DetectorOptions, "found_by")
@options_from(ModelOptions, "model")
def map(raster: str, options: MapOptions, found_by: DetectorOptions, model: ModelOptions) -> int:
    """Outline everything in a georeferenced picture.

    RASTER is a GeoTIFF or anything else that GDAL reads, of any size; it is read square by square. Needs
    mobilesam[geo].

    \b
    mobilesam map field.tif -o field.gpkg
    mobilesam map scene.tif -o scene.geojson --bands 4,3,2 --tile 512 --tidy
    """
    refuse_existing(Path(options.out), overwrite=options.overwrite)
    search = options.search()
    picture = Raster(raster, bands=options.band_numbers())
    check_georeferenced(picture)
    loaded = load_model(model, quiet=options.quiet)
    progress = ImagesProgress(1, quiet=options.quiet)
    with progress:
        found = loaded.everything(
            picture, search, detector=found_by.open(loaded), progress=progress.of(picture.name)
        )
    features = list(masks_to_features(found.masks, picture))
    with atomic_write(options.out, overwrite=options.overwrite) as file:
        file.write(encode(features, picture, Path(options.out).suffix.lower()))
    if not options.quiet:
        height, width = picture.shape[:2]
        click.echo(
            f"{picture.name}: {width} x {height}, {len(features):,} outlines in {printable(options.out)}"
        )
    return 0
