"""Do exported files give the masks that their network gives? Asked 200 times, measured, and written down.

Images and prompts go the whole way: through the same preprocessing into the files and into the network in PyTorch,
which is the reference, and through the same postprocessing to masks of the image's size.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.core.arrays import Image, sum_of_tensors
from mobilesam.core.errors import CertificateError, PromptWarning
from mobilesam.core.machine import machine, versions
from mobilesam.core.types import Embedding, Prompt
from mobilesam.core.version import __version__
from mobilesam.export.targets import Target, certificate_paths
from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors
from mobilesam.runtimes.base import Runtime, Weights
from mobilesam.runtimes.fixed import fixed_views, square
from mobilesam.runtimes.onnx import OnnxRuntime
from mobilesam.runtimes.torch import TorchRuntime
from mobilesam.segment.model import Model
from mobilesam.storage.atomic import write_bytes

FORMAT = 1
PROMPTS = 200
DIFFERENCE = 1e-3  # of logits, predicted IoU, objectness and arrays, where weights are float32
BOX_DIFFERENCE = 0.05  # pixels of the input, of boxes that are likely
LIKELY = 0.05  # objectness
IOU = 0.999
HALF_IOU = 0.99  # where float16 rounds the weights: then nothing else is asked
INTEGERS_IOU = (
    0.9  # the mean over masks, where the encoder is in integers: likewise; most images are no photos
)
FEW_PIXELS = 1000  # a mask with fewer may differ in one pixel, which would be more than a thousandth
ENCODER_RUNS, DECODER_RUNS = 5, 15  # that times are medians of
MASK_FROM = 3  # the kind of prompt whose mask is the next one's
VERIFIED, FAILED, NOT_RUN = "verified", "failed", "converted, not run"


@dataclass(frozen=True)
class Figure:
    """A number, and the largest or smallest that is allowed; None where any is."""

    value: float
    allowed: float | None


@dataclass(frozen=True)
class Certificate:
    """What was found out about exported files; the fields are those of the JSON file.

    Attributes:
        result: ``verified``, ``failed`` or ``converted, not run``.
        target: the runtime.
        model: what was exported, in a user's words.
        network: its name.
        weights: how the files hold them, ``float32``, ``float16`` or, in the encoder, ``int8``.
        sha256_of_tensors: of the weights that were exported.
        versions: of the software that took part.
        machine: processor, cores and system.
        files: name, bytes and SHA-256 of each.
        images: what was looked at.
        prompts: how many prompts were asked.
        masks: how many masks were compared.
        differences: the largest of each output.
        smallest_iou: of masks of the images' size that have at least :data:`FEW_PIXELS`.
        mean_iou: of the same masks; only where the encoder is in integers.
        pixels: largest number of pixels that differ in a smaller mask.
        milliseconds: medians of ``image`` and ``box``, of this and of ONNX Runtime in the same run.
    """

    result: str
    target: str
    model: str
    network: str
    weights: str
    sha256_of_tensors: str
    versions: dict[str, str]
    machine: dict[str, str | int]
    files: list[dict[str, Any]]
    images: list[str] = field(default_factory=list)
    prompts: int = 0
    masks: int = 0
    differences: dict[str, Figure] = field(default_factory=dict)
    smallest_iou: Figure | None = None
    mean_iou: Figure | None = None
    pixels: Figure | None = None
    milliseconds: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The JSON file's bytes."""
        told = asdict(self)
        if self.mean_iou is None:
            del told["mean_iou"]
        return (json.dumps({"format": FORMAT, **told}, indent=1) + "\n").encode()

    @property
    def failures(self) -> list[str]:
        """What is not as allowed, in words."""
        found = [
            f"{name} differs by {one.value:.2g} ({one.allowed:g} allowed)"
            for name, one in self.differences.items()
            if one.allowed is not None and not one.value <= one.allowed
        ]
        if self.smallest_iou and self.smallest_iou.value < (self.smallest_iou.allowed or 0):
            found.append(
                f"smallest IoU {self.smallest_iou.value:.5f} ({self.smallest_iou.allowed:g} allowed)"
            )
        if self.mean_iou and self.mean_iou.value < (self.mean_iou.allowed or 0):
            found.append(f"mean IoU {self.mean_iou.value:.4f} ({self.mean_iou.allowed:g} allowed)")
        if self.pixels and self.pixels.allowed is not None and self.pixels.value > self.pixels.allowed:
            found.append(
                f"{self.pixels.value:g} pixels of a small mask differ ({self.pixels.allowed:g} allowed)"
            )
        return found


def certify(
    target: Target,
    model: str,
    network: str,
    weights: Weights,
    files: Sequence[Path],
    *,
    half: bool = False,
    integers: bool = False,
    questions: Questions | None = None,
) -> Certificate:
    """Compare exported files with their network, and return what was found.

    Args:
        target: what they are for. If it cannot run here, nothing is compared.
        model: what was exported, in a user's words.
        network: name of the network.
        weights: that were exported.
        files: all in one folder, or below it.
        half: whether they hold the weights as float16.
        integers: whether the encoder is in integers.
        questions: what is asked; 200 prompts on all images where None.

    Raises:
        WeightsError: if files are missing or damaged.
    """
    packages = ("numpy", "torch", "onnxruntime", *target.packages)
    folder = Path(os.path.commonpath([path.parent for path in files]))
    about = Certificate(
        NOT_RUN,
        target.name,
        model,
        network,
        "int8" if integers else "float16" if half else target.weights,
        sum_of_tensors(weights),
        {"mobilesam": __version__, **versions(packages)},
        machine(),
        [describe(path, folder) for path in files],
    )
    if not target.runs:
        return about
    exported = target.load().open_exported(network, weights, folder)
    rounded = half and not all(
        np.array_equal(w, w.astype(np.float16).astype(w.dtype)) for w in weights.values()
    )
    ours, theirs = (
        Model(exported, name=target.name),
        Model(reference(target, network, weights), name="PyTorch"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)  # random prompts are seldom meant
        found = compare(ours, theirs, questions or Questions())
    beside = OnnxRuntime(network, weights)
    if target.fixed:
        beside.spec = square(beside.spec)
    milliseconds = measure(ours, Model(beside, name="ONNX Runtime"))
    certificate = replace(
        about, milliseconds=milliseconds, **allowed_for(found, rounded=rounded, integers=integers)
    )
    return replace(certificate, result=FAILED if certificate.failures else VERIFIED)


def write_certificate(certificate: Certificate, folder: Path) -> list[Path]:
    """Write a certificate as JSON and as a page; return the paths. One that is there is replaced."""
    paths = certificate_paths(certificate.network, certificate.target, folder)
    for path, data in zip(paths, (certificate.to_json(), page(certificate).encode()), strict=True):
        write_bytes(path, data)
    return paths


def check(certificate: Certificate) -> None:
    """Do nothing for a certificate of success.

    Raises:
        CertificateError: for one that says that the files failed.
    """
    if certificate.result == FAILED:
        raise CertificateError(
            f"{certificate.model} for {certificate.target}: the files do not give the network's masks: "
            f"{'; '.join(certificate.failures)}; do not use them"
        )


def tell_result(certificate: Certificate) -> str:
    """Return what was found, in a line."""
    if certificate.result == NOT_RUN or certificate.smallest_iou is None:
        return f"{certificate.target}: {NOT_RUN}"
    logits = certificate.differences["low_res_masks"].value
    return (
        f"{certificate.target}: {certificate.result}; {certificate.prompts} prompts, {certificate.masks} masks, "
        f"logits differ by at most {logits:.2g}, smallest IoU {certificate.smallest_iou.value:.6f}"
    )


def page(certificate: Certificate) -> str:
    """Return a certificate in Markdown."""
    one = certificate
    lines = [
        f"# {one.model} for {one.target}: {one.result}",
        "",
        f"Weights ({one.weights}): SHA-256 of all tensors `{one.sha256_of_tensors}`.",
        "",
    ]
    if one.prompts:
        images = "; ".join(one.images)
        lines += [
            f"{one.prompts} prompts (points, boxes, both, masks) on {len(one.images)} images, {one.masks} masks, against "
            f"the network in PyTorch. Images: {images}.",
            "",
            "| | measured | allowed |",
            "|---|---|---|",
            *(row(f"largest difference of `{name}`", value) for name, value in one.differences.items()),
            row(f"smallest IoU of a mask of {FEW_PIXELS} pixels or more", one.smallest_iou),
            *([row("mean IoU of these masks", one.mean_iou)] if one.mean_iou else []),
            row("most pixels that differ in a smaller mask", one.pixels),
            "",
            "| median of one run, in turn | this | ONNX Runtime |",
            "|---|---|---|",
            *(
                f"| {what} | {ms['this']:g} ms | {ms['onnxruntime']:g} ms |"
                for what, ms in one.milliseconds.items()
            ),
            "",
        ]
    else:
        lines += [
            "What was written was converted without an error. It cannot be run here, and nobody has compared it.",
            "",
        ]
    lines += ["| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| {file['name']} | {file['bytes']:,} | `{file['sha256']}` |" for file in one.files]
    lines += ["", "; ".join(f"{name} {version}" for name, version in one.versions.items())]
    lines += ["; ".join(f"{name}: {value}" for name, value in one.machine.items()), ""]
    return "\n".join(lines)


def row(what: str, figure: Figure | None) -> str:
    """Return a line of a table."""
    if figure is None:
        return f"| {what} | | |"
    allowed = "any" if figure.allowed is None else f"{figure.allowed:g}"
    return f"| {what} | {figure.value:.6g} | {allowed} |"


def describe(path: Path, folder: Path) -> dict[str, Any]:
    """Return name, bytes and SHA-256 of a file of a folder."""
    data = path.read_bytes()
    name = path.relative_to(folder).as_posix()
    return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def reference(target: Target, name: str, weights: Weights) -> TorchRuntime:
    """Return the network in PyTorch, asked as a target's files are: they may know squares and large windows alone."""
    network = load_tensors(build_network(name), weights, name)
    if target.fixed:
        network.views = fixed_views(network.spec)
        network.spec = square(network.spec)
    return TorchRuntime(network)


@dataclass
class Found:
    """What comparing has found so far; see :class:`Certificate`."""

    images: list[str] = field(default_factory=list)
    prompts: int = 0
    masks: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    iou: float = 1.0
    ious: list[float] = field(default_factory=list)
    pixels: int = 0

    def differ(self, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Remember how far two arrays are apart; one that is no number is infinitely far from any."""
        apart = np.abs(ours.astype(np.float64) - theirs)
        most = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
        self.differences[name] = max(most, self.differences.get(name, 0.0))

    def compare_masks(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Remember how far masks (M, H, W) are apart."""
        for a, b in zip(ours, theirs, strict=True):
            both, either = int((a & b).sum()), int((a | b).sum())
            if either < FEW_PIXELS:
                self.pixels = max(self.pixels, either - both)
            else:
                self.ious.append(both / either)
                self.iou = min(self.iou, self.ious[-1])
            self.masks += 1


@dataclass(frozen=True)
class Questions:
    """What files and network are asked.

    Attributes:
        prompts: how many, spread over the images.
        images: names of those of :func:`pictures` that are looked at; all where empty.
        seed: of the prompts.
    """

    prompts: int = PROMPTS
    images: tuple[str, ...] = ()
    seed: int = 0


def compare(exported: Model, wanted: Model, questions: Questions) -> Found:
    """Ask both models the same, on several images."""
    rng, prompts = np.random.default_rng(questions.seed), questions.prompts
    found, images = Found(), pictures()
    images = {name: images[name] for name in questions.images or images}
    for number, (name, image) in enumerate(images.items()):
        found.images.append(f"{name}, {image.shape[1]} x {image.shape[0]}")
        a, b = exported.embed(image), wanted.embed(image)
        compare_arrays(found, exported.runtime, wanted.runtime, a, b)
        share = prompts * (number + 1) // len(images) - prompts * number // len(images)
        for prompt in image_prompts(wanted, b, share, rng):
            ours, theirs = (
                model.segment(embedding, prompt, multimask=True)
                for model, embedding in ((exported, a), (wanted, b))
            )
            found.differ("low_res_masks", ours.low_res_masks, theirs.low_res_masks)
            found.differ("iou_predictions", ours.predicted_iou, theirs.predicted_iou)
            found.compare_masks(ours.masks, theirs.masks)
            found.prompts += 1
    return found


def compare_arrays(found: Found, exported: Runtime, wanted: Runtime, a: Embedding, b: Embedding) -> None:
    """Compare what the encoders give, and the boxes that are found in it."""
    for name in b.arrays:
        if not name.startswith("first_layer_") or name in a.arrays:
            found.differ(name, a.arrays[name], b.arrays[name])
    if wanted.spec.proposes:
        boxes, objectness = exported.propose(a.arrays)
        wanted_boxes, wanted_objectness = wanted.propose(b.arrays)
        likely = wanted_objectness >= LIKELY
        found.differ("objectness", objectness, wanted_objectness)
        found.differ("boxes", boxes[likely], wanted_boxes[likely])


def allowed_for(found: Found, *, rounded: bool, integers: bool = False) -> dict[str, Any]:
    """Return the certificate's fields of what was found, with what is allowed."""

    def limit(name: str) -> float | None:
        if rounded or integers:
            return None
        return BOX_DIFFERENCE if name == "boxes" else DIFFERENCE

    if integers:
        smallest, mean = None, Figure(float(np.mean(found.ious)), INTEGERS_IOU)
    else:
        smallest, mean = HALF_IOU if rounded else IOU, None

    return {
        "images": found.images,
        "prompts": found.prompts,
        "masks": found.masks,
        "differences": {name: Figure(value, limit(name)) for name, value in found.differences.items()},
        "smallest_iou": Figure(found.iou, smallest),
        "mean_iou": mean,
        "pixels": Figure(found.pixels, None if rounded or integers else 1),
    }


def pictures() -> dict[str, Image]:
    """Return photos, where scikit-image is installed, and noise, waves and images of odd sizes."""
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (480, 640, 3), np.uint8)
    images = {"waves": waves(375, 500), "noise": noise, "noise, narrow": noise[:301, :37]}
    images["waves, one row"] = waves(1, 233)
    try:
        from skimage import data
    except ModuleNotFoundError:
        return images
    cat, coffee, astronaut = data.chelsea(), data.coffee(), data.astronaut()
    photos = {"cat": cat, "coffee": coffee, "astronaut": astronaut, "cat, upright": cat[:, 60:233]}
    return {**photos, "coffee, small": coffee[200:297, 250:364], **images}


def waves(height: int, width: int) -> Image:
    """Return an image of soft waves of three colours."""
    y, x = np.mgrid[:height, :width]
    angles = np.stack([(x + y) / 23, (x - 2 * y) / 41, (3 * x + y) / 67], -1)
    return np.asarray(127.5 + 127 * np.sin(angles)).astype(np.uint8)


def image_prompts(
    model: Model, embedding: Embedding, count: int, rng: np.random.Generator
) -> Iterator[Prompt]:
    """Yield ``count`` prompts: a point, several, a box, a box and a point, a mask of before, and a drawn mask, in turn."""
    height, width = embedding.original_size
    last: np.ndarray | None = None

    def points(number: int) -> np.ndarray:
        return rng.uniform(0, 1, (number, 2)) * [width - 1e-3, height - 1e-3]

    def box() -> np.ndarray:
        size = np.array([width, height]) * rng.uniform(0.05, 0.95, 2)
        corner = rng.uniform(0, 1, 2) * ([width, height] - size)
        return np.concatenate([corner, corner + size])

    def boxed() -> Prompt:
        around = box()
        return Prompt(box=around, points=rng.uniform(around[:2], around[2:])[None])

    def drawn() -> np.ndarray:
        x0, y0, x1, y1 = np.round(box()).astype(int)
        mask = np.zeros((height, width), bool)
        mask[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)] = True
        return mask

    kinds: list[Callable[[], Prompt]] = [
        lambda: Prompt(points=points(1)),
        lambda: Prompt(points=points(3), labels=rng.permutation([1, 0, 1])),
        lambda: Prompt(box=box()),
        boxed,
        lambda: Prompt(mask=last, points=points(1)),
        lambda: Prompt(mask=drawn()),
    ]
    for number in range(count):
        prompt = kinds[number % len(kinds)]()
        if number % len(kinds) == MASK_FROM:
            last = model.segment(embedding, prompt, multimask=True).low_res_masks[:1]
        yield prompt


def measure(ours: Model, theirs: Model) -> dict[str, dict[str, float]]:
    """Return medians in milliseconds of an image and of a box in it, of two models in turn."""
    image = waves(480, 640)
    prompt = Prompt(box=[30, 30, 600, 450])
    embeddings = [model.embed(image) for model in (ours, theirs)]
    for model, embedding in zip((ours, theirs), embeddings, strict=True):
        model.segment(embedding, prompt)  # what starts with the first call
    both = list(zip((ours, theirs), embeddings, strict=True))
    image_times = in_turn([partial(model.embed, image) for model, _ in both], ENCODER_RUNS)
    box_times = in_turn(
        [partial(model.segment, embedding, prompt) for model, embedding in both], DECODER_RUNS
    )
    return {
        what: {"this": round(times[0], 1), "onnxruntime": round(times[1], 1)}
        for what, times in (("image", image_times), ("box", box_times))
    }


def in_turn(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Return the median milliseconds of each call, made in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    return [float(np.median(taken)) for taken in times]
