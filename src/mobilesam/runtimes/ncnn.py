"""ncnn, for phones and small machines, over files of ``mobilesam export ncnn`` (an extra).

ncnn runs the encoder and the decoder. What lies around the decoder, embedding a prompt and a look at its masks, is
small, and ONNX Runtime runs it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
import onnxruntime as ort

from mobilesam.core.arrays import NamedArrays
from mobilesam.core.errors import WeightsError
from mobilesam.runtimes.fixed import DECODER, WINDOW_DECODER
from mobilesam.runtimes.fixed_files import FilesRuntime, Part, read_part
from mobilesam.runtimes.onnx import ERRORS_ONLY
from mobilesam.runtimes.threads import session_threads

SUFFIXES = (".ncnn.bin", ".ncnn.param")  # in the order of their names
BEFORE, AFTER = "ask", "finish"  # a decoder's parts for ONNX Runtime: decoder_ask, decoder_finish


class NcnnRuntime(FilesRuntime):
    """See :class:`mobilesam.runtimes.base.Runtime`.

    Args:
        folder: where the files lie.
        network: whose.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores where None.
    """

    name = "ncnn"

    def __init__(self, folder: Path, network: str, *, threads: int | None = None) -> None:
        super().__init__(folder, network)
        self._threads = session_threads(threads) or os.cpu_count() or 1
        self._started: dict[str, Any] = {}

    def run(self, part: str, feed: NamedArrays) -> NamedArrays:
        if part not in (DECODER, WINDOW_DECODER):
            return self._run_ncnn(part, feed)
        asked = self._run_onnx(f"{part}_{BEFORE}", feed)
        drawn = self._run_ncnn(part, feed | asked)
        return self._run_onnx(f"{part}_{AFTER}", feed | drawn)

    def _run_ncnn(self, part: str, feed: NamedArrays) -> NamedArrays:
        about = self._index.parts[part]
        extractor = self._net(part, about).create_extractor()
        # Nobody keeps the memory of what is given: it has to stay until the end.
        arrays = [np.ascontiguousarray(feed[name][0]) for name in about.inputs]
        given = [ncnn.Mat(array).clone() for array in arrays]
        for number, matrix in enumerate(given):
            extractor.input(f"in{number}", matrix)
        found = {}
        for number, (name, shape) in enumerate(about.outputs.items()):
            status, matrix = extractor.extract(f"out{number}")
            if status != 0:
                raise WeightsError(f"{self._folder}: ncnn cannot run its {part}; export again")
            found[name] = np.array(matrix).reshape(shape)
        del given
        return found

    def _run_onnx(self, part: str, feed: NamedArrays) -> NamedArrays:
        about = self._index.parts[part]
        session = self._session(part, about)
        found = session.run(list(about.outputs), {name: feed[name] for name in about.inputs})
        return dict(zip(about.outputs, found, strict=True))

    def _net(self, part: str, about: Part) -> Any:
        with self._lock:
            if part not in self._started:
                read_part(self._folder, about)  # checks them
                net = ncnn.Net()
                net.opt.num_threads = self._threads
                net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
                net.opt.use_bf16_storage = False
                binary, param = (str(self._folder / name) for name in about.files)
                if net.load_param(param) != 0 or net.load_model(binary) != 0:
                    raise WeightsError(f"{param}: ncnn cannot read it; export again")
                self._started[part] = net
            return self._started[part]

    def _session(self, part: str, about: Part) -> ort.InferenceSession:
        with self._lock:
            if part not in self._started:
                (data,) = read_part(self._folder, about)
                options = ort.SessionOptions()
                options.log_severity_level = ERRORS_ONLY
                options.intra_op_num_threads = self._threads
                self._started[part] = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            return self._started[part]


def open_files(folder: Path, network: str, *, threads: int | None = None) -> NcnnRuntime:
    """Return a runtime; see :func:`mobilesam.runtimes.load.load_runtime`."""
    return NcnnRuntime(folder, network, threads=threads)
