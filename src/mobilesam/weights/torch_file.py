"""Read a PyTorch checkpoint into NumPy arrays, without PyTorch and without running code from the file.

A ``.pt`` file is a zip archive with a pickle that only says which tensors there are,
and one uncompressed entry of raw numbers for each. Nothing is believed before it is
checked, and no memory is set aside for what a hostile file claims.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from mobilesam.core.errors import WeightsError
from mobilesam.core.text import printable
from mobilesam.weights.tensor_pickle import PickleRefused, read_tensor_pickle

MAX_BYTES = 4 * 2**30
MAX_DIRECTORY = 2**20  # a checkpoint of SAM ViT-H has 60 KB
MAX_PICKLE = 2**19  # a checkpoint of SAM ViT-H has 73 KB
MAX_TENSORS = 20_000  # a checkpoint of SAM ViT-H has 594
MAX_NAME = 500  # characters; a file may share dictionaries and names, but joined names are not shared
MAX_TIMES_FILE = 2  # tensors that share their storage are copied; together no more than this
SAVE_ALONE = "save that alone: torch.save(model.state_dict(), NEW)"
MAX_REASON = 80  # characters of the archive reader's message, which may contain names from the file
WRAPPERS = ("model", "state_dict", "model_state_dict")
PICKLE_START = b"\x80"
TAR_MARK = slice(257, 262)


def read_torch_file(path: str | Path, file: IO[bytes] | None = None) -> dict[str, np.ndarray]:
    """Return the tensors of a checkpoint by name.

    The dictionaries that training programs put around a state dict (``model``,
    ``state_dict``) are opened. In a dictionary of state dicts, names are joined with a dot.

    Args:
        path: the file, also for messages.
        file: the same file, if it is already open.

    Raises:
        WeightsError: if the file is damaged, is not a state dict, or would run code.
    """
    if file is None:
        with Path(path).open("rb") as file:
            return read_torch_file(path, file)
    try:
        content = _read_archive(file)
    except (PickleRefused, WeightsError) as error:
        raise WeightsError(f"{path}: not a plain state dict ({error}); {SAVE_ALONE}") from error
    except zipfile.BadZipFile as error:
        reason = printable(str(error)[:MAX_REASON])
        raise WeightsError(
            f"{path}: damaged, or not a PyTorch checkpoint ({reason}); get it again"
        ) from error
    except Exception as error:  # whatever a hostile file can make its reader raise
        raise WeightsError(f"{path}: damaged ({type(error).__name__}); get it again") from error
    return _state_dict(path, content)


def is_old_torch_file(start: bytes) -> bool:
    """Whether a file's first 512 bytes are of PyTorch's formats before 1.6: a pickle, or a tar archive."""
    return start.startswith(PICKLE_START) or start[TAR_MARK] == b"ustar"


def _state_dict(path: str | Path, content: Any) -> dict[str, np.ndarray]:
    """Find the tensors in a checkpoint's content."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: holds no state dict; {SAVE_ALONE}")
    tensors: list[tuple[str, np.ndarray]] = []
    for group, value in content.items():
        for key, tensor in value.items() if isinstance(value, dict) else [("", value)]:
            if not all(isinstance(name, str) and len(name) <= MAX_NAME for name in (group, key)):
                raise WeightsError(
                    f"{path}: not a state dict; a name in it is not a text of up to {MAX_NAME} characters; {SAVE_ALONE}"
                )
            name = f"{group}.{key}" if key else group
            if not isinstance(tensor, np.ndarray):
                raise WeightsError(
                    f"{path}: not a state dict; entry {name[:60]!r} is not a tensor; {SAVE_ALONE}"
                )
            tensors.append((name, tensor))
            if len(tensors) > MAX_TENSORS:
                raise WeightsError(
                    f"{path}: not a state dict; it has over {MAX_TENSORS:,} tensors; {SAVE_ALONE}"
                )
    return dict(tensors)


class _Bounded:
    """A file for ``zipfile`` that refuses to read more at once than a directory has."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.limit = MAX_DIRECTORY
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(self.limit + 1 if size < 0 else min(size, self.limit + 1))
        if len(data) > self.limit:
            raise zipfile.BadZipFile("its directory is too large")
        return data


def _read_archive(file: IO[bytes]) -> Any:
    """Read the pickle, and the storages that it refers to."""
    size = file.seek(0, 2)
    bounded = _Bounded(file)
    with zipfile.ZipFile(bounded) as archive:
        bounded.limit = MAX_BYTES
        pickle = _checked_pickle(archive, size)
        folder = pickle.filename.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise PickleRefused("its numbers are big-endian")
        return read_tensor_pickle(
            archive.read(pickle), lambda key: archive.read(f"{folder}data/{key}"), MAX_TIMES_FILE * size
        )


def _checked_pickle(archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """Return the pickle's entry, once no entry is compressed and all are within the file's size."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise zipfile.BadZipFile("compressed entries")
    if sum(entry.file_size for entry in entries) > min(size, MAX_BYTES):
        raise zipfile.BadZipFile("entries larger than the file")
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise zipfile.BadZipFile(f"{len(pickles)} state dicts in it")
    if pickles[0].file_size > MAX_PICKLE:
        raise PickleRefused(f"its list of tensors is over {MAX_PICKLE} bytes")
    return pickles[0]
