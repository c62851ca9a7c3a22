"""Fills a number's `dispatchMetadataTemplate` with the numbers of one call (contract 3.5)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

MAX_DEPTH = 20
MAX_VALUES = 5_000
TOKEN = re.compile(r"\{\{\s*([A-Za-z]+)\s*\}\}")


def fill_tokens(
    template: Mapping[str, Any], tokens: Mapping[str, str | None], verbatim: Collection[str] = ()
) -> dict[str, Any]:
    """Return the template with each `{{token}}` in its texts replaced, in one pass: no value is filled in again.

    A text that is one token without a value becomes None, inside a longer text it is empty; other braces stay.

    Args:
        verbatim: top-level keys that are left as they are.
    """
    return {key: value if key in verbatim else _fill(value, tokens, 1) for key, value in template.items()}


def _fill(value: Any, tokens: Mapping[str, str | None], depth: int) -> Any:
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        whole = TOKEN.fullmatch(value.strip())
        if whole and whole[1] in tokens:
            return tokens[whole[1]]
        return TOKEN.sub(lambda found: (tokens[found[1]] or "") if found[1] in tokens else found[0], value)
    if isinstance(value, Mapping):
        return {key: _fill(inner, tokens, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, tokens, depth + 1) for inner in value]
    return value
