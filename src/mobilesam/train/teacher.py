"""A teacher's embeddings of many photos, made once and for all: ``mobilesam train teacher``.

A store is a folder of :mod:`mobilesam.storage.shards` with ``store.json``, which says what they are, and
``decoder.safetensors``, the teacher's prompt encoder and mask decoder. A student needs no more of the teacher.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save
from torch import Tensor

from mobilesam.core.arrays import NamedArrays, sum_of_tensors
from mobilesam.core.errors import ConfigError, MobileSamError, WeightsError
from mobilesam.core.frame import input_size_of
from mobilesam.core.preprocess import normalise
from mobilesam.core.resize import resize_image
from mobilesam.core.text import counted, shortened
from mobilesam.formats.coco import SetPhoto, read_photo
from mobilesam.formats.file_names import is_file
from mobilesam.formats.image_bytes import shown
from mobilesam.networks.build import build_network
from mobilesam.networks.checkpoints import load_tensors, weights_channels_last
from mobilesam.networks.sam import Sam
from mobilesam.runtimes.torch import choose_device, limit_threads
from mobilesam.storage.atomic import write_bytes
from mobilesam.storage.shards import Shards, write_shards
from mobilesam.train.photos import read_any_photos
from mobilesam.train.store_options import StoreOptions
from mobilesam.weights import entry_of, entry_of_network, network_of_file, read_weights
from mobilesam.work.base import Engine

FACTS, DECODER = "store.json", "decoder.safetensors"
KEY_DIGITS = 24  # of the SHA-256 of a photo's file
DECODER_PARTS = ("prompt_encoder.", "mask_decoder.")
CHECKED = 8  # photos on which the rounding loss is measured
SCALE = "scale"  # ending of the name of an int8 array's factors


@dataclass(frozen=True)
class StoreFacts:
    """What a store holds.

    Attributes:
        teacher: name of the model.
        network: the teacher's network.
        weights: checksum of its weights.
        image_size: side of the square input that the embeddings belong to.
        dtype: ``float16``, ``int8`` or ``float32``.
        arrays: shape (C, h, w) of each array, by name.
        loss: greatest relative root mean square error of each array by its dtype, over the first photos.
    """

    teacher: str
    network: str
    weights: str
    image_size: int
    dtype: str
    arrays: dict[str, list[int]]
    loss: dict[str, float] = field(default_factory=dict)


Tell = Callable[[str], None]
Job = tuple[SetPhoto, str]  # a photo, and the dtype in which its embedding is wanted


def make_store(
    data: Path,
    out: Path,
    options: StoreOptions,
    tell: Tell = lambda text: None,
    engine: Engine | None = None,
) -> StoreFacts:
    """Write a teacher's embeddings of a set's photos, or those that are still missing.

    Args:
        data: a folder of photos, or a set in any supported format.
        out: folder of the store.
        options: see :class:`StoreOptions`.
        tell: called with each line of progress.
        engine: of many processes, which have the teacher; this process alone writes the store, so that its bytes
            are the same as without.

    Raises:
        ConfigError: if there are no photos, or ``out`` is another teacher's store.
        WeightsError: if the teacher's weights are missing or damaged.
        OutputError: if the store cannot be written.
        MobileSamError: if a photo ends the processes that look at it.
    """
    if engine is not None:  # each process has one thread, and none takes a GPU that others lack
        options = replace(options, threads=options.threads or 1, device=options.device or "cpu")
    if options.threads:
        limit_threads(options.threads)
    photos = read_any_photos(data, follow_symlinks=options.follow_symlinks)
    keys = {key_of(photo): photo for photo in photos}
    teacher = Teacher.load(options.model, options.checkpoint, "cpu" if engine else options.device)
    size = options.image_size or teacher.network.spec.image_size
    work = Embedder(teacher, size, options.device, options.threads)
    facts = known_facts(out, teacher, size, options.dtype)
    there = Shards(out)
    missing = {key: photo for key, photo in keys.items() if key not in there}
    checked = [] if facts else list(keys.values())[:CHECKED]
    wanted = [
        *((photo, "float32") for photo in checked),
        *((photo, options.dtype) for photo in missing.values()),
    ]
    jobs = ((without_objects(photo), dtype) for photo, dtype in wanted)
    done = engine.run(work, jobs, refuse) if engine else map(work, jobs)
    if facts is None:
        facts = facts_of(teacher, size, options.dtype, list(islice(done, len(checked))))
    begin_store(out, facts, teacher)
    each = bytes_of_each(facts)
    tell(
        f"{counted(len(keys), 'photos')}, {each / 1e6:.2f} MB each as {options.dtype}: {len(keys) * each / 1e9:.2f} GB; "
        f"{len(missing)} to do; rounding loses {max(facts.loss.values(), default=0):.1e} of the values' size"
    )
    write_shards(out, _told(zip(missing, done, strict=True), len(missing), tell))
    return facts


def refuse(job: Job, reason: str) -> NamedArrays:
    """Raise an error for a photo that ends the processes that look at it."""
    raise MobileSamError(
        f"{shown(str(job[0].path))}: {reason}; leave the photo out, or give each process more memory with fewer workers"
    )


def without_objects(photo: SetPhoto) -> SetPhoto:
    """Return a photo without its masks, which need not travel."""
    return replace(photo, instances=(), ignored=None)


@dataclass
class Embedder:
    """What is done with each photo. In another process it settles by itself: it takes its device and its threads.

    Attributes:
        teacher: whose embeddings are made.
        size: side of the square input.
        device: where the teacher works in another process.
        threads: processor threads; as many as PyTorch likes where None.
    """

    teacher: Teacher
    size: int
    device: str | None
    threads: int | None

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        if self.threads:
            limit_threads(self.threads)
        self.teacher.network.to(choose_device(self.device))

    def __call__(self, job: Job) -> NamedArrays:
        """Return a photo's arrays as a store keeps them."""
        photo, dtype = job
        return encode(self.teacher.arrays(photo, self.size), dtype)


def _told(
    things: Iterator[tuple[str, NamedArrays]], total: int, tell: Tell
) -> Iterator[tuple[str, NamedArrays]]:
    """Pass things on, and report after the first, and then about ten times, how long the rest will take."""
    start = time.monotonic()
    for done, thing in enumerate(things, 1):
        yield thing
        if done == 1 or done % max(1, total // 10) == 0:
            left = (time.monotonic() - start) / done * (total - done)
            tell(f"{done} of {total} photos; about {left / 60:.1f} min left")


class Teacher:
    """A network whose embeddings and masks others learn.

    Args:
        network: in eval mode, on its device.
        name: name of the model.
        weights: checksum of its tensors.
    """

    def __init__(self, network: Sam, name: str, weights: str) -> None:
        self.network, self.name, self.sum = network, name, weights

    @classmethod
    def load(cls, model: str, checkpoint: Path | None = None, device: str | None = None) -> Teacher:
        """Load a model by name, or other weights of the same network."""
        entry = entry_of(model)
        tensors = read_weights(entry, checkpoint)
        network = load_tensors(build_network(entry.network), tensors, f"{checkpoint or model}, the teacher,")
        network = weights_channels_last(network.to(choose_device(device))).requires_grad_(False)
        return cls(network, entry.name, sum_of_tensors(tensors)[:16])

    @classmethod
    def from_file(cls, path: Path) -> Teacher:
        """Load weights onto the processor; their network is recognised."""
        return cls.load(entry_of_network(network_of_file(path)).name, path, "cpu")

    @property
    def read_arrays(self) -> tuple[str, ...]:
        """Names of the arrays that its decoder reads."""
        return arrays_read(self.network)

    def arrays(self, photo: SetPhoto, size: int) -> NamedArrays:
        """Return the arrays (C, h, w) of a photo in a square input with side ``size``."""
        pixels = torch.from_numpy(photo_pixels(photo, size)).to(self.network.device)
        return {name: array[0].float().cpu().numpy() for name, array in self.tensors(pixels).items()}

    @torch.no_grad()
    def tensors(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the arrays (B, C, h, w) of pixels (B, 3, S, S) that its decoder reads."""
        seen = self.network.see(pixels.contiguous(memory_format=torch.channels_last))
        return {name: seen[name] for name in self.read_arrays}

    def decoder_tensors(self) -> dict[str, np.ndarray]:
        """Return the weights of prompt encoder and mask decoder."""
        return {
            name: np.ascontiguousarray(tensor.cpu().numpy())  # safetensors writes them as they lie in memory
            for name, tensor in self.network.state_dict().items()
            if name.startswith(DECODER_PARTS)
        }


def arrays_read(network: Sam) -> tuple[str, ...]:
    """Return the names of the arrays that a network's decoder reads of an embedding."""
    return tuple(dict.fromkeys((*network.mask_decoder.PER_PROMPT, *network.mask_decoder.PER_IMAGE)))


def photo_pixels(photo: SetPhoto, size: int) -> np.ndarray:
    """Return a whole photo as a network's input (1, 3, S, S), padded with zeros right or below."""
    image = read_photo(photo)
    return normalise(resize_image(image, input_size_of(image.shape[:2], size)), size)


def key_of(photo: SetPhoto) -> str:
    """Return a store's key for a photo, which depends only on the file's bytes."""
    return hashlib.sha256(photo.read()).hexdigest()[:KEY_DIGITS]


def encode(arrays: NamedArrays, dtype: str) -> NamedArrays:
    """Return arrays (C, h, w) as a store keeps them.

    int8 has a factor for each channel, so that its greatest value is 127.
    """
    if dtype != "int8":
        return {name: array.astype(dtype) for name, array in arrays.items()}
    kept: NamedArrays = {}
    for name, array in arrays.items():
        scale = np.maximum(np.abs(array).max((1, 2), keepdims=True), 1e-12).astype(np.float32) / 127
        kept |= {name: np.rint(array / scale).astype(np.int8), f"{name}.{SCALE}": scale}
    return kept


def decode(kept: NamedArrays) -> NamedArrays:
    """Return the arrays that :func:`encode` took, rounded, as float32."""
    return {
        name: array.astype(np.float32) * kept.get(f"{name}.{SCALE}", np.float32(1))
        for name, array in kept.items()
        if not name.endswith(f".{SCALE}")
    }


def measured_loss(exact: Iterable[NamedArrays], dtype: str) -> dict[str, float]:
    """Return the greatest relative error that a dtype causes in each array, over the arrays of some photos."""
    worst: dict[str, float] = {}
    for arrays in exact:
        for name, rounded in decode(encode(arrays, dtype)).items():
            error = np.sqrt(
                np.mean((rounded - arrays[name]) ** 2) / max(float(np.mean(arrays[name] ** 2)), 1e-30)
            )
            worst[name] = max(worst.get(name, 0.0), float(error))
    return worst


def facts_of(teacher: Teacher, size: int, dtype: str, exact: list[NamedArrays]) -> StoreFacts:
    """Return the facts of a new store, from the arrays of its first photos."""
    shapes = {name: list(array.shape) for name, array in exact[0].items()}
    loss = measured_loss(exact, dtype)
    return StoreFacts(teacher.name, teacher.network.spec.name, teacher.sum, size, dtype, shapes, loss)


def bytes_of_each(facts: StoreFacts) -> int:
    """Return how many bytes of a store a photo takes."""
    each = np.dtype(facts.dtype).itemsize
    factors = np.dtype(np.float32).itemsize if facts.dtype == "int8" else 0
    return sum(math.prod(shape) * each + shape[0] * factors for shape in facts.arrays.values())


def known_facts(out: Path, teacher: Teacher, size: int, dtype: str) -> StoreFacts | None:
    """Return a store's facts; None if it is not begun.

    Raises:
        ConfigError: if it is another teacher's, or has another size or dtype.
    """
    if not (out / FACTS).is_file():
        return None
    old, network = read_facts(out), teacher.network.spec.name
    wanted = {"network": network, "weights": teacher.sum, "image_size": size, "dtype": dtype}
    for name, value in wanted.items():
        if getattr(old, name) != value:
            raise ConfigError(
                f"{out}: is a store with {name} {shortened(getattr(old, name))}, not {shortened(value)}; "
                "choose another folder"
            )
    return old


def begin_store(out: Path, facts: StoreFacts, teacher: Teacher) -> None:
    """Write a store's facts and the teacher's decoder, unless they are there."""
    decoder = save(teacher.decoder_tensors())
    if not is_file(out / DECODER) or (out / DECODER).read_bytes() != decoder:
        write_bytes(out / DECODER, decoder, overwrite=True)
    if not is_file(out / FACTS):
        write_bytes(out / FACTS, (json.dumps(asdict(facts), indent=2) + "\n").encode())


def read_facts(store: Path) -> StoreFacts:
    """Return a store's facts.

    Raises:
        ConfigError: if it is not a store.
    """
    path = store / FACTS
    try:
        return StoreFacts(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: not found; make the store with mobilesam train teacher") from error
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: damaged; make the store again in another folder") from error


def read_store_decoder(store: Path) -> dict[str, np.ndarray]:
    """Return the weights of the teacher's prompt encoder and mask decoder.

    Raises:
        WeightsError: if they are missing or damaged.
    """
    try:
        return load_safetensors((store / DECODER).read_bytes())
    except Exception as error:
        raise WeightsError(f"{store / DECODER}: missing or damaged; make the store again") from error
