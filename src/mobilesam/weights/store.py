"""Put published weights into the cache and take them out: pull, import, verify, remove."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from mobilesam.core.errors import ConfigError, DeadlineError, OutputError, WeightsError, WeightsWarning
from mobilesam.storage.atomic import atomic_write, move_into_place, remove_remains
from mobilesam.storage.lock import locked
from mobilesam.weights.checksum import entry_of_file, is_published
from mobilesam.weights.folders import (
    HOME_VARIABLE,
    cached_path,
    how_to_get,
    prepared_folder,
    weights_path,
)
from mobilesam.weights.reading import may_be, not_published, open_weights
from mobilesam.weights.registry import WeightsEntry
from mobilesam.weights.transfer import Piece, Silence, TransferError, pieces

MIRROR_VARIABLE = "MOBILESAM_WEIGHTS_URL"
OFFLINE_VARIABLE = "MOBILESAM_OFFLINE"
TIMEOUT = 30.0
COPY_BYTES = 2**22

Report = Callable[[int, int], None]
Remark = Callable[[str], None]


def pull(
    entry: WeightsEntry,
    *,
    timeout: float = TIMEOUT,
    report: Report = lambda done, total: None,
    remark: Remark = lambda text: None,
) -> Path:
    """Fetch an entry's file into the cache, unless it is there; return its path.

    A broken transfer is resumed. A file only appears under its name once it is complete, on
    disk and has the published checksum. Several processes may pull at once.

    Args:
        entry: which weights.
        timeout: seconds without a byte after which an address is given up.
        report: called with the number of bytes so far, and the total, whenever some have arrived.
        remark: called with what a waiting user may want to know.

    Raises:
        WeightsError: if no address sends the published file.
        DeadlineError: if none sends anything for ``timeout`` seconds.
        OutputError: if the cache cannot be written or the disk is full.
    """
    if entry.shipped or is_here(entry):
        return weights_path(entry)
    if os.environ.get(OFFLINE_VARIABLE) not in (None, "", "0"):
        raise WeightsError(f"{entry.name}: not fetched: {OFFLINE_VARIABLE} is set; {_elsewhere(entry)}")
    if weights_path(entry) != cached_path(entry):
        verify(entry)  # the user's own folder comes first, and its file is not the published one
    with _cache_of(entry, remark):
        if not is_here(entry):  # another process may have been faster
            with _partial_file(entry) as file:
                _fetch_from_any(entry, file, timeout, report, remark)
            move_into_place(_partial_path(entry), cached_path(entry))
    return cached_path(entry)


def import_file(path: str | Path, *, remark: Remark = lambda text: None) -> tuple[WeightsEntry, Path]:
    """Copy a file from elsewhere into the cache; its checksum says which entry it belongs to.

    Returns:
        The entry, and where its file is now.

    Raises:
        WeightsError: if the file is missing or is not a published one.
        OutputError: if the cache cannot be written or the disk is full.
    """
    path = Path(path)
    with open_weights(path, "give the path of a file to import") as source:
        entry = entry_of_file(source)
        if entry is None:
            raise WeightsError(
                f"{path}: its SHA-256 is not that of a published file; pass weights of your own as the checkpoint of a model"
            )
        if entry.shipped:
            return entry, weights_path(entry)
        with _cache_of(entry, remark):
            _check_room(entry, source.seek(0, os.SEEK_END))
            with atomic_write(cached_path(entry)) as target:
                source.seek(0)
                shutil.copyfileobj(source, target, COPY_BYTES)
                target.flush()
                if not is_published(target, entry):
                    raise WeightsError(f"{path}: was changed while it was read; import it again")
            _partial_path(entry).unlink(missing_ok=True)
    return entry, cached_path(entry)


def is_here(entry: WeightsEntry) -> bool:
    """Whether an entry's published file is where ``load`` looks for it, by its checksum."""
    path = weights_path(entry)
    if not path.is_file():
        return False
    with open_weights(path, how_to_get(entry)) as file:
        return may_be(entry, file) and is_published(file, entry)


def verify(entry: WeightsEntry) -> Path:
    """Check the checksum of an entry's file, and return its path.

    Raises:
        WeightsError: if it is missing or is not the published file.
    """
    path = weights_path(entry)
    if not path.is_file():
        raise WeightsError(f"{path}: not found; {how_to_get(entry)}")
    if not is_here(entry):
        raise not_published(path, entry)
    return path


def remove(entry: WeightsEntry) -> list[Path]:
    """Delete an entry's file, and the remains of an unfinished transfer, from the cache; return what was deleted.

    Raises:
        ConfigError: for weights that are part of the package.
        WeightsError: if the cache has none of it.
    """
    if entry.shipped:
        raise ConfigError(f"{entry.name}: is part of the package; only what the cache has is removed")
    found = [path for path in (cached_path(entry), _partial_path(entry)) if path.is_file()]
    if not found:
        raise WeightsError(f"{cached_path(entry)}: not found; there is nothing to remove")
    with _cache_of(entry):
        for path in found:
            path.unlink(missing_ok=True)
    shutil.rmtree(prepared_folder(entry.sha256 or entry.git_blob), ignore_errors=True)
    with contextlib.suppress(OSError):  # the user, or another process, may have something there
        cached_path(entry).parent.rmdir()
    return found


def addresses(entry: WeightsEntry) -> tuple[str, ...]:
    """Return the addresses of an entry's file, or the one on the mirror that MOBILESAM_WEIGHTS_URL names."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    return (f"{mirror.rstrip('/')}/{entry.file}",) if mirror else entry.urls


def _fetch_from_any(
    entry: WeightsEntry, file: IO[bytes], timeout: float, report: Report, remark: Remark
) -> None:
    """Try the addresses in turn until the file is the published one."""
    hosts_of: dict[str, list[str]] = {}
    only_silence = True
    if file.seek(0, os.SEEK_END) and may_be(entry, file) and is_published(file, entry):
        return
    for url in addresses(entry):
        remark(f"{entry.name}: {entry.size / 1e6:.1f} MB from {url}")
        try:
            return _fetch_published(url, entry, file, timeout, report)
        except TransferError as error:
            hosts_of.setdefault(str(error), []).append(urlsplit(url).netloc.rpartition("@")[2])
            only_silence &= isinstance(error, Silence)
    reasons = "; ".join(f"{', '.join(dict.fromkeys(hosts))}: {why}" for why, hosts in hosts_of.items())
    kind = DeadlineError if only_silence else WeightsError
    raise kind(f"{entry.name}: not fetched: {reasons}; {_elsewhere(entry)}")


def _fetch_published(url: str, entry: WeightsEntry, file: IO[bytes], timeout: float, report: Report) -> None:
    """Fetch from one address; if a resumed file has another checksum, fetch it once more from its start."""
    for last_round in (False, True):
        continued = False
        for piece in pieces(url, file.seek(0, os.SEEK_END), entry, timeout):
            continued |= piece.continues
            _put(piece, entry, file)
            report(file.tell(), piece.total)
        os.fsync(file.fileno())
        if is_published(file, entry):
            return
        file.truncate(0)
        if last_round or not continued:
            raise TransferError("sends another file (its sum is not the published one)")


def _put(piece: Piece, entry: WeightsEntry, file: IO[bytes]) -> None:
    """Write a piece in its place; an unbuffered file may take less than it is given."""
    if piece.offset != file.tell():
        file.truncate(piece.offset)
        file.seek(piece.offset)
    left = memoryview(piece.data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise _cache_error(entry, error, needed=max(piece.total - file.tell(), len(left))) from error


@contextlib.contextmanager
def _cache_of(entry: WeightsEntry, remark: Remark = lambda text: None) -> Iterator[None]:
    """Hold an entry's place in the cache exclusively, without what killed processes left there."""
    path = cached_path(entry)
    waiting = f"{entry.name}: another process is at it; waiting"
    made: list[Path] = []
    try:
        made += [folder for folder in (path.parent, path.parent.parent) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        _warn_of_others(path.parent)
        with locked(path.with_name(f".{path.name}.lock"), lambda: remark(waiting)):
            remove_remains(path.parent)
            yield
    except OutputError:
        raise
    except OSError as error:
        raise _cache_error(entry, error) from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()


@contextlib.contextmanager
def _partial_file(entry: WeightsEntry) -> Iterator[IO[bytes]]:
    """Open what has arrived of an entry's file, if the disk has room for the rest."""
    path = _partial_path(entry)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)  # a link to another file is not written through
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            if file.seek(0, os.SEEK_END) > entry.largest:
                file.truncate(0)
            _check_room(entry, entry.size - file.seek(0, os.SEEK_END))
            yield file
        finally:
            if file.seek(0, os.SEEK_END) == 0:
                path.unlink(missing_ok=True)


def _warn_of_others(folder: Path) -> None:
    """Warn where somebody else may put a file into the cache, or take one out."""
    if sys.platform == "win32":  # there a folder's mode does not say who may write
        return
    for place in (folder.parent, folder):
        status = place.stat()
        if status.st_mode & stat.S_IWOTH:
            why = "everybody may write to this folder; run: chmod o-w"
        elif status.st_uid not in (0, os.geteuid()):
            why = f"this folder is another user's (id {status.st_uid})"
        else:
            continue
        warnings.warn(f"{place}: {why}, or set {HOME_VARIABLE} to another", WeightsWarning, stacklevel=2)


def _check_room(entry: WeightsEntry, needed: int) -> None:
    if shutil.disk_usage(cached_path(entry).parent).free < needed:
        raise _cache_error(entry, OSError(errno.ENOSPC, ""), needed)


def _partial_path(entry: WeightsEntry) -> Path:
    """The remains of a transfer."""
    path = cached_path(entry)
    return path.with_name(f".{path.name}.part")


def _cache_error(entry: WeightsEntry, error: OSError, needed: int = 0) -> OutputError:
    folder = cached_path(entry).parent
    advice = f"set {HOME_VARIABLE} to another folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free
        return OutputError(
            f"{folder}: the disk is full ({free:,} bytes free, {needed:,} needed); free some space or {advice}"
        )
    return OutputError(f"{folder}: cannot be written ({error.strerror or error}); {advice}")


def _elsewhere(entry: WeightsEntry) -> str:
    return f"get {entry.file} elsewhere and run: mobilesam weights import FILE"
