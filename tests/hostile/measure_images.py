"""Read each file of a folder in a process of its own, and print how that ended and what it took.

    python -m tests.hostile.measure_images FOLDER ARRAYS

A child is forked for each file once everything is imported. Its peak memory is VmHWM less
what it had before: ru_maxrss would show the parent's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.cli.main import run
from mobilesam.core.errors import MobileSamError
from mobilesam.formats.image import read_mask, read_with_remarks

SAVED_PIXELS = 2**21
AS_MASK = "-mask-"  # in a file's name: it is read as a mask


def memory(what: str) -> float:
    """A figure of /proc/self/status in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def measure(path: Path, arrays: Path) -> dict[str, Any]:
    """Read a file; save the image if it is small."""
    remarks: list[str] = []
    before, start = memory("VmRSS"), time.process_time()
    image, ended = None, {"code": None, "exit": 0, "says": ""}
    try:
        if AS_MASK in path.name:
            read_mask(path, name=path.name)
        else:
            image, remarks = read_with_remarks(path, name=path.name)
    except MobileSamError as error:
        ended = {"code": error.code, "exit": error.exit_code, "says": str(error)}
    seconds, megabytes = time.process_time() - start, memory("VmHWM") - before
    if image is not None:
        ended["says"] = "; ".join(remarks)
        ended["shape"] = image.shape
        if image.size < SAVED_PIXELS * 3:
            np.save(arrays / path.name, image)
            again, _ = read_with_remarks(path)
            ended["same"] = bool((again == image).all())
    elif AS_MASK in path.name:
        ended["status"] = ended["exit"]
        print(f"error[{ended['code']}]: {ended['says']}", file=sys.stderr)
    else:
        ended["status"] = run(["segment", str(path), "--ruler", "--out", str(arrays)])
    decoders = [name[4:] for name in sys.modules if name.startswith("PIL.") and name.endswith("ImagePlugin")]
    return ended | {"seconds": seconds, "megabytes": megabytes, "decoders": decoders}


def in_a_child(path: Path, arrays: Path) -> dict[str, Any]:
    """Measure in a forked child; one that dies is told as such."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as answer:
            json.dump(measure(path, arrays), answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"died": status}


if __name__ == "__main__":
    import_module("mobilesam.cli.segment")  # so that no child has to
    folder, arrays = map(Path, sys.argv[1:])
    print(json.dumps({path.name: in_a_child(path, arrays) for path in sorted(folder.iterdir())}))
