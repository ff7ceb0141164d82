"""A user's own ONNX file, such as a detector: opened with care, and run with an end.

The file is read once, in one piece, checked, and given to ONNX Runtime as bytes. What lies
beside it is never read. ONNX Runtime itself is no sandbox: a file that is made to break
it may break it, which is why an unknown one gives a warning.
"""

from __future__ import annotations

import hashlib
import re
import threading
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilesam.core.arrays import NamedArrays
from mobilesam.core.errors import ConfigError, DeadlineError, LimitError, WeightsError, WeightsWarning
from mobilesam.core.text import printable
from mobilesam.runtimes.base import SECONDS
from mobilesam.runtimes.onnx import OUT_OF_MEMORY, PROVIDERS, ort
from mobilesam.runtimes.threads import session_threads
from mobilesam.weights.onnx_graph import OnnxDamaged, external_tensor
from mobilesam.weights.reading import open_weights

MAX_BYTES = 2**30  # of a file, before it is read; protobuf itself ends at twice that
MAX_REASON = 100
SILENT = 4  # ONNX Runtime's log level; what goes wrong is told by the error
OWN_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
ADVICE = "give an .onnx file"
Shape = tuple[int | None, ...]  # None for a side of any length


@dataclass(frozen=True)
class WantedInput:
    """A float32 input that a file has to have.

    Attributes:
        shape: its sides; None for one of any length.
        name: its name; any where empty.
    """

    shape: Shape
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name or 'any name'} {_sides(self.shape)}"

    def fits(self, name: str, shape: Shape) -> bool:
        """Whether an input is what is wanted; a side that the file leaves open fits any."""
        sides = zip(self.shape, shape, strict=False)
        return (
            self.name in ("", name)
            and len(shape) == len(self.shape)
            and all(None in pair or pair[0] == pair[1] for pair in sides)
        )


@dataclass(frozen=True)
class Opening:
    """How ONNX Runtime opens a file.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: processor threads, 0 for as many as cores.
        trusted: whether it may be evaluated before it is run.
    """

    device: str
    threads: int
    trusted: bool

    def start(self, data: bytes) -> ort.InferenceSession:
        """Open a file's bytes."""
        options = ort.SessionOptions()
        options.log_severity_level = SILENT
        options.intra_op_num_threads = self.threads
        return ort.InferenceSession(
            data,
            options,
            providers=[PROVIDERS[self.device]],
            enable_fallback=0,  # it would print, and try the same again
            disabled_optimizers=None if self.trusted else ["ConstantFolding"],
        )


class OnnxFile:
    """An open ONNX file; see :func:`open_onnx_file`. May be run from several threads.

    A copy in another process, which pickle makes, has the file's bytes and opens them there.

    Attributes:
        path: the file.
        sha256: of its bytes.
        inputs: shape of each input by its name, in the file's order.
        types: of each input, as ONNX names it: ``tensor(float)``.
        outputs: names of the outputs, in the file's order.
        metadata: what its maker wrote into it.
        seconds: after which a run is stopped; None for never.
    """

    def __init__(self, path: Path, sha256: str, opening: Opening, data: bytes, seconds: float | None) -> None:
        session = opening.start(data)
        self.path = path
        self.sha256 = sha256
        self.inputs = {value.name: _shape(value.shape) for value in session.get_inputs()}
        self.types = {value.name: value.type for value in session.get_inputs()}
        self.outputs = tuple(value.name for value in session.get_outputs())
        self.metadata = dict(session.get_modelmeta().custom_metadata_map)
        self.seconds = seconds
        self._opening = opening
        self._session = session

    def __getstate__(self) -> dict[str, Any]:
        """Read the file's bytes again: kept beside the session they would take as much memory again.

        Raises:
            WeightsError: if the file is not what it was.
        """
        data = _checked_bytes(self.path)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise WeightsError(f"{self.path}: changed since it was opened; begin again")
        return {key: value for key, value in vars(self).items() if key != "_session"} | {"data": data}

    def __setstate__(self, state: dict[str, Any]) -> None:
        data = state.pop("data")
        vars(self).update(state)
        self._session = self._opening.start(data)

    def run(self, feed: NamedArrays) -> NamedArrays:
        """Return the outputs, by their names, for inputs by theirs.

        Raises:
            DeadlineError: if it takes longer than ``seconds``; a single operation is not interrupted.
            LimitError: if memory runs out.
            WeightsError: if the file's own operations fail.
        """
        options = ort.RunOptions()
        options.log_severity_level = SILENT
        timer = threading.Timer(self.seconds or 0, setattr, (options, "terminate", True))
        timer.daemon = True
        if self.seconds is not None:
            timer.start()
        try:
            arrays = self._session.run(list(self.outputs), feed, options)
        except Exception as error:  # its classes are no part of ONNX Runtime's interface
            if options.terminate:
                raise DeadlineError(
                    f"{self.path}: stopped after {self.seconds:g} s; give a smaller network"
                ) from error
            if any(sign in str(error) for sign in OUT_OF_MEMORY):
                raise LimitError(f"{self.path}: not enough memory to run it; free some") from error
            raise WeightsError(f"{self.path}: cannot be run ({_reason(error)}); export it again") from error
        finally:
            timer.cancel()
        return dict(zip(self.outputs, arrays, strict=True))


def open_onnx_file(
    path: str | Path,
    wanted: Sequence[WantedInput] | None = None,
    *,
    known: Collection[str] | None = (),
    device: str = "cpu",
    threads: int | None = None,
    seconds: float = SECONDS,
) -> OnnxFile:
    """Open an ONNX file that holds all its numbers itself.

    Args:
        path: the file.
        wanted: the inputs that it has to have, in their order; any where None.
        known: SHA-256 sums of files that are trusted. Any other gives a warning, is not
            evaluated before it is run, and is stopped after ``seconds``. None if the caller vouches for it.
        device: ``cpu``, or ``cuda`` with ONNX Runtime's GPU build.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores where None.
        seconds: limit for a run of an unknown file.

    Raises:
        ConfigError: for a device that is not here.
        WeightsError: if the file is missing, too large, damaged or no ONNX file, keeps numbers
            in other files, needs operators that ONNX Runtime has not, or has other inputs.

    Example:
        >>> wanted = [WantedInput((1, 3, None, None))]
        >>> open_onnx_file("detector.onnx", wanted).run({"images": pixels})  # doctest: +SKIP
    """
    path = Path(path)
    if PROVIDERS.get(device) not in ort.get_available_providers():
        raise ConfigError(f"device {device!r}: not here; ONNX Runtime has {', '.join(_devices())}")
    data = _checked_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    trusted = known is None or sha256 in known
    try:
        opening = Opening(device, session_threads(threads), trusted)
        file = OnnxFile(path, sha256, opening, data, None if trusted else seconds)
    except Exception as error:  # its classes are no part of ONNX Runtime's interface
        raise WeightsError(
            f"{path}: ONNX Runtime {ort.__version__} does not open it ({_reason(error)}); export it again"
        ) from error
    _check_inputs(file, wanted)
    if not trusted:
        warnings.warn(
            f"{path}: an ONNX file of unknown origin: use only files of people you trust; "
            f"a run of it is stopped after {seconds:g} s",
            WeightsWarning,
            stacklevel=2,
        )
    return file


def _checked_bytes(path: Path) -> bytes:
    """Read a file that is whole, not too large and asks for no other file."""
    with open_weights(path, ADVICE, MAX_BYTES) as file:
        data = file.read()
    try:
        name = external_tensor(data)
    except OnnxDamaged as error:
        raise WeightsError(f"{path}: damaged, or not an ONNX file ({error}); {ADVICE}") from error
    if name is not None:
        raise WeightsError(
            f"{path}: keeps numbers in other files (tensor {printable(name)}); export it as one file"
        )
    return data


def _check_inputs(file: OnnxFile, wanted: Sequence[WantedInput] | None) -> None:
    if wanted is None:
        return
    types = list(file.types.values())
    fit = len(wanted) == len(file.inputs) and all(
        one.fits(name, shape) for one, (name, shape) in zip(wanted, file.inputs.items(), strict=True)
    )
    if fit and all(kind == "tensor(float)" for kind in types):
        return
    has = [
        f"{printable(name)[:30]} {_sides(shape)} {kind}"
        for (name, shape), kind in zip(file.inputs.items(), types, strict=True)
    ]
    raise WeightsError(
        f"{file.path}: has inputs {', '.join(has)[:MAX_REASON] or 'none'}; "
        f"wanted, as float32: {', '.join(map(str, wanted))}"
    )


def _shape(sides: Sequence[object]) -> Shape:
    return tuple(side if isinstance(side, int) else None for side in sides)


def _sides(shape: Shape) -> str:
    return f"({', '.join('any' if side is None else str(side) for side in shape)})"


def _devices() -> list[str]:
    return [name for name, provider in PROVIDERS.items() if provider in ort.get_available_providers()]


def _reason(error: Exception) -> str:
    """Return the first words of what ONNX Runtime says."""
    return printable(OWN_PREFIX.sub("", str(error)).strip())[:MAX_REASON]
