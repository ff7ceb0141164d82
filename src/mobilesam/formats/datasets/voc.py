"""Pascal VOC: an XML file of boxes for each photo, and its masks as two pictures.

``SegmentationObject`` has each object's number in the XML file, ``SegmentationClass`` that of its class. A pixel has
one number: where objects overlap, the smaller is seen, and the larger loses the pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from mobilesam.core.arrays import Size
from mobilesam.core.errors import ConfigError, MobileSamError
from mobilesam.core.rle import mask_to_rle, rle_to_mask
from mobilesam.formats.datasets.files import files_below, number_in, photos_below, read_bytes, read_xml
from mobilesam.formats.datasets.model import (
    Box,
    Dataset,
    File,
    LabelledObject,
    LabelledPhoto,
    check_box_in,
    check_name,
    make_dataset,
)
from mobilesam.formats.file_names import file_below, open_at_once
from mobilesam.formats.image import MAX_PIXELS, read_size
from mobilesam.formats.image_bytes import shown

FOLDER = "voc"
XML, PHOTOS, OBJECTS, CLASSES, SETS = (
    "Annotations",
    "JPEGImages",
    "SegmentationObject",
    "SegmentationClass",
    "ImageSets/Main",
)
BORDER = 255  # what VOC's pictures have along outlines
MOST_NUMBERS = 254
SPLIT_NAMES = {"train": "train", "val": "val", "test": "test"}


def recognise(path: Path) -> bool:
    """Whether a file is VOC's XML, or the first XML files of a folder are."""
    files = [path] if path.is_file() else files_below(path, _is_xml)[:3]
    return any(_looks_like(file) for file in files if _is_xml(file))


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml"


def _looks_like(path: Path) -> bool:
    try:
        with open_at_once(path) as file:
            return b"<annotation>" in file.read(2**12)
    except OSError:
        return False


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read the XML files below a folder, or one file, with the masks beside them."""
    files = [path] if path.is_file() else files_below(path, _is_xml, follow_symlinks=follow_symlinks)
    folder = path if path.is_dir() else path.parent
    base = folder / FOLDER if (folder / FOLDER / XML).is_dir() else folder
    xml = base / XML if (base / XML).is_dir() else base
    splits = _read_splits(base)
    root = _root(base, xml)
    known = photos_below(root, follow_symlinks=follow_symlinks) if root.is_dir() else {}
    photos = []
    for file in files:
        element = read_xml(file)
        if element.tag != "annotation":
            continue
        below = file.relative_to(xml) if xml in file.parents else file.relative_to(folder)
        stem = below.with_suffix("").as_posix()
        photos.append(_read_photo(element, file, base, stem, splits.get(stem, ""), known.get(stem), root))
    if not photos:
        raise ConfigError(f"{shown(str(path))}: holds no VOC file; they are .xml files with <annotation>")
    return make_dataset(photos, root=root)


def _root(base: Path, xml: Path) -> Path:
    for place in (base / PHOTOS, base / "images", base.parent / "images", xml):
        if place.is_dir() and photos_below(place):
            return place
    return base / PHOTOS


def _read_splits(base: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name, split in SPLIT_NAMES.items():
        file = base / SETS / f"{name}.txt"
        if file.is_file():
            lines = read_bytes(file).decode("utf-8", "replace").splitlines()
            splits |= {line.strip(): split for line in lines if line.strip()}
    return splits


def _read_photo(
    element: ElementTree.Element,
    file: Path,
    base: Path,
    stem: str,
    split: str,
    photo: Path | None,
    root: Path,
) -> LabelledPhoto:
    name = shown(str(file))
    told = (element.findtext("filename") or "").strip() or f"{stem}.jpg"
    file_name = photo.relative_to(root).as_posix() if photo else stem + PurePosixPath(told).suffix
    file_below(root, file_name, follow_symlinks=True, place=f"{name}: filename", fail=ConfigError)
    size = _read_size(element, photo, name)
    objects = [
        _read_object(one, size, f"{name}: object[{i}]") for i, one in enumerate(element.findall("object"))
    ]
    picture = base / OBJECTS / f"{stem}.png"
    if picture.is_file():
        objects = _with_masks(objects, picture, size)
    return LabelledPhoto(file_name, size, tuple(objects), split=split)


def _read_size(element: ElementTree.Element, photo: Path | None, name: str) -> Size:
    """Return the (height, width) that is stated; the photo's own if it is 0, as some tools write."""
    stated = element.find("size")
    if stated is not None:
        height, width = (int(number_in(stated, key, f"{name}: size")) for key in ("height", "width"))
        if height > 0 and width > 0 and height * width <= MAX_PIXELS:
            return height, width
    if photo is None:
        raise ConfigError(f"{name}: size: is missing, 0 or too large, and there is no photo to measure")
    return read_size(photo)


def _read_object(element: ElementTree.Element, size: Size, place: str) -> LabelledObject:
    bounds = element.find("bndbox")
    if bounds is None:
        raise ConfigError(f"{place}: has no bndbox; VOC's objects have one")
    x0, y0, x1, y1 = (number_in(bounds, key, f"{place}.bndbox") for key in ("xmin", "ymin", "xmax", "ymax"))
    box = check_box_in([x0 - 1, y0 - 1, x1, y1], size, f"{place}.bndbox")  # VOC counts pixels from 1
    label = check_name(element.findtext("name") or "", f"{place}.name")
    score = number_in(element, "score", place) if element.find("score") is not None else None
    crowd = (element.findtext("iscrowd") or "0").strip() == "1"
    return LabelledObject(label, box, score=score, iscrowd=crowd)


def _with_masks(objects: list[LabelledObject], picture: Path, size: Size) -> list[LabelledObject]:
    """Give objects the masks that a picture has for their numbers."""
    name = shown(str(picture))
    try:
        with Image.open(io.BytesIO(read_bytes(picture))) as opened:
            if opened.width * opened.height > MAX_PIXELS or opened.mode not in ("P", "L", "1"):
                raise ConfigError(f"{name}: must be a picture of numbers (mode P) of the photo's size")
            numbers = np.asarray(opened)
    except MobileSamError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ConfigError(f"{name}: is not a readable picture") from error
    if numbers.shape != size:
        raise ConfigError(
            f"{name}: is {numbers.shape[1]} x {numbers.shape[0]}, the photo {size[1]} x {size[0]}"
        )
    return [
        LabelledObject(one.label, one.box, mask_to_rle(numbers == i), one.score, one.iscrowd)
        if i < BORDER and (numbers == i).any()
        else one
        for i, one in enumerate(objects, start=1)
    ]


def write(dataset: Dataset) -> Iterator[File]:
    """Yield XML and, if there are masks, two pictures for each photo, and the lists of the splits."""
    numbers = {name: number + 1 for name, number in dataset.class_numbers.items()}
    for photo in dataset.photos:
        masked = any(one.mask is not None for one in photo.objects)
        yield f"{FOLDER}/{XML}/{photo.stem}.xml", _photo_to_xml(photo, segmented=masked)
        if masked:
            objects, classes = _to_numbers(photo, numbers)
            yield f"{FOLDER}/{OBJECTS}/{photo.stem}.png", _to_png(objects)
            yield f"{FOLDER}/{CLASSES}/{photo.stem}.png", _to_png(classes)
    for split in dataset.splits:
        stems = (photo.stem for photo in dataset.heads if photo.split == split)
        yield f"{FOLDER}/{SETS}/{split}.txt", (f"{stem}\n".encode() for stem in stems)


def _photo_to_xml(photo: LabelledPhoto, *, segmented: bool) -> bytes:
    root = ElementTree.Element("annotation")
    _text(root, "folder", "images")
    _text(root, "filename", photo.file_name)
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", photo.size[1]), ("height", photo.size[0]), ("depth", 3)):
        _text(size, key, value)
    _text(root, "segmented", int(segmented))
    for one in photo.objects:
        entry = ElementTree.SubElement(root, "object")
        _text(entry, "name", one.label)
        for key, default in (("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _text(entry, key, default)
        if one.iscrowd:
            _text(entry, "iscrowd", 1)
        if one.score is not None:
            _text(entry, "score", one.score)
        bounds = ElementTree.SubElement(entry, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), _from_one(one.box), strict=True):
            _text(bounds, key, value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _from_one(box: Box) -> tuple[int, int, int, int]:
    """Return a box's first and last pixels, counted from 1."""
    x0, y0, x1, y1 = box
    left, top = int(np.floor(x0)) + 1, int(np.floor(y0)) + 1
    return left, top, max(int(np.ceil(x1)), left), max(int(np.ceil(y1)), top)


def _text(parent: ElementTree.Element, tag: str, value: object) -> None:
    ElementTree.SubElement(parent, tag).text = str(value)


def _to_numbers(photo: LabelledPhoto, classes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return each pixel's object and class, 0 where there is none; the smallest object is on top."""
    objects, kinds = np.zeros(photo.size, np.uint8), np.zeros(photo.size, np.uint8)
    order = sorted(range(len(photo.objects)), key=lambda i: -photo.objects[i].pixels)
    for i in order:
        one = photo.objects[i]
        if one.mask is not None and i < MOST_NUMBERS:
            mask = rle_to_mask(one.mask)
            objects[mask], kinds[mask] = i + 1, min(classes[one.label], MOST_NUMBERS)
    return objects, kinds


def palette() -> bytes:
    """Return VOC's colours: the bits of a number, spread over red, green and blue from the highest down."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def _to_png(numbers: np.ndarray) -> bytes:
    picture = Image.fromarray(numbers)
    picture.putpalette(palette())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
