"""What figures belong to: which weights, which photos and masks, which software and machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mobilesam.core.machine import machine, versions
from mobilesam.core.version import __version__
from mobilesam.formats.coco import SetPhoto
from mobilesam.segment.model import Model


@dataclass(frozen=True)
class ModelFacts:
    """Which model was asked.

    Attributes:
        name: of the model.
        network: its network.
        runtime: what ran it, and how embeddings were rounded, if they were kept.
        device: what it ran on.
        sha256: of its file of weights; empty if they came from no file.
    """

    name: str
    network: str
    runtime: str
    device: str
    sha256: str = ""


@dataclass(frozen=True)
class DataFacts:
    """Which photos and masks were asked for.

    Attributes:
        name: of the set's folder.
        folder: as it was given.
        photos: how many count.
        objects: how many are in them.
        sha256: of the photos' names, their bytes and the masks, in the order of the set.
    """

    name: str
    folder: str
    photos: int
    objects: int
    sha256: str


def describe_model(model: Model, weights: Path | None) -> ModelFacts:
    """Say which model it is.

    Args:
        model: the model that is asked.
        weights: the file that it was made from; None if there is none.
    """
    digest = ""
    if weights is not None and weights.is_file():
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    runtime = model.runtime
    name = runtime.name if model.predictor.kept is None else f"{runtime.name}, embeddings as float16"
    return ModelFacts(model.name, runtime.spec.name, name, runtime.device, digest)


def describe_data(folder: Path, photos: Sequence[SetPhoto]) -> DataFacts:
    """Say which photos and masks they are."""
    digest = hashlib.sha256()
    for photo, name in zip(photos, names_in(photos), strict=True):
        digest.update(name.encode("utf-8", "surrogatepass"))
        digest.update(hashlib.sha256(photo.read()).digest())
        for instance in photo.instances:
            digest.update(str(instance.segmentation.to_dict()).encode())
    objects = sum(len(photo.instances) for photo in photos)
    return DataFacts(folder.resolve().name, str(folder), len(photos), objects, digest.hexdigest())


def names_in(photos: Sequence[SetPhoto]) -> list[str]:
    """Return the photos' names below the folder that they share."""
    if not photos:
        return []
    shared = photos[0].path.parent
    while any(shared not in photo.path.parents for photo in photos):
        shared = shared.parent
    return [photo.path.relative_to(shared).as_posix() for photo in photos]


def circumstances() -> dict[str, Any]:
    """Return versions and machine."""
    return {"versions": {"mobilesam": __version__, **versions()}, "machine": machine()}


def as_dict(facts: ModelFacts | DataFacts) -> dict[str, Any]:
    """Return facts as JSON has them."""
    return asdict(facts)
