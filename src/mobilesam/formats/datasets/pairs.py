"""Photos, each with a picture of masks, in the layouts in which sets for interactive segmentation are shipped.

GrabCut, Berkeley, DAVIS (from its site, and as frames), SBD, HQSeg and the like. A mask with a palette has an object
for each number; any other is one object, where it is brighter than half. In GrabCut, 128 is the undecided border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mobilesam.core.errors import ConfigError, MobileSamError, missing_extra
from mobilesam.core.rle import Rle, mask_to_rle
from mobilesam.formats.coco import UNNAMED
from mobilesam.formats.datasets.files import files_below, photos_below
from mobilesam.formats.datasets.model import Dataset, LabelledObject, LabelledPhoto, box_of, make_dataset
from mobilesam.formats.image import MAX_PIXELS, read_image, suffix_is_image
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.image_folder import resolved

BORDER, VOID = 128, 255  # GrabCut's undecided border; what a picture with a palette leaves undecided
MATLAB = ".mat"
SEPARATOR = "#"  # Berkeley has a photo's second mask as NAME#2


@dataclass(frozen=True)
class Layout:
    """Where a set has its photos and its masks.

    Attributes:
        called: the set.
        photos: folder of the photos.
        masks: folder of the masks, with the same names and any endings.
        border: whether 128 is undecided.
    """

    called: str
    photos: str
    masks: str
    border: bool = False


LAYOUTS = (
    Layout("GrabCut", "data_GT", "boundary_GT", border=True),
    Layout("DAVIS", "JPEGImages/480p", "Annotations/480p"),
    Layout("DAVIS", "JPEGImages/Full-Resolution", "Annotations/Full-Resolution"),
    Layout("DAVIS, frames", "img", "gt"),
    Layout("HQSeg", "im", "gt"),
    Layout("SBD", "img", "inst"),
    Layout("SBD", "dataset/img", "dataset/inst"),
    Layout("Berkeley", "images", "masks"),
)


def recognise(path: Path) -> Layout | None:
    """Return the layout of a folder; None if it has none of them."""
    found = (one for one in LAYOUTS if (path / one.photos).is_dir() and (path / one.masks).is_dir())
    return next(found, None)


def read(path: Path, *, follow_symlinks: bool = False) -> Dataset:
    """Read the photos of a folder that have a mask.

    Raises:
        ConfigError: if there are none, or a mask cannot be read or has another size than its photo.
        ImageError: if a photo cannot be read.
    """
    layout = recognise(path)
    if layout is None:
        known = "; ".join(f"{one.photos} with {one.masks} ({one.called})" for one in LAYOUTS)
        raise ConfigError(f"{shown(str(path))}: has none of the layouts {known}")
    root = path / layout.photos
    photos = photos_below(root, follow_symlinks=follow_symlinks)
    masks: dict[str, list[Path]] = {}
    folder = path / layout.masks
    for file in files_below(folder, _may_be_mask, follow_symlinks=follow_symlinks):
        name = file.relative_to(folder).with_suffix("").as_posix()
        masks.setdefault(name.partition(SEPARATOR)[0], []).append(file)
    read_ones = [
        _read_photo(file.relative_to(root).as_posix(), file, masks[name], layout)
        for name, file in photos.items()
        if name in masks
    ]
    if not read_ones:
        raise ConfigError(
            f"{shown(str(path))}: no photo of {layout.photos} has a mask of its name in {layout.masks}"
        )
    without = len(photos) - len(read_ones)
    remarks = [f"{without} photos without a mask are left out"] if without else []
    if any(one.ignored is not None for one in read_ones):
        remarks.append("undecided pixels count in no score, and no other format holds them")
    return make_dataset(read_ones, [UNNAMED], root=resolved(root), remarks=remarks)


def _may_be_mask(path: Path) -> bool:
    return suffix_is_image(path) or path.suffix.lower() == MATLAB


def _read_photo(name: str, file: Path, masks: list[Path], layout: Layout) -> LabelledPhoto:
    size = read_image(file).shape[:2]
    objects: list[Rle] = []
    ignored = np.zeros(size, bool)
    for mask in masks:
        values, numbered = _read_values(mask)
        if values.shape != size:
            raise ConfigError(
                f"{shown(str(mask))}: is {values.shape[1]} x {values.shape[0]}, its photo {size[1]} x {size[0]}; "
                "they must agree"
            )
        if layout.border:
            ignored |= values == BORDER
            values = np.where(values == BORDER, 0, values)
        objects += [mask_to_rle(one) for one in _objects_in(values, numbered)]
        ignored |= numbered & (values == VOID) & (np.unique(values).size > 2)
    labelled = [LabelledObject(UNNAMED, box_of(rle), rle) for rle in objects if rle.area]
    undecided = mask_to_rle(ignored) if ignored.any() else None
    return LabelledPhoto(name, (size[0], size[1]), tuple(labelled), ignored=undecided)


def _objects_in(values: np.ndarray, numbered: bool) -> Iterator[np.ndarray]:
    """Yield the masks (H, W) that a picture of values (H, W) holds."""
    numbers = np.unique(values[values > 0])
    if numbered and numbers.size > 1:
        yield from (values == number for number in numbers if number != VOID)
    else:
        yield values > (0 if numbered else BORDER - 1)


def _read_values(path: Path) -> tuple[np.ndarray, bool]:
    """Return a mask's values (H, W), and whether they are a palette's numbers.

    Raises:
        ConfigError: if it cannot be read.
    """
    if path.suffix.lower() == MATLAB:
        return _read_matlab(path), True
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ConfigError(f"{shown(str(path))}: has over {MAX_PIXELS:,} pixels, the limit")
            numbered = picture.mode == "P" and path.suffix.lower() == ".png"
            return np.asarray(picture if numbered else picture.convert("L")), numbered
    except MobileSamError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(
            f"{shown(str(path))}: cannot be read as a mask; give a picture such as PNG"
        ) from error


def _read_matlab(path: Path) -> np.ndarray:
    """Return the numbers (H, W) of SBD's objects.

    Raises:
        ConfigError: if the file has none.
        MissingExtraError: if SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise missing_extra("SBD's masks", "evaluate") from error
    try:
        return np.asarray(loadmat(str(path))["GTinst"]["Segmentation"][0, 0], np.uint8)
    except Exception as error:  # SciPy's own errors have no common class
        raise ConfigError(f"{shown(str(path))}: is not a file of SBD's objects") from error
