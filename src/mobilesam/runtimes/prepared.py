"""Graphs that an earlier process prepared: optimised, and their weights laid out as the kernels read them.

That is most of what the start of a session takes. ONNX Runtime writes the result into two files; a later session
maps the weights from there, so that all processes share one copy in memory. Results are the same bit for bit.

A folder's name has all that the files depend on: weights, graph, ONNX Runtime and processor. What is damaged, or
cannot be written, is as if it were not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam.storage.atomic import atomic_folder, write_bytes
from mobilesam.weights.folders import prepared_folder
from mobilesam.weights.graph_index import GRAPHS, graph_index
from mobilesam.weights.registry import WeightsEntry

if TYPE_CHECKING:
    import onnxruntime as ort

VARIABLE = "MOBILESAM_PREPARED"  # 0: nothing is prepared, and nothing read that was
FORMAT = 1
MOST_BYTES = 100_000_000  # of a file of weights: what is prepared takes as much again
KEPT_SECONDS = 90 * 24 * 3600  # of what belongs to another ONNX Runtime or processor, too
GRAPH, NUMBERS, SUMS = "graph.onnx", "graph.data", "sums.json"
LEAST_OUTSIDE = "1024"  # bytes of a tensor that goes into the file of numbers
FIRST_PARTS = ("encoder", "decoder")  # that a model needs for its first mask
# What /proc/cpuinfo says of the first core, on x86 and on ARM, that kernels are chosen by.
CPU_INFO, MOST_LINES = Path("/proc/cpuinfo"), 100
X86_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "flags")
ARM_FIELDS = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")


@dataclass(frozen=True)
class PreparedGraphs:
    """Prepared graphs of one network with one set of published weights.

    Attributes:
        network: its name.
        checksum: of the weights' file.
        rectangular: whether the encoder takes inputs with less padding.
    """

    network: str
    checksum: str
    rectangular: bool = False

    def has_first_parts(self) -> bool:
        """Whether a model's first mask needs nothing that is not here, so that its weights need not be read."""
        folders = [self._folder(part) for part in FIRST_PARTS]
        return all(folder is not None and (folder / SUMS).is_file() for folder in folders)

    def open(self, part: str, start: Callable[[Path], ort.InferenceSession]) -> ort.InferenceSession | None:
        """Return a session of a prepared graph, or None if there is none that is whole.

        Args:
            part: name of the graph.
            start: makes a session of a graph's file, which needs no more optimising.
        """
        folder = self._folder(part)
        if folder is None or not _is_whole(folder):
            return None
        try:
            return start(folder / GRAPH)
        except Exception:  # its classes are no part of ONNX Runtime's interface
            return None

    def prepare(
        self,
        part: str,
        options: ort.SessionOptions,
        start: Callable[[ort.SessionOptions], ort.InferenceSession],
    ) -> ort.InferenceSession | None:
        """Start a session that leaves its graph prepared; return None if that cannot be written.

        Args:
            part: name of the graph.
            options: of the session; where to write is added to them.
            start: makes a session with them.
        """
        folder = self._folder(part)
        if folder is None:
            return None
        try:
            _remove_old(folder.parent.parent)
            if folder.exists():  # damaged, or it would have been opened
                shutil.rmtree(folder, ignore_errors=True)
            with atomic_folder(folder) as new:
                options.optimized_model_filepath = str(new / GRAPH)
                for name, value in (
                    ("optimized_model_external_initializers_file_name", NUMBERS),
                    ("optimized_model_external_initializers_min_size_in_bytes", LEAST_OUTSIDE),
                    ("save_external_prepacked_constant_initializers", "1"),
                ):
                    options.add_session_config_entry(f"session.{name}", value)
                session = start(options)
                sums = {name: _sum(new / name) for name in (GRAPH, NUMBERS)}
                write_bytes(new / SUMS, json.dumps(sums).encode())
            return session
        except Exception:  # a full disk, or an error that a plain start will raise again
            return None

    def _folder(self, part: str) -> Path | None:
        """Return where a graph's files are, or would be; None where the processor's kind cannot be told."""
        processor = _processor()
        if processor is None:
            return None
        index = graph_index(self.network)
        if self.rectangular:
            index = index.rectangular
        graph = hashlib.sha256((GRAPHS / index.files[part]).read_bytes()).hexdigest()
        names = " ".join(index.parts[part])
        of = "\n".join([str(FORMAT), self.checksum, graph, names, _runtime(), processor])
        return prepared_folder(self.checksum) / f"{part}-{hashlib.sha256(of.encode()).hexdigest()[:16]}"


def prepared_graphs(entry: WeightsEntry, *, rectangular: bool = False) -> PreparedGraphs | None:
    """Return an entry's prepared graphs; None for weights of the user's own, too large ones, and parts of models."""
    if os.environ.get(VARIABLE) == "0" or entry.own or entry.size > MOST_BYTES or not entry.network:
        return None
    return PreparedGraphs(entry.network, entry.sha256 or entry.git_blob, rectangular)


def _is_whole(folder: Path) -> bool:
    """Whether a folder has what was written into it, byte for byte."""
    try:
        sums = json.loads((folder / SUMS).read_bytes())
        return all(sums[name] == _sum(folder / name) for name in (GRAPH, NUMBERS))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _sum(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _runtime() -> str:
    """Return what tells this ONNX Runtime from others."""
    import onnxruntime as ort  # it takes longer to import than all else here

    return f"{ort.__version__} {ort.get_build_info()}"


@cache
def _processor() -> str | None:
    """Return what kernels and layouts of weights are chosen by, or None where the system does not say."""
    try:
        with CPU_INFO.open() as file:  # only the first core: to ask all of many takes long
            lines = list(itertools.takewhile(str.strip, itertools.islice(file, MOST_LINES)))
    except (OSError, UnicodeDecodeError):
        return None
    named = [line.strip() for line in lines if line.partition(":")[0].strip() in X86_FIELDS + ARM_FIELDS]
    known = any(line.startswith(("flags", "Features")) for line in named)
    return " ".join([platform.machine(), *named]) if known else None


def _remove_old(folder: Path) -> None:
    """Remove what was prepared long ago; what is still wanted is prepared again."""
    now = time.time()
    with contextlib.suppress(OSError):
        for path in folder.glob("*/*"):
            if now - path.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
