"""A benchmark as JSON, as tables and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mobilesam.benchmark.measure import BenchmarkOptions, Row
from mobilesam.benchmark.protocol import PHASES, allocator
from mobilesam.benchmark.published import published_tables
from mobilesam.core.machine import machine
from mobilesam.core.version import __version__
from mobilesam.draw.chart import Bar, draw_bars
from mobilesam.formats.image import image_to_png
from mobilesam.storage.atomic import refuse_existing, write_bytes

FORM = "mobilesam benchmark 1"
FILES = ("benchmark.json", "benchmark.md", "benchmark.png")
MARK = "†"  # marks a figure from a single run


@dataclass(frozen=True)
class Benchmark:
    """Rows, and the circumstances they hold for.

    Attributes:
        rows: the first is the reference.
        options: how long was measured.
        photo: name and size of the photo.
        busy: load of the machine before, as a number of processes that want a core.
        others: whether the machine did other work meanwhile, as the one who measured says.
    """

    rows: Sequence[Row]
    options: BenchmarkOptions
    photo: str
    busy: float
    others: bool = False
    circumstances: dict[str, Any] = field(default_factory=machine)

    def to_dict(self) -> dict[str, Any]:
        """The benchmark as JSON has it."""
        return {
            "form": FORM,
            "version": __version__,
            "machine": self.circumstances,
            "allocator": allocator(),
            "options": asdict(self.options),
            "photo": self.photo,
            "load_before": round(self.busy, 2),
            "beside_other_work": self.others,
            "reference": self.rows[0].label,
            "rows": [row.to_dict() for row in self.rows],
        }

    def to_markdown(self) -> str:
        """The benchmark as tables."""
        options, there = self.options, self.circumstances
        beside = " **Beside other work**: ratios hold better than times." if self.others else ""
        lines = [
            f"# Benchmark, mobilesam {__version__}",
            "",
            f"{there['processor']}, {there['cores']} cores, {there['system']}. {options.threads} thread"
            f"{'s' if options.threads > 1 else ''} for each system. Photo: {self.photo}. Allocator: {allocator()}. "
            f"Load before: {self.busy:.1f}.{beside}",
            "",
            f"Each row runs in a process of its own, in turns with {self.rows[0].label}; the first {options.warm_up} runs "
            f"warm up, then at most {options.runs} count, for at most {options.seconds:g} s a phase. "
            f"{MARK} is a single run. Random weights give size and speed, never quality.",
            "",
            "## Size and start",
            "",
            *self._sizes(),
            "",
            "## Milliseconds",
            "",
            "Median (90th percentile; fastest to slowest), processor time of all cores.",
            "",
            *self._times(),
            "",
            f"## Times {self.rows[0].label}'s, in the same turns",
            "",
            *self._ratios(),
        ]
        failed = [row for row in self.rows if row.problem]
        if failed:
            lines += ["", "## Not measured", "", *(f"- {row.label}: {row.problem}" for row in failed)]
        return "\n".join([*lines, "", *published_tables(self.rows)]) + "\n"

    @property
    def measured(self) -> list[Row]:
        """The rows that did not fail."""
        return [row for row in self.rows if not row.problem]

    def _sizes(self) -> list[str]:
        head = (
            *(
                "system",
                "weights",
                "parameters",
                "bytes each in the file",
                "file, MB",
                "GMACs encoder",
                "GMACs decoder",
            ),
            *("cold start, ms", "first call, ms", "peak, MB"),
        )
        rows = []
        for row in self.measured:
            facts, macs = row.facts, row.facts.get("macs", {})
            rows.append(
                [
                    row.label,
                    facts.get("weights", "-"),
                    f"{facts['parameters']:,}" if "parameters" in facts else "-",
                    str(facts.get("bytes_a_parameter", "-")),
                    f"{facts['file_bytes'] / 1e6:.1f}" if "file_bytes" in facts else "-",
                    *(f"{macs[part] / 1e9:.2f}" if part in macs else "-" for part in ("encoder", "decoder")),
                    f"{1000 * row.cold_start:,.0f}",
                    f"{1000 * row.first_call:,.0f}",
                    "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.0f}",
                ]
            )
        return _table(head, rows)

    def _times(self) -> list[str]:
        phases = [name for name in PHASES if any(name in row.phases for row in self.measured)]
        joules = any(timing.joules for row in self.measured for timing in row.phases.values())
        rows = []
        for row in self.measured:
            for name in phases:
                if name in row.phases:
                    t = row.phases[name].to_dict()
                    mark = MARK if t["n"] == 1 else ""
                    spread = (
                        f" ({t['p90_ms']:,.1f}; {t['least_ms']:,.1f} to {t['most_ms']:,.1f})"
                        if t["n"] > 1
                        else ""
                    )
                    cells = [f"{t['median_ms']:,.1f}{mark}{spread}", f"{t['processor_ms']:,.1f}", str(t["n"])]
                    if joules:
                        cells.append(f"{t['joules']:.2f}" if "joules" in t else "-")
                    rows.append([row.label, name, *cells])
        head = ("system", "phase", "ms", "processor, ms", "runs", *(("joules",) if joules else ()))
        return _table(head, rows)

    def _ratios(self) -> list[str]:
        phases = [name for name in PHASES if any(name in row.ratios for row in self.measured)]
        rows = [
            [row.label, *(f"{row.ratios[name]:.2f}" if name in row.ratios else "-" for name in phases)]
            for row in self.measured[1:]
        ]
        return _table(("system", *phases), rows) if phases else ["Only one system was measured."]

    def draw(self) -> bytes:
        """Return a PNG: encoder and one prompt, or the one pass, of each system."""
        bars = []
        for row in self.measured:
            for colour, name in enumerate(("encoder", "decoder, 1 prompt", "one pass")):
                if name in row.phases:
                    t = row.phases[name].to_dict()
                    note = f"{t['median_ms']:,.1f} ms{' (one run)' if t['n'] == 1 else ''}"
                    bars.append(
                        Bar(f"{row.label}: {name}", t["median_ms"], t["least_ms"], t["most_ms"], note, colour)
                    )
        title = f"Median, fastest and slowest; {self.circumstances['processor']}, {self.options.threads} thread(s)"
        return image_to_png(draw_bars(title + (", beside other work" if self.others else ""), bars))

    def write(self, folder: Path, *, overwrite: bool = False) -> list[Path]:
        """Write ``benchmark.json``, ``benchmark.md`` and ``benchmark.png``."""
        for name in FILES:
            refuse_existing(folder / name, overwrite=overwrite)
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        for name, data in zip(FILES, (text.encode(), self.to_markdown().encode(), self.draw()), strict=True):
            write_bytes(folder / name, data, overwrite=overwrite)
        return [folder / name for name in FILES]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
