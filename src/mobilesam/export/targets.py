"""Which runtimes a model can be exported for. A new one is a file beside this with two functions, and an entry here.

The file has ``write(name, weights, folder, *, half, overwrite) -> list[Path]``, which converts, and
``open_exported(name, weights, folder, *, threads) -> Runtime``, which runs what was written, for its certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from mobilesam.core.errors import missing_extra


@dataclass(frozen=True)
class Target:
    """A runtime that files are written for.

    Attributes:
        name: of its module, its command and its extra; those of ONNX files have the extra ``export``.
        about: what the command writes.
        packages: whose versions a certificate tells.
        fixed: whether its files have fixed shapes.
        runs: whether what was written can be run where it was; otherwise it is converted and not run.
        half: whether it takes weights as float16.
        weights: how its files hold them where nothing is said.
    """

    name: str
    about: str
    packages: tuple[str, ...]
    fixed: bool = True
    runs: bool = True
    half: bool = False
    weights: str = "float32"

    @property
    def extra(self) -> str:
        """The extra that brings the packages."""
        return "export" if self.packages == ("onnx",) else self.name

    def load(self) -> ModuleType:
        """Import the target's module.

        Raises:
            MissingExtraError: if its packages are not installed.
        """
        try:
            return import_module(f"mobilesam.export.{self.name}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("mobilesam"):
                raise
            raise missing_extra(f"export {self.name}", self.extra) from error


TARGETS = {
    target.name: target
    for target in (
        Target("onnx", "ONNX files", ("onnx",), fixed=False, half=True),
        Target("openvino", "OpenVINO's IR (.xml and .bin)", ("openvino",), fixed=False, half=True),
        Target("litert", "LiteRT's .tflite", ("litert-torch", "ai-edge-litert")),
        Target("ncnn", "ncnn's .param and .bin", ("pnnx", "ncnn")),
        Target("executorch", "ExecuTorch's .pte, for XNNPACK", ("executorch",)),
        Target("triton", "a model repository of Triton Inference Server", ("onnx",), fixed=False, half=True),
        Target(
            "coreml",
            "Core ML's .mlpackage in float16, for iOS 17 and macOS 14",
            ("coremltools",),
            runs=False,
            weights="float16",
        ),
    )
}


def certificate_paths(network: str, target: str, folder: Path) -> list[Path]:
    """Return where a certificate lies: its JSON file and its page."""
    return [folder / f"{network}-{target}-certificate{suffix}" for suffix in (".json", ".md")]
