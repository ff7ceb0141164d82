"""What ``pocket``'s encoder loses in 8-bit integers, and what it saves: ``python bench/int8.py``.

The encoder is calibrated on photos of ``coco_mix``, none of which is scored, and stored in several ways. Each is asked
for a mask by each object's box on the first photos of ``coco_val``, with the decoder in float32, and timed in turn
with float32: seconds of the processor on one thread. Prints a table in Markdown, and the machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from mobilesam import Prompt
from mobilesam.core.arrays import Pixels
from mobilesam.core.boxes import mask_to_box
from mobilesam.core.machine import machine, versions
from mobilesam.core.metrics import mask_iou
from mobilesam.core.rle import rle_to_mask
from mobilesam.evaluate.sets import SMALLEST_OBJECT, countable, read_countable
from mobilesam.export.integers import KEPT, calibrate, calibration_pixels, in_integers, nodes_of
from mobilesam.export.onnx import filled
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.runtimes.base import Weights
from mobilesam.runtimes.onnx import ERRORS_ONLY, OnnxRuntime
from mobilesam.segment.model import Model
from mobilesam.weights import entry_of, read_weights

NETWORK = "pocket"
SHARED = Path(os.environ.get("MOBILESAM_SHARED", "../shared"))
ROUNDS = 9


class EncoderFile(OnnxRuntime):
    """The ONNX runtime with an encoder of its own."""

    encoder: Path

    def start(self, part: str, options: ort.SessionOptions) -> ort.InferenceSession:
        """Open the file for the encoder, and the package's graphs for all else."""
        if part != "encoder":
            return super().start(part, options)
        return ort.InferenceSession(self.encoder, options, providers=["CPUExecutionProvider"])


def score(path: Path, weights: Weights, photos: Sequence[SetPhoto]) -> np.ndarray:
    """Return the IoU of each object's mask, by its box."""
    runtime = EncoderFile(NETWORK, weights, threads=1)
    runtime.encoder = path
    model = Model(runtime, name=path.stem)
    found: list[float] = []
    for photo in photos:
        embedding = model.embed(read_photo(photo))
        truths = [rle_to_mask(rle) for rle in countable(photo, SMALLEST_OBJECT)]
        results = model.segment(embedding, [Prompt(box=mask_to_box(truth)) for truth in truths])
        found += [mask_iou(one.mask, truth) for one, truth in zip(results, truths, strict=True)]
    return np.array(found)


def seconds(paths: Sequence[Path], pixels: Pixels) -> np.ndarray:
    """Return processor seconds (files, rounds) of an image, in turn."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = ERRORS_ONLY, 1
    sessions = [ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in paths]
    taken = []
    for _ in range(ROUNDS + 1):
        for session in sessions:
            start = time.process_time()
            session.run(None, {"pixels": pixels})
            taken.append(time.process_time() - start)
    return np.array(taken).reshape(-1, len(paths))[1:].T


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=120)
    asked = parser.parse_args()
    weights = read_weights(entry_of(NETWORK))
    whole = filled(NETWORK, "encoder", weights)
    pixels = calibration_pixels(SHARED / "data" / "train" / "coco_mix", OnnxRuntime(NETWORK, weights).spec)
    calibration = calibrate(whole, pixels)
    kept = nodes_of(whole, KEPT[NETWORK])
    models = {
        "float32": whole,
        "int8: weights of 8 bits, extremes of all photos": in_integers(calibration, extremes=True, bits=8),
        "weights of 7 bits": in_integers(calibration, extremes=True),
        "means of each photo's extremes": in_integers(calibration),
        "first and last layers float32 (`--weights int8`)": in_integers(calibration, kept=kept),
    }
    photos = read_countable(SHARED / "data" / "eval" / "coco_val", SMALLEST_OBJECT)[: asked.photos]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.onnx" for number in range(len(models))]
        for path, model in zip(paths, models.values(), strict=True):
            path.write_bytes(model.SerializeToString())
        times = 1000 * seconds(paths, pixels[0])
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        kind = [name for name in ("avx2", "avx512f", "avx_vnni", "avx512_vnni") if name in flags.split()]
        print(
            f"{machine()['processor']}, {' '.join(kind)}; ONNX Runtime {versions()['onnxruntime']}; "
            f"{len(photos)} photos, calibrated on {len(pixels)}; load {os.getloadavg()[0]:.1f}\n"
        )
        print("| encoder | MB | ms, median (fastest) | box mIoU | loss |\n|---|---|---|---|---|")
        before = None
        for name, path, taken in zip(models, paths, times, strict=True):
            found = score(path, weights, photos)
            before = found if before is None else before
            print(
                f"| {name} | {path.stat().st_size / 1e6:.1f} | {np.median(taken):.0f} ({taken.min():.0f}) "
                f"| {found.mean():.4f} | {before.mean() - found.mean():.4f} |",
                flush=True,
            )
        print(f"\n{len(found)} objects.")


if __name__ == "__main__":
    main()
