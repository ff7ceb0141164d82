"""Embeddings kept in a folder, so that an image is encoded once and can be asked about on any later day.

Each image has a file of its own, named after what its embedding depends on: the pixels as the network sees them,
which include the preprocessing, and the network with its weights. So nothing in the folder is ever out of date.

Values are rounded to float16, even the first time, so a result never depends on what happens to be kept.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mobilesam.core.arrays import NamedArrays, Pixels, sum_of_tensors
from mobilesam.core.errors import ConfigError
from mobilesam.core.text import shortened
from mobilesam.storage.atomic import check_folder, write_bytes

ENDING = ".safetensors"
SUM = "sha256"  # key of the arrays' checksum in a file's metadata


class KeptEmbeddings:
    """A folder of embeddings from one network with its weights; other networks may share the folder.

    Args:
        folder: made if need be.
        of: what tells the network and its weights from others.

    Raises:
        ConfigError: if the folder is not a path, or is a file.
    """

    def __init__(self, folder: str | Path, of: str) -> None:
        if not isinstance(folder, str | Path) or not str(folder):
            raise ConfigError(f"embeddings: is {shortened(folder)}; must be the path of a folder")
        self.folder = Path(folder)
        if os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise ConfigError(f"embeddings: {self.folder} is a file; name a folder")
        self._of = of

    def path(self, pixels: Pixels) -> Path:
        """Return where the embedding of an image is, or would be.

        Args:
            pixels: (1, 3, h, w) as the network sees them.
        """
        key = hashlib.sha256(f"{self._of} {pixels.shape}\n".encode())
        key.update(np.ascontiguousarray(pixels).data)
        name = key.hexdigest()
        return self.folder / name[:2] / (name + ENDING)

    def read(self, path: Path) -> NamedArrays | None:
        """Return the arrays (float32) of a file; None if there is none, or if it is damaged."""
        if not os.path.isfile(path):  # a pipe would be waited for
            return None
        try:
            with safe_open(path, "numpy") as file:
                wanted = (file.metadata() or {}).get(SUM)
                arrays = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError):
            return None
        return widened(arrays) if sum_of_tensors(arrays) == wanted else None

    def make_room(self, path: Path) -> None:
        """See that a file can be written, before an image is encoded for it.

        Raises:
            OutputError: if its folder cannot be made or written to.
        """
        check_folder(path.parent)

    def write(self, path: Path, arrays: NamedArrays) -> NamedArrays:
        """Keep arrays, and return them rounded, as they will be read.

        Raises:
            OutputError: if they cannot be written.
        """
        narrow = {name: rounded(array) for name, array in arrays.items()}
        write_bytes(path, save(narrow, {SUM: sum_of_tensors(narrow)}))
        return widened(narrow)


def rounded(array: np.ndarray) -> np.ndarray:
    """Return an array as float16, or as it is if float16 cannot hold its values."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float16)
    return narrow if np.isfinite(narrow).all() else array


def widened(arrays: NamedArrays) -> NamedArrays:
    """Return arrays as float32."""
    return {name: array.astype(np.float32) for name, array in arrays.items()}
