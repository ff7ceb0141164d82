"""``mobilesam info``: which models there are, their terms, and what they consist of."""

from __future__ import annotations

import json
from math import prod

import click

from mobilesam.core.text import printable
from mobilesam.weights import (
    ALIASES,
    DEFAULT_MODEL,
    ENTRIES,
    WeightsEntry,
    entry_of,
    how_to_get,
    shipped_metadata,
    weights_path,
)
from mobilesam.weights.graph_index import GraphIndex, graph_index, has_graphs
from mobilesam.weights.own import own_names

MEBI = 2**20
COMPONENTS = ("image_encoder", "prompt_encoder", "mask_decoder")


@click.command()
@click.argument("name", required=False)
def info(name: str | None) -> None:
    """Show the models, or one model's weights, terms and parameters.

    \b
    mobilesam info
    mobilesam info mobile_sam
    mobilesam info pocket
    """
    if name is None:
        for entry in ENTRIES.values():
            aliases = [alias for alias, target in ALIASES.items() if target == entry.name]
            default = ["the default"] if DEFAULT_MODEL in aliases else []
            also = f" (also: {', '.join(aliases + default)})" if aliases else ""
            click.echo(f"{entry.name}{also}: {entry.about}; {state_of(entry)}")
        for own in own_names():
            click.echo(f"{own}: {entry_of(own).about}; there")
        return
    entry = entry_of(name)
    click.echo(f"{entry.name}: {entry.about}")
    click.echo(f"  weights: {printable(weights_path(entry))} ({state_of(entry)})")
    if not weights_path(entry).is_file():
        click.echo(f"  to get them: {how_to_get(entry)}")
    for url in entry.urls:
        click.echo(f"  published at: {url}")
    if not entry.own:
        click.echo(f"  {entry.checksum}")
    click.echo(f"  terms: {entry.licence}")
    network = entry.network or entry.detector
    if has_graphs(network):
        index = graph_index(network)
        click.echo(f"  network: {network}, input {index.spec.image_size} x {index.spec.image_size}")
        for line in parameter_lines(index):
            click.echo(f"  {line}")
    if entry.shipped:
        for line in metadata_lines(shipped_metadata(entry)):
            click.echo(f"  {line}")


def state_of(entry: WeightsEntry) -> str:
    """Return whether an entry's file is there."""
    if entry.shipped:
        return "in the package"
    return "there" if weights_path(entry).is_file() else "not there yet"


def parameter_lines(index: GraphIndex) -> list[str]:
    """Count a network's parameters from its index: exact, in units of 2^20, and those unused."""
    counts = {name: prod(shape) for name, shape in index.parameters.items()}
    total = sum(counts.values())
    used = {name for names in index.parts.values() for name in names}
    unused = {name: n for name, n in counts.items() if name not in used}
    lines = [f"parameters: {total:,} ({total / MEBI:.3f} x 2^20)"]
    if not index.spec.decoder:
        return [*lines, "not a model by itself: mobilesam everything photo.jpg --detector NAME"]
    parts = {c: sum(n for name, n in counts.items() if name.startswith(c + ".")) for c in COMPONENTS}
    lines += [f"  {part}: {n:,} ({n / MEBI:.3f} x 2^20)" for part, n in parts.items()]
    both = parts["prompt_encoder"] + parts["mask_decoder"]
    lines.append(f"  prompt encoder and mask decoder together: {both:,} ({both / MEBI:.3f} x 2^20)")
    cancelled = [name for name in unused if name.endswith(".k_proj.bias")]
    never = {name: n for name, n in unused.items() if name not in cancelled}
    if never:
        modules = ", ".join(sorted({name.rpartition(".")[0] for name in never}))
        lines.append(f"  never used: {sum(never.values()):,} ({modules}: the head of an image classifier)")
        lines.append(f"  used: {total - sum(never.values()):,}")
    if cancelled:
        n = sum(unused[name] for name in cancelled)
        lines.append(f"  without effect: {n:,} (biases of attention keys, which softmax cancels)")
    if index.spec.image_size == 1024:
        lines.append(
            "  the papers' 9.66M, 5.78M and 3.876M are these counts divided by 2^20 = 1,048,576, not by a million"
        )
    return lines


def metadata_lines(metadata: dict[str, str]) -> list[str]:
    """Return what the weights say about themselves."""
    lines = []
    for key in ("trained_on", "started_from", "steps", "recipe", "held_out"):
        if key in metadata:
            value = metadata[key]
            if value.startswith(("{", "[")):
                value = json.dumps(json.loads(value))
            lines.append(f"{key.replace('_', ' ')}: {printable(value)}")
    return lines
