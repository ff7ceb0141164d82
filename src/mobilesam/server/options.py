"""How a server listens, and what it allows."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from mobilesam.core.errors import ConfigError
from mobilesam.core.ranges import check_number, check_whole_number
from mobilesam.core.text import printable
from mobilesam.formats.image import MAX_PIXELS

MEGA = 2**20
PORT = 8260
MAX_PORT = 65535
LEAST_TOKEN = 16  # characters: shorter ones can be guessed


@dataclass(frozen=True)
class ServeOptions:
    """How a server listens, and what it allows.

    Attributes:
        host: address to listen at; anything but loopback lets other machines in and needs a token.
        port: to listen at; 0 takes a free one.
        allow_host: a name under which browsers may call the server, besides localhost and addresses.
        max_megabytes: largest body of a request.
        max_pixels: limit on an image's pixels.
        memory: megabytes that all embeddings may take together; those unused for longest go first.
        keep_minutes: minutes without a request after which an image is forgotten.
        queue: requests that may wait for the encoder; further ones are refused for the moment.
        prompt_queue: requests that may wait for the decoder.
        max_objects: prompts allowed in one request.
        seconds: seconds after which a request is given up.
        label_studio_media: folder where Label Studio keeps its files; its tasks name images there.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    allow_host: str | None = None
    max_megabytes: int = 32
    max_pixels: int = MAX_PIXELS
    memory: int = 1000
    keep_minutes: float = 60.0
    queue: int = 16
    prompt_queue: int = 16
    max_objects: int = 256
    seconds: float = 60.0
    label_studio_media: Path | None = None

    def __post_init__(self) -> None:
        check_whole_number("port", self.port, 0, MAX_PORT)
        for name in ("max_megabytes", "max_pixels", "memory", "queue", "prompt_queue", "max_objects"):
            check_whole_number(name, getattr(self, name), 1)
        for name in ("keep_minutes", "seconds"):
            check_number(name, getattr(self, name), 0.0, above=True)
        if self.label_studio_media is not None and not self.label_studio_media.is_dir():
            raise ConfigError(f"label_studio_media: {printable(self.label_studio_media)} is not a folder")
        if not self.host.strip():
            raise ConfigError("host: is empty; give an address such as 127.0.0.1")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def max_bytes(self) -> int:
        """Largest body of a request."""
        return self.max_megabytes * MEGA


def check_token(token: str | None, options: ServeOptions) -> None:
    """Refuse to listen beyond loopback without a token; refuse tokens that can be guessed.

    Raises:
        ConfigError: says how to give one.
    """
    if token is None:
        if not options.is_loopback:
            raise ConfigError(
                f"host: other machines can reach {options.host}, so it needs a token; "
                "set the environment variable MOBILESAM_TOKEN, or listen at 127.0.0.1"
            )
        return
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"MOBILESAM_TOKEN: must have {LEAST_TOKEN} or more characters of ASCII, no spaces")
