"""The few lines of YAML that YOLO's ``data.yaml`` consists of: keys with a text, a list or numbered names."""

from __future__ import annotations

import json
import re
from typing import Any

from mobilesam.core.errors import ConfigError
from mobilesam.core.text import shortened

KEY = re.compile(r"(?P<indent>\s*)(?P<key>[\w.-]+|'[^']*'|\"[^\"]*\")\s*:(?:\s+(?P<value>.*))?$")
ITEM = re.compile(r"(?P<indent>\s*)-\s+(?P<value>.*)$")


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """Return such a file by its keys: texts, lists of texts, or texts by their keys.

    Anchors, tags, several documents and deeper nesting are not read; what is under an unknown key may be
    anything.

    Raises:
        ConfigError: for a line that is none of these, with its number.
    """
    content: dict[str, Any] = {}
    key = ""
    for number, line in enumerate(text.splitlines(), start=1):
        bare = _without_comment(line)
        if not bare.strip() or bare.strip() == "---":
            continue
        item, pair = ITEM.match(bare), KEY.match(bare)
        if item and key and not isinstance(content[key], dict):
            content[key] = [*(content[key] if isinstance(content[key], list) else []), _scalar(item["value"])]
        elif pair and not pair["indent"]:
            key = _scalar(pair["key"])
            content[key] = _value((pair["value"] or "").strip(), f"{name}: line {number}")
        elif pair and key and not isinstance(content[key], list):
            inner = content[key] if isinstance(content[key], dict) else {}
            content[key] = {**inner, _scalar(pair["key"]): _scalar((pair["value"] or "").strip())}
        elif not bare.startswith((" ", "\t", "-")):
            raise ConfigError(f"{name}: line {number}: is {shortened(bare)}; must be 'key: value'")
    return content


def _without_comment(line: str) -> str:
    """Cut off a comment that begins after a space, outside of quotes."""
    quote = ""
    for i, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and (i == 0 or line[i - 1] in " \t[,{:"):
            quote = character
        elif character == "#" and (i == 0 or line[i - 1] in " \t"):
            return line[:i].rstrip()
    return line.rstrip()


def _value(text: str, place: str) -> Any:
    if text.startswith("[") or text.startswith("{"):
        closing = "]" if text[0] == "[" else "}"
        if not text.endswith(closing):
            raise ConfigError(f"{place}: a list or names in brackets must end on the same line")
        parts = _split(text[1:-1])
        if text[0] == "[":
            return [_scalar(part) for part in parts]
        pairs = [part.partition(":") for part in parts]
        return {_scalar(left): _scalar(right) for left, _, right in pairs}
    return _scalar(text)


def _split(text: str) -> list[str]:
    """Split at commas outside of quotes."""
    parts, quote, start = [], "", 0
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == ",":
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    return text


def quoted(text: str) -> str:
    """Return a text as YAML takes it, whatever is in it: JSON's form is valid YAML."""
    return json.dumps(text, ensure_ascii=False)
