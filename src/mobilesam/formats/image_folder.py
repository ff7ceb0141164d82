"""The images below a folder, why some of them are not read, and what else lies there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mobilesam.core.errors import FOLLOW_SYMLINKS, ImageError
from mobilesam.core.text import printable
from mobilesam.formats.image import suffix_is_image
from mobilesam.formats.image_bytes import shown
from mobilesam.formats.video import suffix_is_video

CAMERA_RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mos"),
    *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
OTHER_PICTURES = (
    *(".ai", ".cur", ".dcm", ".dds", ".eps", ".exr", ".fit", ".fits", ".hdr", ".ico", ".j2k", ".jp2"),
    *(".jxl", ".jxr", ".pbm", ".pcx", ".pdf", ".pgm", ".pnm", ".ppm", ".ps", ".psb", ".psd", ".svg"),
    *(".svgz", ".tga", ".xcf"),
)
RAW_REASON = "a camera's raw file; develop it to JPEG or TIFF"
VIDEO_REASON = "a video; follow objects in it with mobilesam track"
PICTURE_REASON = "of a kind that is not read; convert it to JPEG or PNG"
NAMELESS_REASON = "not named as a photo; give it an ending such as .jpg, or name the file itself"
NAMES_IN_A_LINE = 3


@dataclass(frozen=True)
class FoundImage:
    """A file named like an image, or what keeps it, or a whole folder, from being read."""

    path: Path
    problem: ImageError | None = None


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not named like an image, and so is not read.

    Attributes:
        path: the file.
        reason: what its name says it is, and what to do, as in ``is REASON``.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class FolderContents:
    """What lies below a folder, each in the order of the paths; hidden files are left out.

    Attributes:
        images: what is read, and what should be but cannot.
        skipped: all other files.
    """

    images: list[FoundImage]
    skipped: list[SkippedFile]


def find_images(
    folder: Path, *, leave_out: Path | None = None, follow_symlinks: bool = False, below: bool = True
) -> list[FoundImage]:
    """Return the images below a folder in the order of their paths; hidden ones are left out.

    Args:
        folder: where to begin.
        leave_out: a folder that nothing is returned from.
        follow_symlinks: follow links to files and folders that lie elsewhere; otherwise
        each of them is a problem. What a link shows of the folder itself is found at
        its own place.
        below: look into its subfolders too.
    """
    return look_through(folder, leave_out=leave_out, follow_symlinks=follow_symlinks, below=below).images


def look_through(
    folder: Path, *, leave_out: Path | None = None, follow_symlinks: bool = False, below: bool = True
) -> FolderContents:
    """Return the images below a folder as :func:`find_images` does, and the files that are skipped."""
    contents = FolderContents([], [])
    for one in walk(folder, leave_out=leave_out, follow_symlinks=follow_symlinks, below=below):
        if isinstance(one, FoundImage):
            contents.images.append(one)
        else:
            contents.skipped.append(one)
    return contents


def walk(
    folder: Path, *, leave_out: Path | None = None, follow_symlinks: bool = False, below: bool = True
) -> Iterator[FoundImage | SkippedFile]:
    """Yield what :func:`look_through` returns, in the order of the paths: of a large folder only names are in memory."""
    root, barred = resolved(folder), None if leave_out is None else resolved(leave_out)
    entered = {root}
    waiting = [iter([folder])]
    while waiting:
        path = next(waiting[-1], None)
        if path is None:
            waiting.pop()
            continue
        target, is_folder = resolved(path), path.is_dir() or path is folder
        if path is not folder:
            if path.name.startswith(".") or (is_folder and not below):
                continue
            if barred is not None and barred in (target, *target.parents):
                continue
            if not is_folder and not suffix_is_image(path):
                yield SkippedFile(path, why_skipped(path))
                continue
            if path.is_symlink() and path.exists() and not follow_symlinks:
                if root not in (target, *target.parents):
                    yield FoundImage(path, _leads_outside(path, folder))
                continue
            if not is_folder:
                yield FoundImage(path)
                continue
            if target in entered:
                continue
            entered.add(target)
        try:
            names = sorted(os.listdir(path), key=os.path.normcase)
        except OSError as error:
            reason = f"folder cannot be listed ({error.strerror}); make it readable"
            yield FoundImage(path, ImageError(f"{shown(str(path))}: {reason}"))
        else:
            waiting.append(map(path.joinpath, names))


def why_skipped(path: Path) -> str:
    """Return what a file's name says it is, and what to do: ``a video; follow objects in it with mobilesam track``."""
    ending = path.suffix.lower()
    if ending in CAMERA_RAW:
        return RAW_REASON
    if suffix_is_video(path):
        return VIDEO_REASON
    return PICTURE_REASON if ending in OTHER_PICTURES else NAMELESS_REASON


class SkippedTally:
    """Counts skipped files by the reason, in little memory."""

    def __init__(self, skipped: Iterable[SkippedFile] = ()) -> None:
        self._counts: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}  # the first few
        for file in skipped:
            self.add(file)

    def add(self, file: SkippedFile) -> None:
        """Count a file."""
        self._counts[file.reason] += 1
        self._add_names(file.reason, [file.path.name])

    def add_all(self, other: SkippedTally) -> None:
        """Count what another has counted."""
        self._counts.update(other._counts)
        for reason, names in other._names.items():
            self._add_names(reason, names)

    def _add_names(self, reason: str, names: list[str]) -> None:
        there = self._names.setdefault(reason, [])
        there += names[: NAMES_IN_A_LINE - len(there)]

    def lines(self) -> list[str]:
        """Return one line for each reason, with how many files it holds for and the first few of them."""
        lines = []
        for reason, count in self._counts.items():
            names = ", ".join(printable(_middle_left_out(name)) for name in self._names[reason])
            more = ", ..." if count > NAMES_IN_A_LINE else ""
            files = f"{count:,} files" if count > 1 else "1 file"
            lines.append(f"{files} skipped ({names}{more}): {'each' if count > 1 else 'it'} is {reason}")
        return lines


def tell_skipped(skipped: Iterable[SkippedFile]) -> list[str]:
    """Return one line for each reason, with how many files it holds for and the first few of them.

    Example:
        >>> tell_skipped([SkippedFile(Path("a.CR2"), RAW_REASON), SkippedFile(Path("b.nef"), RAW_REASON)])
        ["2 files skipped (a.CR2, b.nef): each is a camera's raw file; develop it to JPEG or TIFF"]
    """
    return SkippedTally(skipped).lines()


def _middle_left_out(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:18]}...{name[-18:]}"


def resolved(path: Path) -> Path:
    """Return where a path really lies; the path itself if that cannot be found out."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return path


def _leads_outside(path: Path, folder: Path) -> ImageError:
    return ImageError(
        f"{shown(str(path))}: is a symbolic link out of {shown(str(folder))}; copy the file into it",
        remedy=FOLLOW_SYMLINKS,
    )
