"""Fills a number's `dispatchMetadataTemplate` with the numbers of one call (contract 3.5)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

MAX_DEPTH = 20
MAX_VALUES = 5_000
MAX_TOKEN_CHARS = 200

TOKEN = re.compile(r"\{\{\s*([A-Za-z]+)\s*\}\}")


def fill_tokens(
    template: Mapping[str, Any], tokens: Mapping[str, str | None], verbatim: Collection[str] = ()
) -> dict[str, Any]:
    """Return the template with each `{{token}}` in its texts replaced, in one pass: no value is filled in again.

    A text that is one token without a value becomes None, inside a longer text it is empty; other braces stay, and so
    do keys, and what is nested more than `MAX_DEPTH` deep or comes after `MAX_VALUES` values.

    Args:
        tokens: values by name, such as `callerNumber`; at most `MAX_TOKEN_CHARS` characters of one are used.
        verbatim: top-level keys that are left as they are.
    """
    filling = _Filling({name: value and value[:MAX_TOKEN_CHARS] for name, value in tokens.items()})
    return {key: value if key in verbatim else filling.of(value, 1) for key, value in template.items()}


class _Filling:
    def __init__(self, tokens: Mapping[str, str | None]) -> None:
        self._tokens = tokens
        self._left = MAX_VALUES

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if depth > MAX_DEPTH or self._left < 0:
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {key: self.of(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.of(inner, depth + 1) for inner in value]
        return value

    def _text(self, text: str) -> str | None:
        whole = TOKEN.fullmatch(text)
        if whole and whole[1] in self._tokens:
            return self._tokens[whole[1]]
        return TOKEN.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        name = found[1]
        return (self._tokens[name] or "") if name in self._tokens else found[0]
