"""Which formats there are, which one a folder or file has, and how a set is read and written.

A format is a file beside this one with a line here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mobilesam.core.errors import ConfigError
from mobilesam.core.text import printable
from mobilesam.formats.datasets import (
    coco,
    cvat,
    geojson,
    labelme,
    pairs,
    png,
    record,
    sa1b,
    voc,
    webdataset,
    yolo,
)
from mobilesam.formats.datasets.model import Dataset, File, occur_once
from mobilesam.formats.file_names import file_below, is_there
from mobilesam.formats.image_bytes import shown
from mobilesam.storage.atomic import write_pieces

Write = Callable[[Dataset], Iterator[File]]


class Read(Protocol):
    """Reads a set."""

    def __call__(self, path: Path, *, follow_symlinks: bool = False) -> Dataset:
        """Read a folder or a file.

        Raises:
            ConfigError: names the file, the place in it and what is wrong.
            LimitError: for what is too large.
        """
        ...


@dataclass(frozen=True)
class Format:
    """One way in which sets are kept.

    Attributes:
        about: what it is.
        recognise: whether a folder or file is such a set; None if it is not read.
        read: None likewise.
        write: yields the files of a set, each with its name; None if it is not written.
        holes: what happens to holes.
        parts: what happens to objects in several parts.
    """

    about: str
    recognise: Callable[[Path], object] | None = None
    read: Read | None = None
    write: Write | None = None
    holes: str = "kept"
    parts: str = "kept"


def _record_of(path: Path) -> Path:
    return path / record.NAME if path.is_dir() else path


def _is_record(path: Path) -> bool:
    return _record_of(path).name == record.NAME and _record_of(path).is_file()


def _read_record(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    return record.read_record(_record_of(path))


# In the order in which a folder is checked: whole sets first, then files that may lie in them.
FORMATS = {
    "record": Format("everything, without loss", _is_record, _read_record, record.write_record),
    "coco": Format("COCO instances, masks as run-length codes", coco.recognise, coco.read, coco.write),
    "coco-polygons": Format(
        "COCO instances, masks as polygons",
        write=coco.write_polygons,
        holes="reached by a bridge, so that they stay",
        parts="a polygon each",
    ),
    "png": Format("a black and white PNG for each object", png.recognise, png.read, png.write),
    "yolo": Format(
        "YOLO, outlines",
        yolo.recognise,
        yolo.read,
        yolo.write,
        holes="reached by a bridge, so that they stay",
        parts="joined by a bridge of one pixel; far specks are left out",
    ),
    "yolo-detect": Format("YOLO, boxes", write=yolo.write_boxes, holes="lost", parts="one box"),
    "cvat": Format("CVAT for images 1.1", cvat.recognise, cvat.read),
    "voc": Format(
        "Pascal VOC, XML and pictures",
        voc.recognise,
        voc.read,
        voc.write,
        holes="kept; where objects overlap, the smaller is seen",
    ),
    "labelme": Format(
        "LabelMe",
        labelme.recognise,
        labelme.read,
        labelme.write,
        holes="the object is a shape of type mask",
        parts="polygons of one group",
    ),
    "sa1b": Format("SA-1B's JSON, without categories", sa1b.recognise, sa1b.read, sa1b.write),
    "pairs": Format(
        "a photo and a picture of its mask: GrabCut, Berkeley, DAVIS, SBD, HQSeg", pairs.recognise, pairs.read
    ),
    "geojson": Format("GeoJSON in pixels", write=geojson.write),
    "webdataset": Format(
        "tars of photos with their labels, for one stream",
        webdataset.recognise,
        webdataset.read,
        webdataset.write,
    ),
}
READABLE = tuple(name for name, one in FORMATS.items() if one.read)
WRITABLE = tuple(name for name, one in FORMATS.items() if one.write)
# Formats that write the same files in another form cannot lie in one folder.
ONE_FILE = ("record", "coco", "coco-polygons", "webdataset")  # for all photos, or many
ALTERNATIVES = (("coco", "coco-polygons"), ("yolo", "yolo-detect"))


def recognise(path: Path) -> str:
    """Return the name of the format of a folder or file.

    Raises:
        ConfigError: if it has none that is read.
    """
    if not is_there(path):
        raise ConfigError(f"{shown(str(path))}: not found; give a folder or file of labels")
    for name, one in FORMATS.items():
        if one.recognise is not None and one.recognise(path):
            return name
    raise ConfigError(
        f"{shown(str(path))}: is not a recognised set; formats that are read are {', '.join(READABLE)}"
    )


def read_dataset(path: str | Path, *, format: str | None = None, follow_symlinks: bool = False) -> Dataset:
    """Read a set of labelled photos.

    Args:
        path: a folder, or a file of labels.
        format: one of ``READABLE``; recognised if None.
        follow_symlinks: also follow links in the folder to files outside it.

    Raises:
        ConfigError: for an unknown format, or a set that does not follow its format; names file and place.
        LimitError: for what is too large.
        ImageError: if a photo's size is needed and it cannot be read.
    """
    path = Path(path)
    name = recognise(path) if format is None else format
    found = FORMATS.get(name)
    if found is None or found.read is None:
        raise ConfigError(f"format {printable(name)!r}: is not read; choose one of {', '.join(READABLE)}")
    return found.read(path, follow_symlinks=follow_symlinks)


def check_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return formats to write, each once.

    Raises:
        ConfigError: for one that is unknown or cannot be written, and for two that write the same files.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in chosen:
        if name not in WRITABLE:
            raise ConfigError(
                f"format {printable(name)!r}: is not written; choose some of {','.join(WRITABLE)}"
            )
    for pair in ALTERNATIVES:
        if set(pair) <= set(chosen):
            raise ConfigError(
                f"formats {' and '.join(pair)}: have files of the same names; write them to two folders"
            )
    if not chosen:
        raise ConfigError(f"formats: is empty; choose some of {','.join(WRITABLE)}")
    return chosen


def write_dataset(
    dataset: Dataset, out: str | Path, formats: Sequence[str], *, overwrite: bool = False
) -> list[Path]:
    """Write a set's labels in some formats, each file whole or not at all; photos are not copied.

    Args:
        dataset: what is written.
        out: the folder.
        formats: some of ``WRITABLE``.
        overwrite: replace existing files.

    Returns:
        The files.

    Raises:
        ConfigError: whatever :func:`check_formats` raises.
        OutputError: if a file exists or cannot be written.

    Example:
        >>> write_dataset(read_dataset("shots"), "set", ["coco", "yolo"])  # doctest: +SKIP
    """
    return list(write_files(dataset, out, formats, overwrite=overwrite))


def write_files(
    dataset: Dataset, out: str | Path, formats: Sequence[str], *, overwrite: bool = False
) -> Iterator[Path]:
    """Do what :func:`write_dataset` does, file by file, and yield each when it is there."""
    _check_stems(dataset, check_formats(formats))
    for name in check_formats(formats):
        write = FORMATS[name].write
        assert write is not None
        for file, data in write(dataset):
            path = file_below(Path(out), file, follow_symlinks=True, place="a photo's name", fail=ConfigError)
            write_pieces(path, [data] if isinstance(data, bytes) else data, overwrite=overwrite)
            yield path


def _check_stems(dataset: Dataset, formats: Sequence[str]) -> None:
    """Refuse photos whose labels would have the same name, in formats that have a file for each photo."""
    if not set(formats) - set(ONE_FILE):
        return
    if occur_once(array("q", (hash(photo.stem.casefold()) for photo in dataset.heads))):
        return  # as nearly always, and in little memory
    names: dict[str, str] = {}
    for photo in dataset.heads:
        other = names.setdefault(photo.stem.casefold(), photo.file_name)
        if other != photo.file_name:
            raise ConfigError(
                f"{printable(other)} and {printable(photo.file_name)}: would have labels of the same name; rename one"
            )
