"""What others published of the same systems, beside what was measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.benchmark.measure import Row

CPU_SOURCE = "Apple M4 Pro, torch 2.6.0, ultralytics 8.3.90, a call without prompts"
ONE_PROMPT = ("pre-processing", "encoder", "decoder, 1 prompt", "post-processing")


@dataclass(frozen=True)
class Published:
    """A published row.

    Attributes:
        called: its name there.
        labels: what the benchmark calls its rows.
        megabytes: of its file.
        parameters: in millions.
        milliseconds: for an image.
    """

    called: str
    labels: tuple[str, ...]
    megabytes: float
    parameters: float
    milliseconds: float


# ultralytics' page on MobileSAM.
ON_PROCESSORS = (
    Published("SAM-b", ("sam_vit_b", "segment-anything: SAM ViT-B"), 375, 93.7, 49401),
    Published("SAM2-b", ("transformers: SAM 2 base+",), 162, 80.8, 31901),
    Published("SAM2-t", ("transformers: SAM 2 tiny",), 78.1, 38.9, 25997),
    Published("MobileSAM", ("mobile_sam", "MobileSAM's own code"), 40.7, 10.1, 25381),
    Published("FastSAM-s", ("ultralytics: FastSAM-s",), 23.7, 11.8, 55.9),
    Published("YOLOv8n-seg", ("ultralytics: YOLOv8n-seg",), 6.7, 3.4, 24.5),
    Published("YOLO11n-seg", ("ultralytics: YOLO11n-seg",), 5.9, 2.9, 30.1),
)
# MobileSAM v1, Tables 3 and 6: milliseconds of encoder and decoder on one GPU.
ON_A_GPU = (
    ("SAM ViT-H", ("sam_vit_h", "segment-anything: SAM ViT-H"), 632.0, 452.0, 4.0),
    ("MobileSAM", ("mobile_sam", "MobileSAM's own code"), 5.78, 8.0, 4.0),
)


def published_tables(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the tables: published, measured, and the ratio to the fastest of each."""
    measured = {row.label: row for row in rows if not row.problem}
    lines = [
        "## The published tables beside ours",
        "",
        f"Published: {CPU_SOURCE}. Measured: one image with one prompt (pre-processing, encoder, decoder, "
        "post-processing), or one pass for systems without prompts. So the rows of SAM's kind are not the same call: a "
        "call without prompts asks a grid of points. The ratio is to the fastest of the column.",
        "",
        "| published | MB | million parameters | ms | ratio | measured | parameters | ms | ratio |",
        f"|{'---|' * 9}",
    ]
    fastest = min(one.milliseconds for one in ON_PROCESSORS)
    times = {label: time for label, row in measured.items() if (time := image_time(row)) is not None}
    named = {"pocket", *(label for one in ON_PROCESSORS for label in one.labels)}
    least = min((time for label, time in times.items() if label in named), default=1.0)
    for one in ON_PROCESSORS:
        there = [label for label in one.labels if label in times] or [""]
        for label in there:
            own = ["not measured", "-", "-", "-"]
            if label:
                parameters = measured[label].facts.get("parameters")
                own = [
                    label,
                    f"{parameters:,}" if parameters else "-",
                    f"{times[label]:,.1f}",
                    f"{times[label] / least:,.1f}",
                ]
            cells = [
                one.called,
                f"{one.megabytes:g}",
                f"{one.parameters:g}",
                f"{one.milliseconds:,g}",
                f"{one.milliseconds / fastest:,.1f}",
                *own,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    for label in ("pocket",):
        if label in times:
            facts = measured[label].facts
            cells = ["-"] * 5 + [
                label,
                f"{facts['parameters']:,}",
                f"{times[label]:,.1f}",
                f"{times[label] / least:,.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *_gpu_table(measured)]


def _gpu_table(measured: dict[str, Row]) -> list[str]:
    lines = [
        "Published: MobileSAM v1, Tables 3 and 6, one GPU. Measured: this machine's processor.",
        "",
        "| published | encoder, million parameters | encoder, ms | decoder, ms | measured | encoder, ms | decoder, ms |",
        f"|{'---|' * 7}",
    ]
    for called, labels, parameters, encoder, decoder in ON_A_GPU:
        for label in [one for one in labels if one in measured] or [""]:
            own = ["not measured", "-", "-"]
            if label:
                phases = measured[label].phases
                cells = (_median(phases.get(name)) for name in ("encoder", "decoder, 1 prompt"))
                own = [label, *("-" if cell is None else f"{cell:,.1f}" for cell in cells)]
            lines.append(f"| {called} | {parameters:g} | {encoder:g} | {decoder:g} | {' | '.join(own)} |")
    return lines


def image_time(row: Row) -> float | None:
    """Return the milliseconds of an image with one prompt, or of one pass; None where a phase is missing."""
    if "one pass" in row.phases:
        return _median(row.phases["one pass"])
    times = [_median(row.phases.get(name)) for name in ONE_PROMPT]
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(ONE_PROMPT) else None


def _median(timing: object) -> float | None:
    seconds = getattr(timing, "seconds", [])
    return 1000 * float(np.median(seconds)) if seconds else None
