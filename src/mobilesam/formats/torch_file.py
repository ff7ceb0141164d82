"""Read a PyTorch checkpoint into NumPy arrays: no PyTorch, and no code out of the file.

A ``.pt`` file is a zip archive with a pickle that only says which tensors there are,
and one uncompressed entry of raw numbers for each. The pickle is read by an
interpreter that knows tensors, ordered dictionaries and parameters, and refuses
everything else.
"""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.errors import WeightsError

MAX_BYTES = 4 * 2**30
MAX_ENTRIES = 10_000
WRAPPERS = ("model", "state_dict", "model_state_dict")
# Storage classes that a checkpoint may name. bfloat16 is widened below: NumPy has none.
STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "ByteStorage": np.dtype("u1"),
    "CharStorage": np.dtype("i1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class _StorageType:
    name: str


class _Unpickler(pickle.Unpickler):
    """A pickle reader that can build tensors and nothing else."""

    def __init__(self, data: bytes, storages: dict[str, bytes]) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in STORAGES:
            return _StorageType(name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no state dict needs")

    def persistent_load(self, reference: Any) -> np.ndarray:
        kind, storage_type, key, _, _ = reference
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError("it refers to something that is not a tensor's storage")
        array = np.frombuffer(self.storages[str(key)], STORAGES[storage_type.name])
        if storage_type.name == "BFloat16Storage":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array


def _rebuild_tensor(
    storage: np.ndarray, offset: int, size: tuple, stride: tuple, *ignored: Any
) -> np.ndarray:
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    if offset < 0 or min(size, default=0) < 0 or min(stride, default=0) < 0 or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor's shape is not valid")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= len(storage) or int(np.prod(size, dtype=object)) > len(storage):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], size, [step * storage.itemsize for step in stride], writeable=False
    )
    return np.array(view, order="C")


def _rebuild_parameter(data: np.ndarray, *ignored: Any) -> np.ndarray:
    return data


def read_torch_file(path: str | Path, data: bytes | None = None) -> dict[str, np.ndarray]:
    """Return the tensors of a checkpoint by name.

    The dictionaries that training programs put around a state dict are opened
    (``model``, ``state_dict``).

    Args:
        path: the file, also for messages.
        data: its bytes, if they were read already.

    Raises:
        WeightsError: if the file is damaged, is not a state dict, or would run code.
    """
    path = Path(path)
    if data is None:
        data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickled, storages = _read_entries(archive, len(data))
        content = _Unpickler(pickled, storages).load()
    except WeightsError:
        raise
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path}: damaged, or not a PyTorch checkpoint; get it again") from error
    except Exception as error:  # whatever a hostile pickle can make its reader raise
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not a plain state dict ({reason}); it was not loaded") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: holds no state dict; give a file of named tensors")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise WeightsError(f"{path}: not a state dict; entry {str(name)[:60]!r} is no tensor")
    return dict(content)


def _read_entries(archive: zipfile.ZipFile, size: int) -> tuple[bytes, dict[str, bytes]]:
    """Read the pickle and the storages, none of them compressed, all within the file's size."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise WeightsError(f"{len(entries)} entries in the archive; at most {MAX_ENTRIES} are allowed")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise zipfile.BadZipFile("compressed entries")
    if sum(entry.file_size for entry in entries) > min(size, MAX_BYTES):
        raise zipfile.BadZipFile("entries larger than the file")
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise zipfile.BadZipFile("no single pickle")
    prefix = pickles[0].filename.removesuffix("data.pkl") + "data/"
    storages = {
        entry.filename.removeprefix(prefix): archive.read(entry)
        for entry in entries
        if entry.filename.startswith(prefix)
    }
    return archive.read(pickles[0]), storages
