"""The light runtime: ONNX Runtime over the package's graphs and a checkpoint's tensors."""

from __future__ import annotations

import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

# ONNX Runtime would otherwise prepare events with a device id in the user's cache folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from mobilesam.core.arrays import Logits, NamedArrays, Pixels
from mobilesam.core.errors import ConfigError, LimitError
from mobilesam.core.text import shortened
from mobilesam.core.types import DecoderInputs
from mobilesam.core.views import REDUCED
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.prepared import PreparedGraphs
from mobilesam.runtimes.threads import session_threads
from mobilesam.weights import check_tensors
from mobilesam.weights.graph_index import GRAPHS, graph_index

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")  # what its errors then say
PROPOSALS = "proposals"  # the graph that gives boxes of objects
KEPT_BYTES = 300_000_000  # that an encoder may keep from one image to the next
KEPT_RUNS = 16  # of a graph, after which it gives back what it worked in
ERRORS_ONLY = 3  # ONNX Runtime's log level
GROWS_AS_ASKED = 1  # an arena's strategy, in place of doubling
SHARED = threading.Event()  # sessions that start work in one arena
RUNNING: weakref.WeakSet[OnnxGraphs] = weakref.WeakSet()
INHERITED: list[dict[str, ort.InferenceSession]] = []  # sessions of a parent process, never used nor ended


class OnnxGraphs:
    """A network's graphs with a checkpoint's tensors; a session starts when its graph is first run.

    Args:
        network: name of the graphs.
        weights: the checkpoint's tensors, float32; or what reads them, called when they are needed.
        device: ``cpu``, or ``cuda`` with ONNX Runtime's GPU build.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores where None.
        what: what messages call the weights.
        rectangular: whether the encoder takes inputs with less padding, see :class:`NetworkSpec`.
        prepared: graphs that an earlier process prepared for these weights, if they may be kept.

    Raises:
        ConfigError: for a device that this build of ONNX Runtime has not, or for ``rectangular`` where a network
            has no such inputs.
        WeightsError: for tensors that are not the network's.
    """

    _OF_THIS_PROCESS = ("_sessions", "_lock", "_runs")

    def __init__(
        self,
        network: str,
        weights: Weights | Callable[[], Weights],
        *,
        device: str = "cpu",
        threads: int | None = None,
        what: str = "weights",
        rectangular: bool = False,
        prepared: PreparedGraphs | None = None,
    ) -> None:
        if not isinstance(device, str) or device not in PROVIDERS:
            raise ConfigError(f"device {shortened(device)}: the onnx runtime has {', '.join(PROVIDERS)}")
        if PROVIDERS[device] not in ort.get_available_providers():
            raise ConfigError(
                f"device {device!r}: needs ONNX Runtime's GPU build; pip install onnxruntime-gpu"
            )
        index = graph_index(network)
        if rectangular:
            index = index.rectangular
        self.device = device
        self.spec = index.spec
        self._index = index
        self._prepared = prepared
        self._encoder_bytes = index.spec.working_set.image if index.spec.working_set else 0
        self._threads = session_threads(threads)
        self._read: Callable[[], Weights] | None = None
        self._tensors: Weights = {}
        if callable(weights):
            self._read = weights
        else:
            check_tensors(weights, index.tensors, what)
            self._tensors = {name: tensor for name, tensor in weights.items() if tensor.dtype == np.float32}
        self._start_over()

    @property
    def _weights(self) -> Weights:
        """The tensors, which are read when something needs them."""
        read = self._read  # another thread may set it to None
        if read is not None:
            tensors = read()
            self._tensors = {name: tensor for name, tensor in tensors.items() if tensor.dtype == np.float32}
            self._read = None
        return self._tensors

    def _run(self, part: str, feed: NamedArrays) -> NamedArrays:
        session = self._session(part)
        names = [output.name for output in session.get_outputs()]
        feed = {value.name: feed[value.name] for value in session.get_inputs()}
        try:
            return dict(zip(names, session.run(names, feed, self._run_options(part)), strict=True))
        except Exception as error:  # its classes are no part of ONNX Runtime's interface
            if any(sign in str(error) for sign in OUT_OF_MEMORY):
                raise LimitError(
                    f"{part}: not enough memory for this step; free some, or give fewer prompts"
                ) from error
            raise

    def _run_options(self, part: str) -> ort.RunOptions:
        """Let a large encoder give back what it worked in: it runs once, the decoder then many times.

        Everything else keeps it for some runs: taking it again for each image costs ``pocket`` a fifth of its time.
        But it is not kept for good. Photos of ever other shapes leave gaps in it, and where nothing fits it doubles.
        """
        options = ort.RunOptions()
        large = part == "encoder" and self._encoder_bytes > KEPT_BYTES
        if self.device == "cpu" and (large or next(self._runs[part]) % KEPT_RUNS == 0):
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the tensors; the copy starts sessions of its own."""
        _ = self._weights  # the copy may be where their file is not
        return {key: value for key, value in vars(self).items() if key not in self._OF_THIS_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_over()

    def _start_over(self) -> None:
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._runs: defaultdict[str, count[int]] = defaultdict(partial(count, 1))
        self._lock = threading.Lock()
        RUNNING.add(self)

    def _after_fork(self) -> None:
        """In the child: the sessions' threads stayed behind, and the lock may be held by one of them."""
        INHERITED.append(self._sessions)  # ending them would wait for those threads
        self._start_over()

    def _session(self, part: str) -> ort.InferenceSession:
        with self._lock:
            if part not in self._sessions:
                self._sessions[part] = self._start(part)
            return self._sessions[part]

    def _start(self, part: str) -> ort.InferenceSession:
        session = None
        if self._prepared is not None:
            session = self._prepared.open(part, self._start_prepared)
            session = session or self._prepared.prepare(part, self._options(), partial(self.start, part))
        return session or self.start(part, self._options())

    def _start_prepared(self, graph: Path) -> ort.InferenceSession:
        options = self._options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(graph, options, providers=[PROVIDERS[self.device]])

    def _options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        # A plan of the memory for one batch would be kept beside those for batches of other sizes, for no speed.
        options.enable_mem_pattern = False
        # A session's threads would go on spinning after a run, on the cores that the next one needs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if SHARED.is_set():
            options.add_session_config_entry("session.use_env_allocators", "1")
        options.intra_op_num_threads = self._threads
        return options

    def start(self, part: str, options: ort.SessionOptions) -> ort.InferenceSession:
        """Join a graph with its tensors; ONNX Runtime then optimises the two together.

        Args:
            part: name of the graph.
            options: of the session; the tensors are added to them.

        Raises:
            ConfigError: if the device cannot be used.
        """
        names = list(self._index.parts[part])
        values = [ort.OrtValue.ortvalue_from_numpy(self._weights[name]) for name in names]
        options.add_external_initializers(names, values)
        path = GRAPHS / self._index.files[part]
        session = ort.InferenceSession(path, options, providers=[PROVIDERS[self.device]])
        if session.get_providers()[0] != PROVIDERS[self.device]:  # it falls back without a word
            raise ConfigError(f"device {self.device!r}: ONNX Runtime cannot use it here; check its driver")
        return session


def share_memory() -> None:
    """Let sessions that start from now on work in one arena, which grows by what it is asked for.

    Each would otherwise have an arena of its own, which doubles. With 60 photos of random shapes, prompts and three
    searches, a process had 173 to 300 MB instead of 231 to 326; an image took 9 % more time (busy machine).
    """
    if SHARED.is_set():  # ONNX Runtime takes one arena for each device
        return
    cpu = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    usual = {"max_mem": 0, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(cpu, ort.OrtArenaCfg(usual | {"arena_extend_strategy": GROWS_AS_ASKED}))
    SHARED.set()


def profiling_options(prefix: Path, threads: int) -> ort.SessionOptions:
    """Return options of a session that runs a graph node by node and tells of each in a file that begins so."""
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    # A node's weights that were packed beforehand are not among the inputs that the file tells.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.profile_file_prefix = str(prefix)
    options.intra_op_num_threads = threads
    return options


def _after_fork() -> None:
    for graphs in list(RUNNING):
        graphs._after_fork()


if hasattr(os, "register_at_fork"):  # where processes fork at all
    os.register_at_fork(after_in_child=_after_fork)


class OnnxRuntime(OnnxGraphs):
    """See :class:`mobilesam.runtimes.base.Runtime`; the arguments are those of :class:`OnnxGraphs`."""

    name = "onnx"
    batches_images = False

    def encode(self, pixels: Pixels) -> NamedArrays:
        arrays = self._run("encoder", {"pixels": pixels})
        if "prepare" in self._index.parts:
            arrays |= self._run("prepare", {"image_embedding": arrays["image_embedding"]})
        if SHARED.is_set():  # what lies in the arena would keep all of its memory around it for as long
            arrays = {name: array.copy() for name, array in arrays.items()}
        return arrays

    def decode(
        self, arrays: NamedArrays, inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Logits, np.ndarray]:
        part = "decoder" if inputs.mask_input is None else "decoder_mask"

        def decode_view(shown: NamedArrays, inputs: DecoderInputs) -> tuple[Logits, np.ndarray]:
            return self._decode_view(part, shown, inputs, mask_tokens)

        views = self.spec.views
        if views is None:
            return decode_view(arrays, inputs)
        read = {value.name for value in self._session(part).get_inputs()}
        arrays = {name: array for name, array in arrays.items() if name.removeprefix(REDUCED) in read}
        return views.decode(arrays, inputs, decode_view, partial(np.full, dtype=np.float32), np.concatenate)

    def _decode_view(
        self, part: str, arrays: NamedArrays, inputs: DecoderInputs, mask_tokens: Sequence[int]
    ) -> tuple[Logits, np.ndarray]:
        feed = arrays | {
            "point_coords": inputs.point_coords,
            "point_labels": inputs.point_labels,
            "mask_tokens": np.asarray(mask_tokens, np.int64),
        }
        if inputs.mask_input is not None:
            feed["mask_input"] = inputs.mask_input
        out = self._run(part, feed)
        return out["low_res_masks"], out["iou_predictions"]

    def propose(self, arrays: NamedArrays) -> tuple[np.ndarray, np.ndarray]:
        out = self._run(PROPOSALS, arrays)
        return out["boxes"][0], out["objectness"][0]


class OnnxDetector(OnnxGraphs):
    """A detector of objects by itself; the arguments are those of :class:`OnnxGraphs`."""

    def propose(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (N, 4) xyxy in pixels of the input, and how likely each holds an object (N,)."""
        out = self._run(PROPOSALS, {"pixels": pixels})
        return out["boxes"][0], out["objectness"][0]


def open_runtime(
    network: str,
    weights: Weights | Callable[[], Weights],
    *,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    what: str = "weights",
    rectangular: bool = False,
    prepared: PreparedGraphs | None = None,
) -> OnnxRuntime:
    """Return a runtime; see :func:`mobilesam.runtimes.load.load_runtime`."""
    if dtype not in (None, "float32"):
        raise ConfigError(f"dtype {dtype!r}: the onnx runtime has float32; pass runtime='torch' for others")
    return OnnxRuntime(
        network,
        weights,
        device=device or "cpu",
        threads=threads,
        what=what,
        rectangular=rectangular,
        prepared=prepared,
    )
