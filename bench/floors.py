"""How near each network comes to what the processor can do: ``python bench/floors.py``.

The floor is arithmetic: twice a graph's multiplications (counted node by node) divided by the machine's peak. The peak
is the fastest of a matrix product and of a convolution, measured between the networks, on one thread. Times are of one
thread, too: medians of runs in turns, so that a busy moment hits all. Prints a table in Markdown, and the machine.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from skimage import data

from mobilesam.benchmark.macs import CountingRuntime
from mobilesam.benchmark.systems import open_system
from mobilesam.core.arrays import Pixels
from mobilesam.core.machine import machine, versions
from mobilesam.core.preprocess import preprocess
from mobilesam.core.types import MULTIMASK, SINGLE_MASK, DecoderInputs
from mobilesam.runtimes.onnx import ERRORS_ONLY, OnnxRuntime

MODELS = ("pocket", "mobile_sam", "efficientvit_sam_l0", "efficientvit_sam_l2")
SIDE = 1024  # of the square matrices
CHANNELS, MAP = 256, 64  # of the convolution, 3 x 3
ROUNDS = 9
EIGHT = 8


@dataclass
class Row:
    """One part of a network, or of the peak.

    Attributes:
        name: what the table calls it.
        macs: multiplications of a run.
        run: what is timed.
        times: seconds of each run.
    """

    name: str
    macs: int
    run: Callable[[], object]
    times: list[float] = field(default_factory=list)

    @property
    def gigaflops(self) -> float:
        """Additions and multiplications a second, in thousand millions, in the median run."""
        return 2e-9 * self.macs / float(np.median(self.times))

    def measure(self) -> None:
        """Time one run: in seconds of the processor, of which other programs take none."""
        start = time.process_time()
        self.run()
        self.times.append(time.process_time() - start)


def session_of(
    node: str, inputs: dict[str, list[int]], output: list[int], **attributes: object
) -> Callable[[], object]:
    """Return a run of one ONNX node on random numbers."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    found = helper.make_tensor_value_info("out", TensorProto.FLOAT, output)
    graph = helper.make_graph(
        [helper.make_node(node, list(inputs), ["out"], **attributes)], node, values, [found]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = ERRORS_ONLY, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {name: rng.standard_normal(shape, np.float32) for name, shape in inputs.items()}
    return lambda: session.run(None, feed)


def peaks() -> list[Row]:
    """Return a matrix product and a convolution, as large as those of networks."""
    product = session_of("MatMul", {"a": [SIDE, SIDE], "b": [SIDE, SIDE]}, [SIDE, SIDE])
    shape = [1, CHANNELS, MAP, MAP]
    convolution = session_of("Conv", {"x": shape, "w": [CHANNELS, CHANNELS, 3, 3]}, shape, pads=[1, 1, 1, 1])
    return [
        Row("a matrix product", SIDE**3, product),
        Row("a convolution", 9 * CHANNELS**2 * MAP**2, convolution),
    ]


def parts(name: str, image: np.ndarray) -> list[Row]:
    """Return a model's encoder, a point with three masks, a box, and eight boxes."""
    system = open_system(name)
    counting = CountingRuntime(system.network, system.weights, threads=1)
    runtime = OnnxRuntime(system.network, system.weights, threads=1)
    pixels: Pixels = preprocess(image, runtime.spec)
    arrays = runtime.encode(pixels)
    side = runtime.spec.prompt_size
    point = DecoderInputs(np.full((1, 2, 2), side / 2, np.float32), np.array([[1, -1]], np.float32))
    boxes = np.array([[[0.2, 0.2], [0.6, 0.7]]], np.float32) * side
    corners = np.array([[2, 3]], np.float32)
    box = DecoderInputs(boxes, corners)
    eight = DecoderInputs(np.repeat(boxes, EIGHT, 0), np.repeat(corners, EIGHT, 0))
    rows = []
    for what, run in (
        ("encoder", lambda runtime: runtime.encode(pixels)),
        ("point, three masks", lambda runtime: runtime.decode(arrays, point, MULTIMASK)),
        ("box", lambda runtime: runtime.decode(arrays, box, SINGLE_MASK)),
        ("each of eight boxes", lambda runtime: runtime.decode(arrays, eight, SINGLE_MASK)),
    ):
        run(counting)
        rows.append(Row(f"`{name}`, {what}", counting.macs(), lambda run=run: run(runtime)))
    return rows


def table(rows: list[Row], peak: float) -> str:
    """Return the rows in Markdown, with the floor of each."""
    lines = ["| | GMAC | floor, ms | median, ms (fastest, slowest) | by floor |", "|---|---|---|---|---|"]
    for row in rows:
        share = EIGHT if "eight" in row.name else 1
        floor = 2e-6 * row.macs / peak / share
        median, least, most = (1000 * f(row.times) / share for f in (np.median, min, max))
        lines.append(
            f"| {row.name} | {row.macs / share / 1e9:.2f} | {floor:.1f} | {median:.1f} ({least:.1f}, {most:.1f}) "
            f"| {median / floor:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    image = data.coffee()
    highest = peaks()
    rows = [row for name in asked.models.split(",") for row in parts(name, image)]
    for _ in range(asked.rounds + 1):
        for row in rows:
            for one in (*highest, row):
                one.measure()
    for row in (*highest, *rows):
        del row.times[: max(1, len(row.times) // (asked.rounds + 1))]  # what starts with the first round
    peak = max(2e-9 * row.macs / min(row.times) for row in highest)
    about = machine()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    kind = next((name for name in ("avx512f", "avx2") if name in flags), "")
    print(
        f"{about['processor']}, {kind}, one thread; ONNX Runtime {versions()['onnxruntime']}; "
        f"photo of {image.shape[1]} x {image.shape[0]}; load {os.getloadavg()[0]:.1f}\n"
    )
    print(
        f"Peak {peak:.0f} GFLOP/s; medians: "
        + ", ".join(f"{row.name} {row.gigaflops:.0f}" for row in highest)
        + "\n"
    )
    print(table(rows, peak))


if __name__ == "__main__":
    main()
