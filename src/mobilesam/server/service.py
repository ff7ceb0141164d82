"""What the routes work with: the model, the images, and the lanes in which work is done."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from starlette.requests import Request

from mobilesam.core.arrays import Image
from mobilesam.core.errors import MobileSamError
from mobilesam.core.prompts import names_with
from mobilesam.core.types import Embedding, Prompt
from mobilesam.detectors.base import Detector
from mobilesam.detectors.load import detector_for
from mobilesam.formats.image import Remarks, read_with_remarks
from mobilesam.formats.image_bytes import read_file
from mobilesam.formats.signatures import format_of
from mobilesam.segment.model import Model
from mobilesam.segment.predictor import Predictor
from mobilesam.segment.session import hash_image
from mobilesam.server.bodies import BodyReader
from mobilesam.server.lanes import Lane, Stop, Stopped
from mobilesam.server.metrics import Metrics
from mobilesam.server.options import ServeOptions
from mobilesam.server.photos import Photos
from mobilesam.server.refusals import Refusal
from mobilesam.server.store import Store, StoredImage

WARMING = (24, 32)  # height and width of the first image
IMAGE = "image"  # what messages call a sent image
SPELL = 5.0  # seconds after a refusal in which prompts do not wait for long


@dataclass(eq=False)
class Service:
    """A model that answers requests.

    Attributes:
        predictor: segments.
        detector: finds boxes of objects, for everything and for the subject.
        options: what is allowed.
        photos: those that the page may open.
        token: the token that requests must carry, if any.
        store: the images that were sent.
        encoding: the lane for images and everything else that takes long.
        prompting: the quick lane.
        bodies: reads requests.
        metrics: counts them.
        stopping: whether the server is ending.
    """

    predictor: Predictor
    detector: Detector
    options: ServeOptions
    photos: Photos
    token: str | None
    store: Store
    encoding: Lane
    prompting: Lane
    bodies: BodyReader
    metrics: Metrics = field(default_factory=Metrics)
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """Whether another image would be accepted."""
        return not (self.stopping or self.encoding.full or self.prompting.full)

    def warm(self) -> None:
        """Let both lanes work once, so that the first request need not wait for the network to start."""

        def embed(stop: Stop) -> None:
            embedding = self.predictor.embed(np.zeros((*WARMING, 3), np.uint8))
            self.prompting.begin(lambda stop: self._decode(embedding))

        self.encoding.begin(embed)

    def _decode(self, embedding: Embedding) -> None:
        """Decode a point, and a point with a mask: the decoder has two graphs."""
        for mask in (None, np.ones(WARMING, bool)):
            prompts = self.predictor.validate(embedding, [Prompt([1, 1], mask=mask)], [names_with("")])
            self.predictor.segment(embedding, prompts)

    def close(self, seconds: float = 0.0) -> bool:
        """Take no more work; return whether all of it ended within ``seconds``."""
        self.stopping = True
        ended = [lane.close(seconds) for lane in (self.encoding, self.prompting)]
        return all(ended)

    async def embed(self, data: Callable[[], bytes], request: Request) -> tuple[StoredImage, bool]:
        """Return the image of a file's bytes, and whether it is new.

        Args:
            data: returns the bytes; called in the lane.
            request: the request that waits for it.

        Raises:
            ImageError: if it cannot be read.
            LimitError: if it has too many pixels.
            Refusal: 415 for what is not an image; otherwise as :meth:`Lane.run` does.
        """
        return await self.encoding.run(lambda stop: self._embed(data(), stop), gone_from(request))

    def _embed(self, data: bytes, stop: Stop) -> tuple[StoredImage, bool]:
        file_hash = hashlib.sha256(data).hexdigest()
        known = self.store.find_file(file_hash)
        if known is not None:
            return known, False
        image, remarks = read_image(data, self.options.max_pixels)
        known = self.store.find(self.store.identity_of(hash_image(image)))
        if known is not None:
            self.store.remember_file(file_hash, known.id)
            return known, False
        if stop.is_set():
            raise Stopped
        return self.store.add(self.predictor.embed(image, remarks), file_hash), True


def read_image(data: bytes, max_pixels: int) -> tuple[Image, Remarks]:
    """Return the image (H, W, 3) of a file's bytes, which nobody may change, and the remarks about it.

    Raises:
        Refusal: 415 for what is not an image in a format that can be read.
        ImageError: if it is damaged.
        LimitError: if it has too many pixels.
    """
    try:
        image, remarks = read_with_remarks(data, max_pixels=max_pixels, name=IMAGE)
    except MobileSamError as error:
        if data and format_of(data) is None:
            raise Refusal(415, "I", error.message) from error
        raise
    image.flags.writeable = False
    return image, remarks


def make_service(
    model: Model, options: ServeOptions, photos: Photos | None = None, token: str | None = None
) -> Service:
    """Return a service with a model, ready for its first request."""
    predictor = model.predictor
    detector = detector_for(predictor.runtime, predictor.name, None)
    runtime = predictor.runtime
    return Service(
        predictor,
        detector,
        options,
        photos or Photos(),
        token,
        Store(
            f"{predictor.name} {runtime.name} {runtime.device}",
            options.memory * 2**20,
            options.keep_minutes * 60,
        ),
        Lane("encoder", options.queue, options.seconds),
        Lane("decoder", options.prompt_queue, options.seconds, SPELL),
        BodyReader(options.max_bytes),
    )


def file_reader(path: Path, name: str) -> Callable[[], bytes]:
    """Return a function that reads a file when it is called."""
    return lambda: read_file(path, name=name)


def gone_from(request: Request) -> Callable[[], Awaitable[None]]:
    """Return a function that waits until a request's client hangs up; the body must have been read."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return gone
