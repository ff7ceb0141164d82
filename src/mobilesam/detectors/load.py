"""From what a user calls a detector to the detector. What runs one is loaded only when needed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.ranges import check_number
from mobilesam.detectors.base import Detector
from mobilesam.detectors.head import HeadDetector
from mobilesam.runtimes.base import SECONDS, Runtime
from mobilesam.runtimes.load import load_runtime
from mobilesam.weights import DEFAULT_MODEL, entry_of


def detector_for(
    runtime: Runtime,
    name: str,
    detector: str | Path | Detector | None = None,
    *,
    layout: str | None = None,
    threads: int | None = None,
) -> Detector:
    """Return what finds objects for a model.

    Args:
        runtime: of the model that segments.
        name: of that model.
        detector: None for the model's own head, or ``pocket``'s if it has none; the name of a model with a
            head; ``detector_nano``; an .onnx file, or a .safetensors file that ``mobilesam train boxes`` made;
            or a :class:`~mobilesam.detectors.base.Detector` of your own.
        layout: of the file's outputs, see ``mobilesam.detectors.onnx_layouts.LAYOUTS``; found out if None.

        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores if None.

    Raises:
        ConfigError: for a model without a head, or an unknown layout.
        WeightsError: if a file is missing or not such a detector.
    """
    if detector is None:
        return HeadDetector(runtime, name) if runtime.spec.proposes else _head_of(DEFAULT_MODEL, threads)
    if isinstance(detector, str | Path):
        if str(detector) == name:
            return HeadDetector(runtime, name)
        from mobilesam.detectors.onnx_layouts import open_detector
        from mobilesam.detectors.own import open_own_detector

        if Path(detector).suffix.lower() == ".onnx":
            return open_detector(detector, layout=layout, threads=threads)
        if Path(detector).suffix.lower() == ".safetensors":
            return open_own_detector(detector, threads=threads)
        entry = entry_of(str(detector))
        return open_own_detector(entry, threads=threads) if entry.detector else _head_of(entry.name, threads)
    if not callable(getattr(detector, "find", None)):
        raise ConfigError(
            f"detector: is a {type(detector).__name__}; give a model's name, a detector's file or an object with "
            "find(embedding, texts)"
        )
    return detector


@cache
def _head_of(name: str, threads: int | None = None) -> HeadDetector:
    entry = entry_of(name)
    return HeadDetector(load_runtime(entry, threads=threads), entry.name)


def load_text_model(
    folder: str | Path | None = None, *, threads: int | None = None, seconds: float = SECONDS
) -> Detector:
    """Open a network that finds what texts name: OWL-ViT or OWLv2 as an ONNX file. Nothing is ever downloaded here.

    Args:
        folder: with ``tokenizer.json``, ``preprocessor_config.json`` and ``onnx/model.onnx``, as
            Hugging Face's tools write them; if None, ``owlv2-base-patch16-ensemble`` in the
            folder of the weights.
        threads: processor threads; ``OMP_NUM_THREADS`` or as many as cores if None.
        seconds: most time for an image, after which it is given up.

    Raises:
        MissingExtraError: if ``mobilesam[text]`` is not installed.
        WeightsError: if the folder is missing, with the command that fetches it; or if a
            file in it is missing, damaged or another network's.
        PromptError: for seconds that are not a number above 0.

    Warns:
        WeightsWarning: that the file is of unknown origin.

    Example:
        >>> text_model = load_text_model("owlv2-base-patch16-ensemble")  # doctest: +SKIP
        >>> model.segment_text(embedding, ["a dog"], text_model=text_model)  # doctest: +SKIP
    """
    check_number("seconds", seconds, 0.0, above=True)
    from mobilesam.detectors.owl import open_owl

    return open_owl(folder, threads=threads, seconds=seconds)


def text_model_for(text_model: str | Path | Detector | None) -> Detector:
    """Return what finds boxes for texts.

    Args:
        text_model: a folder, or None for the one in the folder of the weights, see
            :func:`load_text_model`; or a :class:`~mobilesam.detectors.base.Detector` of your own.

    Raises:
        ConfigError: for something else.
        MobileSamError: whatever :func:`load_text_model` raises.
    """
    if text_model is None or isinstance(text_model, str | Path):
        return load_text_model(text_model)
    if not callable(getattr(text_model, "find", None)):
        raise ConfigError(
            f"text_model: is a {type(text_model).__name__}; give a folder or an object with find(embedding, texts)"
        )
    return text_model
