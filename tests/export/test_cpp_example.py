"""The command-line example in C++ builds against ONNX Runtime's C API, and gives our masks."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from mobilesam import Model, Prompt
from mobilesam.export.onnx import write
from mobilesam.weights import entry_of, read_weights
from tests.photos import cat

SOURCE = Path(__file__).parents[2] / "examples" / "cpp" / "segment.cpp"
INCLUDE_VARIABLE = "ONNXRUNTIME_INCLUDE"
INCLUDES = (
    os.environ.get(INCLUDE_VARIABLE, ""),
    "/usr/include/onnxruntime",
    "/usr/local/include/onnxruntime",
)
LIBRARIES = Path(onnxruntime.__file__).parent / "capi"  # the package's own, whose interface is the header's


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    include = next((path for path in INCLUDES if path and Path(path, "onnxruntime_c_api.h").is_file()), None)
    if include is None:
        pytest.skip(
            f"no onnxruntime_c_api.h; set {INCLUDE_VARIABLE} to its folder, or apt install libonnxruntime-dev"
        )
    libraries = sorted(glob.glob(str(LIBRARIES / "libonnxruntime.so.*")))
    if not libraries:
        pytest.skip(f"no libonnxruntime.so in {LIBRARIES}")
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "libonnxruntime.so.1").symlink_to(libraries[-1])
    built = folder / "segment"
    line = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", str(SOURCE), "-o", str(built)]
    line += [f"-I{include}", libraries[-1], f"-Wl,-rpath,{folder}"]
    subprocess.run(line, check=True, timeout=300)
    write("pocket", read_weights(entry_of("pocket")), folder / "onnx")
    Image.fromarray(cat()).save(folder / "photo.ppm")
    return built


@pytest.mark.parametrize("numbers", [(180, 140), (90, 20, 330, 290)], ids=["a point", "a box"])
def test_masks_are_ours(numbers: tuple[int, ...], program: Path, pocket: Model) -> None:
    line = [str(program), "onnx", "photo.ppm", "mask.pgm", *map(str, numbers)]
    done = subprocess.run(line, cwd=program.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(program.parent / "mask.pgm") as picture:
        theirs = np.asarray(picture) > 0
    prompt = Prompt(points=[numbers]) if len(numbers) == 2 else Prompt(box=numbers)
    ours = pocket.segment(pocket.embed(cat()), prompt)
    assert (ours.mask & theirs).sum() >= 0.999 * (ours.mask | theirs).sum()
    assert float(done.stdout.split()[-1]) == pytest.approx(ours.best.predicted_iou, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["onnx"], 2, "usage: segment FOLDER"),
        (["onnx", "onnx/pocket-decoder.onnx", "m.pgm", "1", "1"], 1, "give a binary PPM"),
        (["nowhere", "photo.ppm", "m.pgm", "1", "1"], 1, "pocket-encoder.onnx"),
    ],
)
def test_what_goes_wrong_is_told(arguments: list[str], code: int, message: str, program: Path) -> None:
    done = subprocess.run([str(program), *arguments], cwd=program.parent, capture_output=True, text=True)
    assert done.returncode == code and message in done.stderr
