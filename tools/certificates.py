"""The page of certificates, from those that were written: ``python -m tools.certificates [CERTIFICATE.json …]``.

Certificates that are given are copied beside the others first. Then docs/reference/certificates.md is written anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "reference" / "certificates"
PAGE = FOLDER.with_suffix(".md")
TARGETS = ("onnx", "triton", "openvino", "litert", "ncnn", "executorch", "coreml")
NETWORKS = ("pocket", "vit_t")
MOST = 200  # prompts, of a certificate by the command line
PARTS = {"image_embedding": "embedding", "low_res_masks": "logits", "iou_predictions": "predicted IoU"}
HEAD = """\
# Certificates

What `mobilesam export TARGET --verify` found out about the files of this version: largest differences from the network in PyTorch, smallest IoU of a mask, size, and median times in turn with ONNX Runtime in one run. [Export](../how-to/export.md) says how it is measured. `python -m tools.certificates` writes this page from [the files](certificates).

Times are those of one thread (ExecuTorch takes all cores) on a machine that others used, too, so compare only those in one row. Differences are exact.
"""
TITLES = {
    "pocket": "`pocket`",
    "vit_t": "`mobile_sam`'s network, with seeded weights",
}
NOTES = {
    "vit_t": "The published weights could not be fetched, so every tensor is filled from a seed (`tests/seeded.py`).\n\n",
}
COLUMNS = "| target | weights | result | embedding | logits | predicted IoU | smallest IoU | MB | image, ms (ONNX Runtime) | box, ms (ONNX Runtime) | made by |\n"


def page() -> str:
    """Return the page."""
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
    text = HEAD
    for network in NETWORKS:
        rows = [one for one in found if one["network"] == network]
        rows.sort(key=lambda one: (TARGETS.index(one["target"]), one["weights"]))
        text += f"\n## {TITLES[network]}\n\n{NOTES.get(network, '')}{COLUMNS}{'|---' * 11}|\n"
        text += "".join(map(row, rows))
    asked = next(one for one in found if one["prompts"] == MOST)
    text += (
        f"\nWhere no other number is told, each was asked {MOST} prompts for {3 * MOST} masks, on: "
        f"{'; '.join(asked['images'])}. {asked['machine']['processor']}, {asked['machine']['cores']} cores.\n"
    )
    return text


def row(one: dict[str, Any]) -> str:
    """Return a certificate's line."""
    differences = [one["differences"].get(name) for name in PARTS]
    told = ["" if value is None else f"{value['value']:.1e}" for value in differences]
    iou = f"{one['smallest_iou']['value']:.5f}" if one["smallest_iou"] else ""
    size = sum(file["bytes"] for file in one["files"]) / 1e6
    times = [
        f"{ms['this']:.0f} ({ms['onnxruntime']:.0f})" if (ms := one["milliseconds"].get(what)) else ""
        for what in ("image", "box")
    ]
    packages = [name for name in one["versions"] if name not in ("mobilesam", "python", "numpy", "torch")]
    made_by = [f"{name} {one['versions'][name]}" for name in packages if name != "onnxruntime"]
    result = one["result"]
    if one["prompts"] not in (0, MOST):
        result += f" by {one['prompts']} prompts"
    if one.get("mean_iou"):
        result += f", mean IoU {one['mean_iou']['value']:.3f}"
    cells = [
        one["target"],
        one["weights"],
        result,
        *told,
        iou,
        f"{size:.1f}",
        *times,
        ", ".join(made_by),
    ]
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Take in the certificates that are given, and write the page."""
    for name in sys.argv[1:]:
        content = json.loads(Path(name).read_text())
        held = "" if content["weights"] == "float32" else f"-{content['weights']}"
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{content['network']}-{content['target']}{held}.json").write_text(Path(name).read_text())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
