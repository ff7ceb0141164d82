"""How files of weights are read and checked. They count as hostile until proven otherwise."""

from __future__ import annotations

import io
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from mobilesam.core.errors import ConfigError, WeightsError
from mobilesam.core.text import printable
from mobilesam.core.version import __version__
from mobilesam.weights.checksum import is_published
from mobilesam.weights.folders import how_to_get, weights_path
from mobilesam.weights.hugging_face import sam_model_to_sam
from mobilesam.weights.onnx_graph import is_onnx
from mobilesam.weights.recognition import describe_mismatch, recognise_network, shared_prefix
from mobilesam.weights.registry import ENTRIES, WeightsEntry
from mobilesam.weights.torch_file import MAX_BYTES, is_old_torch_file, read_torch_file

MAX_HEADER = 2**20  # of a safetensors file; one of SAM ViT-H has 70 KB
# The dictionaries in MobileSAMv2's decoder file, as it spells them, and where they belong.
DECODER_PARTS = {"PromtEncoder": "prompt_encoder", "MaskDecoder": "mask_decoder"}
START = 512  # bytes that show a file's format
LISTED, MAX_LIST = 5, 110  # tensors that a message names at most, and its characters for them
NEEDS_KEY = "mobilesam_needs"  # in a safetensors file's metadata: the first version that can read it
FORMAT_SINCE = "0.1"  # the version of this package that first reads what it writes now
VERSION_PARTS = re.compile(r"(\d{1,6})\.(\d{1,6})")


def read_weights(
    entry: WeightsEntry,
    checkpoint: str | Path | None = None,
    decoder: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Read an entry's tensors as float32 arrays, by their names in the checkpoint.

    Args:
        entry: which weights. Their own file must have the published checksum: the bytes that are
            hashed are the bytes that are read.
        checkpoint: another ``.pt`` or ``.safetensors`` file for the same network; its
            content is checked but not its checksum.
        decoder: MobileSAMv2's ``prompt_guided_decoder``, or a file in that format, instead of
            the checkpoint's own decoder.

    Raises:
        ConfigError: if the entry is only a part of a model.
        WeightsError: if the file is missing, damaged, or holds numbers that are not finite.
    """
    if not entry.network:
        advice = "; give it as detector of another" if entry.detector else ""
        raise ConfigError(f"model {entry.name!r}: is not a whole model ({entry.about}){advice}")
    tensors = _read_published(entry) if checkpoint is None else read_tensors(checkpoint)
    if decoder is None:
        return tensors
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith("image_encoder.")}
    return encoder | read_decoder(decoder)


def read_detector(entry: WeightsEntry, checkpoint: str | Path | None = None) -> dict[str, np.ndarray]:
    """Read the tensors of a detector of objects; the arguments are those of :func:`read_weights`.

    Raises:
        WeightsError: if the file is missing, damaged or, without a checkpoint, not the published one.
    """
    return _read_published(entry) if checkpoint is None else read_tensors(checkpoint)


def read_decoder(decoder: str | Path) -> dict[str, np.ndarray]:
    """Read MobileSAMv2's prompt encoder and mask decoder by their names in a whole checkpoint.

    Args:
        decoder: the name of its entry, or the path of a file in that format.

    Raises:
        WeightsError: if the file is missing or damaged, or holds anything else.
    """
    named, path = ENTRIES.get(str(decoder)), decoder_path(decoder)
    tensors = read_tensors(decoder) if named is None else _read_published(named)
    renamed = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in DECODER_PARTS:
            raise WeightsError(
                f"{path}: holds {printable(name[:80])}; MobileSAMv2's decoder has {', '.join(DECODER_PARTS)}"
            )
        renamed[f"{DECODER_PARTS[part]}.{rest}"] = tensor
    return renamed


def decoder_path(decoder: str | Path) -> Path:
    """Return the file of MobileSAMv2's decoder, by the name of its entry or by its path."""
    named = ENTRIES.get(str(decoder))
    return Path(decoder) if named is None else weights_path(named)


def check_published(entry: WeightsEntry) -> None:
    """Check the checksum of an entry's own file, without reading its tensors.

    Raises:
        WeightsError: if the file is missing, or another.
    """
    path = weights_path(entry)
    with open_weights(path, how_to_get(entry)) as file:
        if not (may_be(entry, file) and is_published(file, entry)):
            raise not_published(path, entry)


def _read_published(entry: WeightsEntry) -> dict[str, np.ndarray]:
    """Read an entry's own file, if it has the published checksum."""
    path = weights_path(entry)
    with open_weights(path, how_to_get(entry)) as file:
        whole = io.BytesIO(file.read() if may_be(entry, file) else b"")
    if not is_published(whole, entry):
        raise not_published(path, entry)
    return _tensors(path, whole)


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read a ``.safetensors`` or PyTorch file; floating-point tensors become float32.

    Raises:
        WeightsError: if the file is missing or damaged, would run code, or holds what no network has.
    """
    path = Path(path)
    advice = "give the path of a .pt or .safetensors file"
    published = [entry.name for entry in ENTRIES.values() if entry.file == path.name and not entry.shipped]
    if published:
        advice += (
            f", or fetch it: mobilesam weights pull {published[0]}, and mobilesam weights path {published[0]}"
        )
    with open_weights(path, advice) as file:
        return _tensors(path, file)


def network_of_file(path: str | Path) -> str:
    """Return the network whose weights a file holds, from what it says itself or by its tensors' names and shapes.

    Raises:
        WeightsError: if the file is missing, damaged or of no known network.
    """
    path = Path(path)
    found = ""
    if path.suffix == ".safetensors":
        with open_weights(path, "give the path of a .pt or .safetensors file") as file:
            shapes = _safetensors_shapes(path, file)
        start = len(shared_prefix(shapes))
        found = recognise_network({name[start:]: shape for name, shape in shapes.items()})
    if not found:  # a PyTorch file, or other names
        found = recognise_network({name: tensor.shape for name, tensor in read_tensors(path).items()})
    if not found:
        raise WeightsError(f"{path}: holds weights of no known network; mobilesam info lists the models")
    return found


def _safetensors_shapes(path: Path, file: IO[bytes]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an open file's tensors, from its header alone."""
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        header = int.from_bytes(file.read(8), "little")
        if header > min(size - 8, MAX_HEADER):
            raise ValueError
        described = json.loads(file.read(header))
        return {
            name: tuple(map(int, one["shape"])) for name, one in described.items() if name != "__metadata__"
        }
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged, or not a safetensors file") from error


def open_weights(path: Path, advice: str, most: int = MAX_BYTES) -> IO[bytes]:
    """Open a file of weights; folders, pipes and devices are refused without waiting for them.

    Args:
        path: the file.
        advice: what to do if it is not there.
        most: greatest number of bytes that it may have.

    Raises:
        WeightsError: if there is no such file, it cannot be read, or it is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise WeightsError(f"{path}: not found; {advice}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); {advice}") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= most:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"{path}: is not a file; {advice}")
    raise WeightsError(f"{path}: has {status.st_size:,} bytes, files up to {most:,} are read; {advice}")


def may_be(entry: WeightsEntry, file: IO[bytes]) -> bool:
    """Whether an open file has a size that an entry's file can have, so that a checksum is worth computing."""
    size = os.fstat(file.fileno()).st_size
    return entry.shipped or size == entry.size or (entry.rounded and size <= entry.largest)


def not_published(path: Path, entry: WeightsEntry) -> WeightsError:
    """Return the error for a file whose checksum is not the published one."""
    kind = entry.checksum.partition(":")[0]
    return WeightsError(f"{path}: is not the published file (its {kind} differs); {how_to_get(entry)}")


def _tensors(path: Path, file: IO[bytes]) -> dict[str, np.ndarray]:
    """Read the tensors of an open file in either format, and check that they are numbers."""
    file.seek(0)
    start = file.read(START)
    if start.startswith(b"PK"):
        tensors = read_torch_file(path, file)
    elif path.suffix == ".safetensors":
        tensors = _read_safetensors(path, file)
    elif is_old_torch_file(start):
        raise WeightsError(
            f"{path}: PyTorch's form before 1.6; convert it: "
            "torch.save(torch.load(OLD, weights_only=True), NEW)"
        )
    elif path.suffix == ".onnx" or is_onnx(start):
        raise WeightsError(
            f"{path}: is an ONNX file; weights are a .pt or .safetensors file, and their graphs are in the package"
        )
    else:
        raise WeightsError(f"{path}: neither a PyTorch checkpoint (zip form) nor a .safetensors file")
    tensors = sam_model_to_sam(tensors, str(path))
    prefix = shared_prefix({name: tensor.shape for name, tensor in tensors.items()})
    return _as_float32(path, {name[len(prefix) :]: tensor for name, tensor in tensors.items()})


def _read_safetensors(path: Path, file: IO[bytes]) -> dict[str, np.ndarray]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = int.from_bytes(file.read(8), "little")
    if header > min(size - 8, MAX_HEADER):
        raise WeightsError(
            f"{path}: damaged, or not a safetensors file (its header would have {header} bytes)"
        )
    try:
        described = json.loads(file.read(header), object_pairs_hook=_without_repeats)
        _check_version(path, described)
        file.seek(0)
        return load_safetensors(file.read())
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        reason = printable(str(error)[:100]) or type(error).__name__
        raise WeightsError(f"{path}: damaged, or not a safetensors file ({reason})") from error


def _check_version(path: Path, header: Any) -> None:
    """Check that a safetensors file is not one that only a later version of the package can read."""
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    needs = metadata.get(NEEDS_KEY) if isinstance(metadata, dict) else None
    if needs is None:
        return
    wanted = VERSION_PARTS.match(needs) if isinstance(needs, str) else None
    if wanted is None or _version(wanted) > _version(VERSION_PARTS.match(__version__)):
        raise WeightsError(
            f"{path}: needs mobilesam >= {printable(str(needs)[:20])}, this is {__version__}; "
            "pip install --upgrade mobilesam"
        )


def _version(match: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(part) for part in match.groups()) if match else ()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dictionary without repeats; the library would take the last of several tensors of one name."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name comes twice")
    return dict(pairs)


def _as_float32(path: Path, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return floating-point tensors as float32, checked to be finite, and counters as they are."""
    for name, tensor in tensors.items():
        shown = f"{path}: tensor {printable(name[:80])}"
        if tensor.ndim and tensor.dtype.kind != "f":
            raise WeightsError(f"{shown} has numbers of type {tensor.dtype}; give floating-point weights")
        if tensor.dtype.kind == "f":
            with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is reported
                tensors[name] = np.asarray(tensor, np.float32, order="C")
            if not np.isfinite(tensors[name]).all():
                count = int((~np.isfinite(tensors[name])).sum())
                raise WeightsError(f"{shown} has {count} values that are not finite; get it again")
    if all(tensor.min() == tensor.max() for tensor in tensors.values() if tensor.size > 1):
        raise WeightsError(f"{path}: every tensor is constant; these are not trained weights")
    return tensors


def check_tensors(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Check that ``tensors`` are exactly those of a network.

    Args:
        tensors: by name in the checkpoint.
        shapes: the network's shapes.
        what: what messages call the tensors.

    Raises:
        WeightsError: says which network's weights they are, or names the first tensors that are
            missing, unexpected or of another shape, and how many there are.
    """
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if given == {name: tuple(shape) for name, shape in shapes.items()}:
        return
    found, wanted = recognise_network(given), recognise_network(shapes)
    if found and found != wanted:
        raise WeightsError(f"{what}: {describe_mismatch(found, wanted)}")
    missing = [name for name in shapes if name not in tensors]
    unexpected = [name for name in tensors if name not in shapes]
    if missing or unexpected:
        lists = [(word, names) for word, names in (("lacks", missing), ("also has", unexpected)) if names]
        parts = [f"{word} {_first_of(names, MAX_LIST // len(lists))}" for word, names in lists]
        raise WeightsError(f"{what}: not the weights of this network: {'; '.join(parts)}")
    other = [
        f"{name} {_sides(tensors[name].shape)}/{_sides(shape)}"
        for name, shape in shapes.items()
        if tuple(tensors[name].shape) != tuple(shape)
    ]
    if other:
        count = f"{len(other)} of {len(shapes)} tensors"
        raise WeightsError(f"{what}: {count} have other shapes (here/wanted): {_first_of(other)}")


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _first_of(names: Sequence[str], room: int = MAX_LIST) -> str:
    """Return as many names as fit into a line, and how many more there are."""
    shown = 1
    while shown < min(len(names), LISTED) and len(", ".join(names[: shown + 1])) <= room:
        shown += 1
    more = f" (and {len(names) - shown} more)" if shown < len(names) else ""
    return printable(", ".join(names[:shown])[:room]) + more


def shipped_metadata(entry: WeightsEntry) -> dict[str, str]:
    """Return the metadata in a shipped file's header: recipe, data, terms and scores."""
    with weights_path(entry).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)).get("__metadata__", {})
