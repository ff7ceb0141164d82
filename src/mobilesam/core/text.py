"""Text for messages."""

from __future__ import annotations


def printable(text: object) -> str:
    """Return text that is safe to print: no control characters, no half characters."""
    safe = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in safe)
