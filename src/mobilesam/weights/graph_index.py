"""What the package has of each network: its spec, the names and shapes of its tensors, and its ONNX graphs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.spec import NetworkSpec

GRAPHS = Path(__file__).parent.parent / "graphs"
RECTANGLE = "rectangle"  # the graph of an encoder whose inputs have less padding


@dataclass(frozen=True)
class GraphIndex:
    """What ``graphs/NETWORK.json`` says about a network.

    Attributes:
        spec: what the network is.
        parameters: shape of each trained tensor of the checkpoint.
        buffers: shape of each of its other tensors.
        parts: for each graph, the names of the tensors that it reads.
        files: for each graph, its file; all of SAM's encoders share one decoder. ``rectangle`` is the encoder for
            inputs with less padding, where there is one.
    """

    spec: NetworkSpec
    parameters: dict[str, tuple[int, ...]]
    buffers: dict[str, tuple[int, ...]]
    parts: dict[str, tuple[str, ...]]
    files: dict[str, str]

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor of the checkpoint."""
        return self.parameters | self.buffers

    @property
    def rectangular(self) -> GraphIndex:
        """The same for inputs with less padding; see :attr:`NetworkSpec.rectangular`."""
        spec = self.spec.rectangular
        return replace(self, spec=spec, files=self.files | {"encoder": self.files[RECTANGLE]})

    def to_json(self) -> bytes:
        """The file's bytes."""
        content = {
            "spec": self.spec.to_dict(),
            "parameters": self.parameters,
            "buffers": self.buffers,
            "parts": self.parts,
            "files": self.files,
        }
        return (json.dumps(content) + "\n").encode()


@cache
def graph_index(network: str) -> GraphIndex:
    """Read the index of a network's graphs.

    Raises:
        ConfigError: for a network without graphs.
    """
    if not has_graphs(network):
        raise ConfigError(f"network {network!r}: has no ONNX graphs; pass runtime='torch'")
    content = json.loads((GRAPHS / f"{network}.json").read_text(encoding="utf-8"))
    shapes = {
        kind: {name: tuple(shape) for name, shape in content[kind].items()}
        for kind in ("parameters", "buffers")
    }
    parts = {part: tuple(names) for part, names in content["parts"].items()}
    return GraphIndex(NetworkSpec.from_dict(content["spec"]), **shapes, parts=parts, files=content["files"])


def has_graphs(network: str) -> bool:
    """Whether the package has a network's graphs."""
    return (GRAPHS / f"{network}.json").is_file()


@cache
def network_specs() -> dict[str, NetworkSpec]:
    """Return every network and detector for which the package has graphs, by name."""
    return {path.stem: graph_index(path.stem).spec for path in sorted(GRAPHS.glob("*.json"))}


def detector_names() -> list[str]:
    """Return the names of the detectors of objects."""
    return [name for name, spec in network_specs().items() if not spec.decoder]
