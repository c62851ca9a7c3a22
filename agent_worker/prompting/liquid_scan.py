"""Looks a template over in linear time before the Liquid library does, which takes minutes over some that are wrong."""

from __future__ import annotations

import re
from difflib import get_close_matches

from agent_worker.errors import ConfigError

MAX_TEMPLATE_CHARS = 100_000
MAX_TAG_CHARS = 2_000

INVALID = "template_invalid"
TOO_LARGE = "template_too_large"

_OPEN = re.compile(r"\{[{%]")
_VERBATIM = re.compile(r"-?\s*(raw|doc)\s*-?")
_VERBATIM_END = re.compile(r"\{%-?\s*end(raw|doc)\s*-?%\}")
_BLANKS = re.compile(r"\s{101}")


def scan(text: str, name: str = "") -> None:
    """Check the size of a template, and that what is opened in it is closed near by.

    Args:
        name: name of the prompt the text is, "" for the template itself.

    Raises:
        ConfigError: `template_invalid` or `template_too_large`.
    """
    if len(text) > MAX_TEMPLATE_CHARS:
        raise problem(f"a template has at most {MAX_TEMPLATE_CHARS} characters.", name=name, code=TOO_LARGE)
    position = 0
    while opened := _OPEN.search(text, position):
        position = _after(text, opened, name)


def _after(text: str, opened: re.Match[str], name: str) -> int:
    start = opened.end()
    closer = "}}" if opened[0] == "{{" else "%}"
    end = text.find(closer, start)
    inner = text[start:end] if end >= 0 else ""
    if end < 0 or _OPEN.search(inner):
        raise problem(
            f"{opened[0]} is not closed with {closer}.",
            line=_line(text, opened),
            name=name,
            remedy="Close it; braces that are to be read out go between {% raw %} and {% endraw %}.",
        )
    if len(inner) > MAX_TAG_CHARS or _BLANKS.search(inner):
        raise problem(f"there is too much between {opened[0]} and {closer}.", line=_line(text, opened), name=name)
    verbatim = _VERBATIM.fullmatch(inner) if closer == "%}" else None
    if verbatim is None:
        return end + 2
    closing = next((found for found in _VERBATIM_END.finditer(text, end) if found[1] == verbatim[1]), None)
    if closing is None:
        missing = f"{{% end{verbatim[1]} %}}"
        raise problem(f"{opened[0]}{inner}%}} is not closed with {missing}.", line=_line(text, opened), name=name)
    return closing.end()


def _line(text: str, opened: re.Match[str]) -> int:
    return text.count("\n", 0, opened.start()) + 1


def problem(
    what: str, *, line: int | None = None, name: str = "", remedy: str = "", code: str = INVALID
) -> ConfigError:
    """Return a mistake of a template; the line stands in the sentence, for it is no line of the agent's file."""
    place = f"prompt {name!r}" if name else "the template"
    where = f"In line {line} of {place}, " if line else f"In {place}, "
    return ConfigError(code, where + what, remedy=remedy)


def meant(name: str, valid: list[str]) -> str:
    """Return a remedy: the name most like this one, or those there are."""
    close = get_close_matches(name, valid, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"There are: {', '.join(sorted(valid)[:50])}." if valid else ""
