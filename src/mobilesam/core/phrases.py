"""Phrases that name objects: what may be asked for by text.

Library, command line and prompt files come through :func:`check_texts`, so the same mistake
gives the same error everywhere. The texts are taken literally: no character has a special meaning.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from mobilesam.core.errors import LimitError, PromptError
from mobilesam.core.text import printable

MAX_TEXTS = 100  # in one call
MAX_LABEL = 256  # characters of what an object is called
MAX_CHARACTERS = 2**15  # of one text; a model reads a few words of it
UNSEEN = ("Cf", "Zs", "Zl", "Zp")  # Unicode's categories of marks for layout, and of spaces


def check_texts(texts: Any, name: str = "texts") -> tuple[str, ...]:
    """Check phrases that name objects.

    Args:
        texts: one, or a list of them.
        name: what messages call them.

    Returns:
        The texts without the spaces around them.

    Raises:
        PromptError: names the text and what is wrong: it is not text, is empty, or holds what texts must not hold.
        LimitError: for too many, or one that is too long.

    Example:
        >>> check_texts(["a dog ", "leash"])
        ('a dog', 'leash')
    """
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list | tuple):
        raise PromptError(f"{name}: is a {type(texts).__name__}; must be a text or a list of texts", code="U")
    if not texts:
        raise PromptError(f"{name}: is empty; give at least one text such as 'a dog'")
    if len(texts) > MAX_TEXTS:
        raise LimitError(f"{name}: {len(texts)} texts; at most {MAX_TEXTS} are allowed")
    return tuple(_check_text(text, f"{name}[{i}]") for i, text in enumerate(texts))


def _check_text(text: Any, name: str) -> str:
    if not isinstance(text, str):
        raise PromptError(f"{name}: is a {type(text).__name__}; must be text such as 'a dog'", code="U")
    if len(text) > MAX_CHARACTERS:
        raise LimitError(f"{name}: has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed")
    text = text.strip()
    for i, character in enumerate(text):
        category = unicodedata.category(character)
        if category == "Cs":
            raise PromptError(
                f"{name}: holds half a character ({printable(character)}) at {i}; give whole ones"
            )
        if category == "Cc":
            raise PromptError(
                f"{name}: holds the control character {printable(character)} at {i}; write it without"
            )
    if all(unicodedata.category(character) in UNSEEN for character in text):
        raise PromptError(f"{name}: is empty; give a text such as 'a dog'")
    return text


def check_label(label: Any, name: str = "label") -> str | None:
    """Check what an object is called; None, for an object without a name, is allowed.

    Raises:
        PromptError: names the label and what is wrong: it is not text, is empty, or holds what texts must not hold.
        LimitError: for one that is too long.

    Example:
        >>> check_label(" guide dog ")
        'guide dog'
    """
    if label is None:
        return None
    if isinstance(label, str) and len(label) > MAX_LABEL:
        raise LimitError(f"{name}: has {len(label):,} characters; at most {MAX_LABEL} are allowed")
    return _check_text(label, name)


def number_texts(texts: Sequence[str]) -> dict[str, int]:
    """Return the number of each different text, from 0."""
    return {text: i for i, text in enumerate(dict.fromkeys(texts))}
