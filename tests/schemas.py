"""The JSON Schemas of docs/reference, made from the shapes that files are checked with: ``python -m tests.schemas``."""

from __future__ import annotations

import json
from pathlib import Path

from mobilesam.core.schema import Shape, document
from mobilesam.formats.datasets.coco import FILE as SET
from mobilesam.formats.prompt_file import CUTOUTS, PROMPTS
from mobilesam.formats.result_shapes import EVERYTHING, RESULTS
from mobilesam.segment.session import SESSION
from mobilesam.train.recipe import RECIPE

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
SCHEMAS: dict[str, tuple[str, Shape]] = {
    "prompts": ("MobileSAM prompts, version 1", PROMPTS),
    "cutouts": ("MobileSAM prompts of cut-outs, version 1", CUTOUTS),
    "results": ("MobileSAM results, version 1", RESULTS),
    "everything": ("MobileSAM, everything in images, version 1", EVERYTHING),
    "session": ("MobileSAM session, version 1", SESSION),
    "set": ("A set for evaluation and training: COCO instances", SET),
    "recipe": ("MobileSAM recipe, which is TOML", RECIPE),
}


def schema_text(name: str) -> str:
    """Return a schema as its file holds it."""
    return json.dumps(document(*SCHEMAS[name]), indent=2) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        (REFERENCE / f"{name}.schema.json").write_text(schema_text(name))
