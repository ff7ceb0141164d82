"""The images below a folder, and why some of them are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilesam.core.errors import ImageError
from mobilesam.formats.image import suffix_is_image
from mobilesam.formats.image_bytes import shown


@dataclass(frozen=True)
class FoundImage:
    """A file that is named as an image, or what keeps it, or a whole folder, from being read."""

    path: Path
    problem: ImageError | None = None


def find_images(
    folder: Path, *, leave_out: Path | None = None, follow_symlinks: bool = False, below: bool = True
) -> list[FoundImage]:
    """Return the images below a folder in the order of their paths; hidden ones are left out.

    Args:
        folder: where to begin.
        leave_out: a folder of which nothing is returned.
        follow_symlinks: follow links to files and folders that lie elsewhere; otherwise
            each of them is a problem. What a link shows of the folder itself is found at
            its own place.
        below: look into the folders in it too.
    """
    root, barred = resolved(folder), None if leave_out is None else resolved(leave_out)
    found: list[FoundImage] = []
    waiting, entered = [folder], {root}
    while waiting:
        try:
            paths = list((here := waiting.pop()).iterdir())
        except OSError as error:
            reason = f"folder cannot be listed ({error.strerror}); make it readable"
            found.append(FoundImage(here, ImageError(f"{shown(str(here))}: {reason}")))
            continue
        for path in paths:
            target, is_folder = resolved(path), path.is_dir()
            if path.name.startswith(".") or not (below if is_folder else suffix_is_image(path)):
                continue
            if barred is not None and barred in (target, *target.parents):
                continue
            if path.is_symlink() and path.exists() and not follow_symlinks:
                if root not in (target, *target.parents):
                    found.append(FoundImage(path, _leads_outside(path, folder)))
            elif not is_folder:
                found.append(FoundImage(path))
            elif target not in entered:
                entered.add(target)
                waiting.append(path)
    return sorted(found, key=lambda image: image.path)


def resolved(path: Path) -> Path:
    """Return where a path really lies; the path itself if that cannot be told."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return path


def _leads_outside(path: Path, folder: Path) -> ImageError:
    return ImageError(
        f"{shown(str(path))}: is a symbolic link out of {shown(str(folder))}; pass --follow-symlinks to read it"
    )
