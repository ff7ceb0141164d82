"""Text for messages."""

from __future__ import annotations

MOST_BYTES = 2000  # of a message


def one_line(text: object) -> str:
    """Return a message that is safe to print, in one line; a very long one keeps its beginning and end.

    Example:
        >>> one_line("a\\nb"), len(one_line("a" * 9999))
        ('a\\\\x0ab', 2000)
    """
    whole = printable(text)
    data = whole.encode()
    if len(data) <= MOST_BYTES:
        return whole
    end = MOST_BYTES // 4
    return f"{data[: MOST_BYTES - end - 3].decode(errors='ignore')}...{data[-end:].decode(errors='ignore')}"


def printable(text: object) -> str:
    """Return text that is safe to print: no control characters, no half characters."""
    safe = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in safe)


def shortened(value: object, most: int = 60) -> str:
    """Return any value as a message shows it: in one line, cut if it is long.

    Example:
        >>> shortened("a" * 100, 8), shortened(10**400), shortened([1, 2])
        ("'aaaaaaa...", 'about 2^1328', 'a list of 2')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and abs(value) >= 10**most:  # Python refuses to print the very long ones
        return f"about {'-' if value < 0 else ''}2^{value.bit_length() - 1}"
    text = repr(value[: most + 1]) if isinstance(value, str | bytes) else repr(value)
    text = printable(text)
    return text if len(text) <= most else f"{text[:most]}..."


def counted(count: int, things: str) -> str:
    """Return a number with what it counts.

    Example:
        >>> counted(1, "photos"), counted(1200, "photos"), counted(1, "categories")
        ('1 photo', '1,200 photos', '1 category')
    """
    if count != 1:
        return f"{count:,} {things}"
    return f"1 {things[:-3]}y" if things.endswith("ies") else f"1 {things[:-1]}"
