"""Whose weights are these? Networks told apart by the names and shapes of their tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from mobilesam.weights.graph_index import graph_index, network_specs
from mobilesam.weights.registry import ENTRIES

Shapes = Mapping[str, Sequence[int]]
# What the package has no graphs for, by how a tensor's name begins, and what messages call it.
FOREIGN = (
    ("memory_attention.", "sam2", "SAM 2, another architecture"),
    (
        "PromtEncoder.",
        "prompt_guided_decoder",
        "MobileSAMv2's decoder alone",
    ),  # the published file writes it so
    ("model.22.", "detector", "an object detector"),  # the head of YOLOv8 and its descendants
)


def recognise_network(shapes: Shapes) -> str:
    """Return the network that tensors of these names and shapes belong to, or most of them.

    Args:
        shapes: shape of each tensor by its name in the checkpoint.

    Returns:
        A network's name, ``sam2``, ``prompt_guided_decoder``, ``detector`` for another
        project's detector, or an empty text.
    """
    given = {(name, tuple(shape)) for name, shape in shapes.items()}
    likeness = {network: len(given & own) / len(given | own) for network, own in _own_tensors().items()}
    nearest = max(likeness, key=likeness.__getitem__)
    if likeness[nearest] > 0:
        return nearest
    foreign = (family for start, family, _ in FOREIGN if any(name.startswith(start) for name in shapes))
    return next(foreign, "")


def shared_prefix(shapes: Shapes) -> str:
    """Return the prefix that a training program gave the name of every tensor, such as ``module.``.

    It is what all names share up to a dot, if the rest is recognised; otherwise an empty text.
    """
    for prefix in _prefixes(list(shapes)):
        if recognise_network({name[len(prefix) :]: shape for name, shape in shapes.items()}):
            return prefix
    return ""


def words_for(found: str) -> str:
    """Return what messages call a recognised network, or an unrecognised one."""
    spec = network_specs().get(found)
    if spec is not None:
        return spec.called if spec.decoder else "an object detector"
    return next((words for _, family, words in FOREIGN if family == found), "something unknown")


def describe_mismatch(found: str, wanted: str) -> str:
    """Return what to say about weights of one network that were given for another."""
    names = [entry.name for entry in ENTRIES.values() if entry.network == found]
    advice = f"load it as {names[0]}" if names else f"give a file of {words_for(wanted)}"
    return f"holds {words_for(found)}, not {wanted}; {advice}"


@cache
def _own_tensors() -> dict[str, frozenset[tuple[str, tuple[int, ...]]]]:
    """Names and shapes of what tells networks apart: several encoders share SAM's decoder."""
    own = {}
    for network in network_specs():
        index = graph_index(network)
        names = index.parts.get("encoder", index.tensors)
        own[network] = frozenset((name, index.tensors[name]) for name in names if name in index.tensors)
    return own


def _prefixes(names: list[str]) -> Iterator[str]:
    """Yield what all names share up to a dot, the longest first."""
    common = os.path.commonprefix(names)
    while "." in common:
        common = common[: common.rindex(".")]
        yield f"{common}."
