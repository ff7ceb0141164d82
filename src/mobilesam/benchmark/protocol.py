"""How the benchmark talks with a system: a process that reads a line of JSON and answers with one.

=====================================================================  ====================================================
asked                                                                  answered
=====================================================================  ====================================================
``{"do": "load", "system": NAME, "photo": FILE, "threads": N}``        ``{"facts": {...}, "phases": [NAME, ...]}``
``{"do": "run", "phase": NAME}``                                       ``{"seconds": S, "processor_seconds": S}``
``{"do": "memory"}``                                                   ``{"peak_bytes": N}``
``{"do": "count"}``                                                    ``{"macs": {"encoder": N, "decoder": N}}``
``{"do": "end"}``                                                      nothing; the process ends
=====================================================================  ====================================================

``joules`` is left out if the system does not report them. A failure is answered as ``{"error": TEXT}``.
Facts are ``parameters``, ``bytes_a_parameter``, ``file_bytes``, ``weights`` (``published`` or ``random``) and
``versions``; what a system does not know is left out.
Phases are those of ``PHASES`` that a system has. Workers of peers are scripts that speak the same protocol.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# In the order of a table. A phase has its inputs and nothing else: what came before it is not timed.
PHASES = {
    "pre-processing": "the photo's array becomes the network's input",
    "encoder": "the input becomes an embedding",
    "decoder, 1 prompt": "one point becomes three small masks",
    "decoder, 8 prompts": "eight points at once",
    "decoder, 64 prompts": "64 points, in batches as the system takes them",
    "post-processing": "one small mask becomes one of the photo's size",
    "one pass": "a photo's array becomes boxes and masks, for systems without prompts",
    "everything": "a grid of 8 x 8 points with nothing filtered, so that as many masks survive in every system",
}


@dataclass
class Loaded:
    """A system that is loaded.

    Attributes:
        facts: what is known of it.
        phases: by name, a function that prepares a phase and returns what is timed.
        count: counts multiplications by part; it may take a run, so it is asked for last.
    """

    facts: dict[str, Any]
    phases: Mapping[str, Callable[[], Callable[[], object]]] = field(default_factory=dict)
    count: Callable[[], dict[str, int]] = dict


POWERCAP = Path("/sys/class/powercap")  # Linux; often for root only


def serve(load: Callable[[dict[str, Any]], Loaded]) -> None:
    """Answer the questions on standard input until there are no more."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    loaded: Loaded | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "end":
            break
        try:
            if asked["do"] == "load":
                loaded = load(asked)
                answer: dict[str, Any] = {"facts": loaded.facts, "phases": list(loaded.phases)}
            elif asked["do"] == "memory":
                answer = {"peak_bytes": peak_bytes()}
            elif asked["do"] == "count":
                assert loaded is not None
                answer = {"macs": loaded.count()}
            else:
                assert loaded is not None
                answer = timed(loaded.phases[asked["phase"]]())
        except Exception as error:  # the other side decides what a failed system means
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(action: Callable[[], object]) -> dict[str, float]:
    """Run something; return its seconds, and those of all processor cores."""
    energy, processor, start = joules(), time.process_time(), time.perf_counter()
    action()
    seconds = time.perf_counter() - start
    answer = {"seconds": seconds, "processor_seconds": time.process_time() - processor}
    after = joules()
    if energy is not None and after is not None and after >= energy:  # the counter starts over now and then
        answer["joules"] = after - energy
    return answer


def joules() -> float | None:
    """Return the energy that the processors have counted for all that runs on them; None if it cannot be read."""
    try:
        counters = [(one / "energy_uj").read_text() for one in sorted(POWERCAP.glob("intel-rapl:[0-9]"))]
    except OSError:
        return None
    return sum(int(text) for text in counters) / 1e6 if counters else None


def peak_bytes() -> int | None:
    """Return the most memory that this process has held at a time; None if the system does not report it."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def allocator() -> str:
    """Return the allocator's settings, which change PyTorch's speed by up to a factor of two."""
    named = [
        f"{key}={value}"
        for key, value in sorted(os.environ.items())
        if key.startswith(("MALLOC_", "LD_PRELOAD"))
    ]
    return ", ".join(named) or "the system's, nothing set"


def image_at(path: str | Path) -> Any:
    """Return a photo's array (H, W, 3)."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
