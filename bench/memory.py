"""How much memory the encoder and the decoder add at their peak: the figures of ``runtimes/working_set.py``.

    python bench/memory.py                              # pocket and MobileSAM's network, both runtimes
    python bench/memory.py --networks vit_b --runs 1

Every row is a process of its own: the peak of its resident memory during the calls less what it had before
them, in megabytes. The model is there by then, the weights are random. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mobilesam.core.types import MULTIMASK, DecoderInputs

IMAGES = (1, 2, 4)
PROMPTS = ((1, 2), (8, 2), (16, 2), (4, 300))  # prompts at once, points of each


def megabytes(field: str) -> float:
    """A figure of this process's status, such as VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field))) / 1000


def row(network: str, runtime: str, step: str, count: int, points: int, runs: int) -> str:
    """Measure one step, in this process."""
    from mobilesam.networks.build import build_network
    from mobilesam.runtimes.onnx import OnnxRuntime
    from mobilesam.runtimes.torch import TorchRuntime

    built = build_network(network)
    weights = {name: tensor.numpy() for name, tensor in built.state_dict().items()}
    chosen = TorchRuntime(built) if runtime == "torch" else OnnxRuntime(network, weights)
    rng = np.random.default_rng(0)
    side = chosen.spec.image_size
    images = [rng.standard_normal((1, 3, side, side), np.float32) for _ in range(count)]
    if step == "image":
        together = [np.concatenate(images)] if chosen.batches_images else images
        starting = [] if runtime == "torch" else ["encoder"]

        def call() -> object:
            return [chosen.encode(pixels) for pixels in together]

    else:
        arrays = chosen.encode(images[0])
        coords = rng.uniform(0, side, (count, points, 2)).astype(np.float32)
        inputs = DecoderInputs(coords, np.ones((count, points), np.float32))
        starting = [] if runtime == "torch" else ["decoder"]

        def call() -> object:
            return chosen.decode(arrays, inputs, MULTIMASK)

    for part in starting:
        chosen._session(part)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts at what is used now
    before, times = megabytes("VmRSS"), []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    added = megabytes("VmHWM") - before
    what = f"{count} image(s)" if step == "image" else f"{count} prompt(s) of {points} points"
    return (
        f"{network:<20}{runtime:<7}{what:<28}{added:8.0f} MB{added / count:8.1f} MB each"
        f"{min(times) / count * 1000:10.1f} ms each"
    )


def main() -> None:
    """Measure every row in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="pocket,vit_t")
    parser.add_argument("--runtimes", default="onnx,torch")
    parser.add_argument("--images", default=",".join(map(str, IMAGES)))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--row", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        network, runtime, step, count, points = options.row
        print(row(network, runtime, step, int(count), int(points), options.runs))
        return
    steps = [("image", int(n), 0) for n in options.images.split(",")]
    steps += [("prompt", count, points) for count, points in PROMPTS]
    for network in options.networks.split(","):
        for runtime in options.runtimes.split(","):
            for step, count, points in steps:
                words = [
                    "--row",
                    network,
                    runtime,
                    step,
                    str(count),
                    str(points),
                    "--runs",
                    str(options.runs),
                ]
                subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
