"""Fills in Liquid templates: bounded, without files, and with values that are data and nothing else (contract 3.6).

A name without a value is said as "" and reported; in a condition it is false, and `| default: "x"` says x instead.
`{% render 'house-rules' %}` and `{% include 'house-rules' %}` take a prompt by its name, which stands there in quotes.
The library is loaded with the first text that has a brace in it: most agents never need it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from agent_worker.errors import ConfigError

MISSING = "MISSING_TEMPLATE_VARIABLES"


class Rendered(NamedTuple):
    """A template filled in.

    Attributes:
        missing: what it wanted to say and had no value for, sorted, each once; with dots where nested, `system.foo`.
    """

    text: str
    missing: tuple[str, ...]


def render(text: str, values: Mapping[str, Any], includes: Mapping[str, str]) -> Rendered:
    """Return the template with its names replaced by values. A value that is None is known to be empty.

    Args:
        values: text, numbers, booleans, and lists and mappings of them; nothing in them is ever compiled.
        includes: the prompts the template may take in, by name.

    Raises:
        ConfigError: `template_invalid` or `template_too_large`; the sentence names the line.
    """
    if not _is_template(text):
        return Rendered(text, ())
    from agent_worker.prompting import liquid_engine

    said, missing = liquid_engine.render(text, values, includes)
    return Rendered(said, missing)


def check_template(text: str, includes: Mapping[str, str], declared: Collection[str]) -> list[str]:
    """Return the names the template and what it includes say without a default and that nobody declares, sorted.

    Looks at every branch, and at every filter's name. `system.*` need not be declared; where `declared` names some of
    them with dots (`system.now`), only those are known.

    Raises:
        ConfigError: as for `render`; also where prompts include each other in a circle.
    """
    if not _is_template(text):
        return []
    from agent_worker.prompting import liquid_names

    return liquid_names.undeclared(text, includes, frozenset(declared))


def missing_variables_error(names: Collection[str]) -> ConfigError:
    """Return the error that names every variable without a value."""
    listed = ", ".join(sorted(names))
    return ConfigError(
        MISSING,
        f"The template has no value for: {listed}.",
        remedy="Send them in `variables`, or give them a defaultValue, or write {{ name | default: '…' }}.",
    )


def preload() -> None:
    """Load the library now, so that no caller waits for it."""
    from agent_worker.prompting import liquid_names  # noqa: F401


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text
