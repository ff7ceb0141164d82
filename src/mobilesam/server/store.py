"""The images that a server knows: their embeddings, as many as memory allows, the latest used last."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from mobilesam.core.types import Embedding
from mobilesam.segment.session import hash_image
from mobilesam.server.refusals import Refusal

REMEMBERED = 10_000  # images that are known to have gone
STATE_BYTES = 2 * 2**20  # a session's step may take


@dataclass(eq=False)
class StoredImage:
    """An image that was sent.

    Attributes:
        id: SHA-256 of its pixels and the weights.
        embedding: its embedding.
        expires: when it goes if nobody asks for it, in seconds since 1970.
        states: states of sessions on it; see :class:`mobilesam.segment.session.Session`.
    """

    id: str
    embedding: Embedding
    expires: float = 0.0
    states: dict[tuple, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        arrays = sum(array.nbytes for array in self.embedding.arrays.values())
        return arrays + self.embedding.image.nbytes + len(self.states) * STATE_BYTES


def image_id(pixels_hash: str, weights: str) -> str:
    """Return an image's id: SHA-256 of its pixels' hash and of what names the weights."""
    return hashlib.sha256(f"{pixels_hash} {weights}".encode()).hexdigest()


class Store:
    """Images by their ids.

    Args:
        weights: what names the model and its weights.
        limit: bytes that all images may take together; the last one stays in any case.
        keep: seconds without a request after which an image goes.
    """

    def __init__(self, weights: str, limit: int, keep: float) -> None:
        self.weights, self.limit, self.keep = weights, limit, keep
        self._images: OrderedDict[str, StoredImage] = OrderedDict()
        self._of_file: OrderedDict[str, str] = OrderedDict()  # SHA-256 of a file -> id
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def bytes(self) -> int:
        """Bytes that all images take together."""
        with self._lock:
            return sum(one.size for one in self._images.values())

    def find(self, identity: str) -> StoredImage | None:
        """Return an image if it is there, and keep it for longer."""
        with self._lock:
            self._drop_old()
            found = self._images.get(identity)
            if found is not None:
                self._images.move_to_end(identity)
                found.expires = time.time() + self.keep
            return found

    def get(self, identity: str) -> StoredImage:
        """Return an image.

        Raises:
            Refusal: 410 for one that has gone, 404 for one that was never there.
        """
        found = self.find(identity)
        if found is not None:
            return found
        if identity in self._gone:
            raise Refusal(410, "A", "image: is no longer here; send it again")
        raise Refusal(404, "A", "image: unknown id; send the image first")

    def find_file(self, file_hash: str) -> StoredImage | None:
        """Return the image of a previously sent file, by the file's SHA-256, if it is there."""
        with self._lock:
            identity = self._of_file.get(file_hash)
        return None if identity is None else self.find(identity)

    def add(self, embedding: Embedding, file_hash: str) -> StoredImage:
        """Keep an image, and drop others if there is no room for them."""
        identity = image_id(hash_image(embedding.image), self.weights)
        added = StoredImage(identity, embedding, time.time() + self.keep)
        with self._lock:
            self._images[identity] = added
            self._images.move_to_end(identity)
            self._of_file[file_hash] = identity
            while len(self._of_file) > REMEMBERED:
                self._of_file.popitem(last=False)
            self._gone.pop(identity, None)
            self._drop_old()
            taken = sum(one.size for one in self._images.values())
            while taken > self.limit and len(self._images) > 1:
                taken -= self._drop(next(iter(self._images))).size
        return added

    def remember_file(self, file_hash: str, identity: str) -> None:
        """Note that another file has the same pixels."""
        with self._lock:
            self._of_file[file_hash] = identity

    def remove(self, identity: str) -> None:
        """Forget an image.

        Raises:
            Refusal: as :meth:`get` does.
        """
        self.get(identity)
        with self._lock:
            if identity in self._images:
                self._drop(identity)

    def identity_of(self, pixels_hash: str) -> str:
        """Return the id of an image by the SHA-256 of its size and pixels."""
        return image_id(pixels_hash, self.weights)

    def _drop_old(self) -> None:
        now = time.time()
        for identity in [one.id for one in self._images.values() if one.expires and one.expires < now]:
            self._drop(identity)

    def _drop(self, identity: str) -> StoredImage:
        self._gone[identity] = None
        while len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        return self._images.pop(identity)
