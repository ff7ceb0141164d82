"""Images and masks as base64 text, which several programs send."""

from __future__ import annotations

import base64
import binascii

import numpy as np

from mobilesam.core.errors import PromptError
from mobilesam.formats.image import image_to_png

MARK = ";base64,"


def base64_to_bytes(text: str, name: str) -> bytes:
    """Return what base64 text holds, without a leading ``data:image/png;base64,``.

    Raises:
        PromptError: if it is not base64.
    """
    start = text.find(MARK, 0, 100) + len(MARK) if text.startswith("data:") else 0
    try:
        return base64.b64decode("".join(text[start:].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PromptError(f"{name}: is not base64", code="U") from error


def picture_to_base64(picture: np.ndarray) -> str:
    """Return a picture as a PNG in base64; a boolean mask as black and white."""
    return base64.b64encode(image_to_png(picture)).decode()
