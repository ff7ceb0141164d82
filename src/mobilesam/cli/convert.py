"""``mobilesam convert``: a set of labelled photos from one format into others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from mobilesam.annotate.set_folder import NONE, check_photos, write_set
from mobilesam.cli.fields import FileType, option_field, options_from
from mobilesam.core.text import counted, printable
from mobilesam.formats.datasets.load import check_formats, read_dataset, recognise
from mobilesam.formats.datasets.model import Dataset

WITHOUT_MASKS = ("yolo-detect",)
NEEDS_MASKS = ("sa1b", "png")


@dataclass(frozen=True)
class ConvertOptions:
    """From what to what.

    Attributes:
        to: formats to write, joined by commas.
        source_format: format of IN.
        photos: what becomes of the photos in ``OUT/images``: ``copy``, ``link`` or ``none``.
        overwrite: replace files that are there.
        follow_symlinks: in IN, also follow links to other folders.
        quiet: print errors only.
    """

    to: str = option_field("", "--to", metavar="LIST", required=True)
    source_format: str | None = option_field(None, "--from", metavar="FORMAT", shown_default="recognised")
    photos: str = option_field(NONE, "--photos", metavar="HOW")
    overwrite: bool = False
    follow_symlinks: bool = False
    quiet: bool = option_field(False, "--quiet", "-q")


@click.command()
@click.argument("source", metavar="IN", type=FileType())
@click.argument("out", metavar="OUT", type=FileType())
@options_from(ConvertOptions, "options")
def convert(source: Path, out: Path, options: ConvertOptions) -> int:
    """Turn labelled photos from one format into others.

    IN is a folder or a file of labels, OUT the folder that is written. What a format cannot hold is reported.
    docs/reference/datasets.md has the formats, and what each does with holes and parts.

    \b
    mobilesam convert export/ set --to coco,yolo --photos copy
    mobilesam convert annotations.xml set --from cvat --to labelme
    mobilesam convert instances.json set --to voc,geojson
    """
    formats = check_formats(options.to.split(","))
    check_photos(options.photos)
    name = recognise(source) if options.source_format is None else options.source_format
    dataset = read_dataset(source, format=name, follow_symlinks=options.follow_symlinks)
    remarks = [*dataset.remarks, *losses(dataset, formats)]
    remarks += write_set(dataset, out, formats, photos=options.photos, overwrite=options.overwrite)
    if not options.quiet:
        for remark in remarks:
            click.echo(f"warning: {printable(remark)}", err=True)
        objects = sum(len(photo.objects) for photo in dataset.photos)
        click.echo(
            f"{name}: {counted(len(dataset.photos), 'photos')}, {counted(objects, 'objects')}, "
            f"{counted(len(dataset.categories), 'categories')}; "
            f"written to {printable(out)} as {', '.join(formats)}"
        )
    return 0


def losses(dataset: Dataset, formats: tuple[str, ...]) -> list[str]:
    """Return in words what of a set the formats cannot hold."""
    objects = [one for photo in dataset.photos for one in photo.objects]
    there = Counter("mask" if one.mask is not None else "box" for one in objects)
    crowds = sum(one.iscrowd for one in objects)
    told = []
    for name in formats:
        if name in NEEDS_MASKS and there["box"]:
            what = "left out" if name == "sa1b" else "without a picture"
            told.append(f"{name}: {there['box']:,} objects have no mask; they are {what}")
        if name == "yolo" and there["box"] and there["mask"]:
            told.append(
                f"yolo: {there['box']:,} objects have no mask; their lines are boxes, which training may not mix"
            )
        if name in WITHOUT_MASKS and there["mask"]:
            told.append(f"{name}: {there['mask']:,} masks become boxes")
        if name.startswith("yolo") and crowds:
            told.append(f"{name}: {crowds:,} crowds are left out")
        if name == "sa1b" and len({one.label for one in objects}) > 1:
            told.append("sa1b: has no categories; labels are left out")
    return told
