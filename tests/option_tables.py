"""The tables of options in docs/reference/command-line.md, from the fields that the options are made of.

``python -m tests.option_tables`` writes them; a test compares.
"""

from __future__ import annotations

import re
from pathlib import Path

from mobilesam.cli.annotate import LabelOptions, SetOptions
from mobilesam.cli.bench import BenchOptions, MeasureOptions
from mobilesam.cli.compare import CompareOptions
from mobilesam.cli.convert import ConvertOptions
from mobilesam.cli.cutout import FileOptions, WantedOptions
from mobilesam.cli.engines import EngineOptions
from mobilesam.cli.evaluate.against import TeacherOptions
from mobilesam.cli.evaluate.detected import DetectionOptions
from mobilesam.cli.evaluate.everything import SearchOptions
from mobilesam.cli.evaluate.prompted import ClickQuestions, MaskQuestions
from mobilesam.cli.evaluate.runs import EvaluationOptions, SheetOptions, SmallestOptions
from mobilesam.cli.evaluate.videos import VideoQuestions
from mobilesam.cli.everything import DetectorOptions
from mobilesam.cli.export import CvatOptions, ExportOptions, PageOptions, TargetOptions, VerifyOptions
from mobilesam.cli.fields import Described, described
from mobilesam.cli.map import MapOptions
from mobilesam.cli.options import ModelOptions
from mobilesam.cli.results import ResultOptions
from mobilesam.cli.segment import PromptOptions
from mobilesam.cli.track import FollowOptions
from mobilesam.cli.weights import AverageOptions, PullOptions
from mobilesam.segment.cutout import CutoutOptions
from mobilesam.segment.everything.options import EverythingOptions
from mobilesam.server.options import ServeOptions
from mobilesam.train.finetune import FinetuneOptions
from mobilesam.train.options import RunOptions
from mobilesam.train.store_options import StoreOptions

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
CLASSES = (
    *(
        PromptOptions,
        ResultOptions,
        ModelOptions,
        DetectorOptions,
        EverythingOptions,
        RunOptions,
        FinetuneOptions,
        StoreOptions,
    ),
    *(WantedOptions, CutoutOptions, FileOptions, FollowOptions),
    *(LabelOptions, SetOptions, ConvertOptions, MapOptions, ServeOptions, EngineOptions),
    *(MaskQuestions, ClickQuestions, TeacherOptions, VideoQuestions, DetectionOptions, SearchOptions),
    *(EvaluationOptions, SmallestOptions, SheetOptions, CompareOptions),
    *(BenchOptions, MeasureOptions),
    *(ExportOptions, TargetOptions, VerifyOptions, PageOptions, CvatOptions, PullOptions, AverageOptions),
)
TABLE = re.compile(r"<!-- options of (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def row(one: Described) -> str:
    """Return an option's line of a table."""
    metavar = f" {one.metavar}" if one.metavar else ""
    named = ", ".join(f"`{flag}{metavar}`" for flag in one.flags).replace("|", r"\|")
    default = f" ({one.default})" if one.default else ""
    return f"| {named} | {one.about.replace('``', '`')}{default} |\n"


def table(cls: type) -> str:
    """Return the table of a dataclass's options between its marks."""
    rows = "".join(map(row, described(cls)))
    return f"<!-- options of {cls.__name__} -->\n| option | |\n|---|---|\n{rows}<!-- end -->"


def with_tables(text: str) -> str:
    """Return a document with its tables made anew."""
    classes = {cls.__name__: cls for cls in CLASSES}
    return TABLE.sub(lambda found: table(classes[found[1]]), text)


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text()))
