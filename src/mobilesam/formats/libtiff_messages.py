"""Keep libtiff from printing: what it says about a damaged file is not our message."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache

from PIL import _imaging

HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")


@cache
def silence_libtiff() -> None:
    """Remove the handlers that print on standard error, once for the process.

    They are found through Pillow's own library. If libtiff is built into it without
    names, as in Pillow's files for Windows, nothing is done and libtiff may print.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in HANDLERS:
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
