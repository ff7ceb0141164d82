"""How many multiplications a network does, counted node by node from what its ONNX graphs ran.

ONNX Runtime reports the shapes of each node's inputs and outputs when it profiles a run. Its own optimisations
are off, so the nodes are those of the graph. Operators that multiply and add are counted: convolutions, matrix
products and the like. What is done once for each number (norms, activations, softmax) is left out, as usual.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mobilesam.core.arrays import NamedArrays, Pixels
from mobilesam.core.types import MULTIMASK, DecoderInputs
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import OnnxRuntime, profiling_options

Shape = Sequence[int]
COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "FusedConv", "FusedMatMul")


class CountingRuntime(OnnxRuntime):
    """Runs a network and remembers what its graphs were given."""

    def __init__(self, network: str, weights: Weights, *, threads: int | None = None) -> None:
        super().__init__(network, weights, threads=threads)
        self.calls: list[tuple[str, NamedArrays]] = []

    def _run(self, part: str, feed: NamedArrays) -> NamedArrays:
        self.calls.append((part, feed))
        return super()._run(part, feed)

    def macs(self) -> int:
        """Return the multiplications of all calls since the last time, and start counting again."""
        calls, self.calls = self.calls, []
        total = 0
        for part in dict.fromkeys(part for part, _ in calls):
            total += self._macs_of(part, [feed for name, feed in calls if name == part])
        return total

    def _macs_of(self, part: str, feeds: Sequence[NamedArrays]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            session = self.start(part, profiling_options(Path(folder) / "run", self._threads))
            names = [value.name for value in session.get_inputs()]
            for feed in feeds:
                session.run(None, {name: feed[name] for name in names})
            return count_profile(Path(session.end_profiling()))


def network_macs(
    network: str, weights: Weights, pixels: Pixels, inputs: DecoderInputs, *, threads: int | None = None
) -> dict[str, int]:
    """Return the multiplications of the encoder for an image, and of the decoder for prompts (three masks each)."""
    runtime = CountingRuntime(network, weights, threads=threads)
    arrays = runtime.encode(pixels)
    counts = {"encoder": runtime.macs()}
    runtime.decode(arrays, inputs, MULTIMASK)
    return counts | {"decoder": runtime.macs()}


def count_profile(path: Path) -> int:
    """Return the multiplications of the runs in a profile that ONNX Runtime wrote."""
    total = 0
    for event in json.loads(path.read_text(encoding="utf-8")):
        arguments = event.get("args", {})
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        if arguments.get("op_name") in COUNTED:
            shapes: list[list[Shape]] = [
                [next(iter(one.values()), []) for one in arguments[side]]
                for side in ("input_type_shape", "output_type_shape")
            ]
            total += node_macs(arguments["op_name"], shapes[0], shapes[1][0])
    return total


def node_macs(operator: str, inputs: Sequence[Shape], output: Shape) -> int:
    """Return the multiplications of one node.

    Args:
        operator: such as ``Conv``.
        inputs: shapes of its inputs, the weights second.
        output: shape of its output.

    Example:
        >>> node_macs("Conv", [[1, 3, 8, 8], [16, 3, 3, 3]], [1, 16, 8, 8])
        27648
        >>> node_macs("MatMul", [[2, 5, 7], [7, 11]], [2, 5, 11])
        770
        >>> node_macs("ConvTranspose", [[1, 4, 8, 8], [4, 2, 2, 2]], [1, 2, 16, 16])
        2048
        >>> node_macs("Gemm", [[7, 5], [7, 11]], [5, 11])
        385
    """
    if operator in ("Conv", "FusedConv"):
        return math.prod(output) * math.prod(inputs[1][1:])
    if operator == "ConvTranspose":
        return math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if operator == "Gemm":
        return math.prod(output) * (math.prod(inputs[0]) // max(1, output[0]))
    return math.prod(output) * (inputs[0][-1] if inputs[0] else 1)
