"""Every failure that a user can cause or meet, each with its code and exit status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mobilesam.core.extras import install_line
from mobilesam.core.text import one_line


@dataclass(frozen=True)
class Remedy:
    """An argument that would allow what was refused.

    Attributes:
        argument: such as ``overwrite``; the command line has it as ``--overwrite``.
        value: the value it takes.
        effect: what it does: ``to replace it``.
    """

    argument: str
    value: Any
    effect: str

    def __str__(self) -> str:
        return f"{self.argument}={self.value!r} {self.effect}"


FOLLOW_SYMLINKS = Remedy("follow_symlinks", True, "to read it")


class MobileSamError(Exception):
    """Base of all errors: one line that names the file or argument, what is wrong and what to do.

    The line is printable and has at most 2,000 bytes, whatever a file says about itself.

    Attributes:
        message: that line.
        remedy: the argument that would allow it, if there is one; ``str(error)`` names it too.
        code: letter of the error contract, printed as ``error[CODE]``.
        exit_code: what the command line exits with.
    """

    code = "X"
    exit_code = 70

    def __init__(self, message: str = "", *, remedy: Remedy | None = None) -> None:
        super().__init__(message)
        self.message = str(message)
        self.remedy = remedy

    def __str__(self) -> str:  # OSError would print its own form for two arguments
        return one_line(self.message if self.remedy is None else f"{self.message}, or pass {self.remedy}")


class ConfigError(MobileSamError, ValueError):
    """An argument or setting that is not valid."""

    code = "U"
    exit_code = 2


class PromptError(MobileSamError, ValueError):
    """A prompt that is malformed (``code`` U) or makes no sense (``code`` S)."""

    code = "S"
    exit_code = 2

    def __init__(self, message: str, *, code: str = "S", remedy: Remedy | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class ImageError(MobileSamError, OSError, ValueError):
    """An image that cannot be read or decoded, or an argument that is not an image (``code`` U)."""

    code = "I"
    exit_code = 3

    def __init__(self, message: str, *, code: str = "I", remedy: Remedy | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code
        if code == "U":
            self.exit_code = ConfigError.exit_code


class LimitError(MobileSamError, ValueError):
    """Something over a stated limit; the message gives limit and value."""

    code = "L"
    exit_code = 7


class WeightsError(MobileSamError):
    """Weights that are missing, damaged or not the network's."""

    code = "W"
    exit_code = 4


class OutputError(MobileSamError, OSError):
    """A result that cannot be written."""

    code = "O"
    exit_code = 6


class DeadlineError(MobileSamError):
    """Something that did not end, or did not start, within the seconds it was given."""

    code = "T"
    exit_code = 8


class TrainingDiverged(MobileSamError):
    """A training run whose loss is no longer a number."""

    code = "D"
    exit_code = 9


class CertificateError(MobileSamError):
    """Exported files that do not give what their network gives."""

    code = "V"
    exit_code = 10


class MissingExtraError(MobileSamError, ImportError):
    """A feature whose packages are not installed; the message is the line that installs them."""

    code = "U"
    exit_code = 2


class OptionWarning(UserWarning):
    """An option that is accepted but has no effect."""


class PromptWarning(UserWarning):
    """A prompt that is valid but may not be intended."""


class ImageWarning(UserWarning):
    """An image that is read, but not all of it, or not as one might expect."""


class SetWarning(UserWarning):
    """A set that is read, but not all of it."""


class WorkerWarning(UserWarning):
    """A worker's process that died and is replaced."""


class TrainingWarning(UserWarning):
    """A training that goes on, but may not learn what it should."""


class WeightsWarning(UserWarning):
    """Weights that are used, although their place or kind means that others may have tampered with them."""


def missing_extra(what: str, extra: str) -> MissingExtraError:
    """Return the error for a feature whose extra is not installed, with the line that installs it."""
    return MissingExtraError(f"{what}: needs packages that are not installed; {install_line(extra)}")
