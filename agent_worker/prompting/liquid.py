"""Fills in Liquid templates: bounded, without files, and with values that are data and nothing else (contract 3.6)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

from liquid import BoundTemplate, DictLoader, Environment, Undefined
from liquid.exceptions import LiquidError, TemplateNotFoundError

from agent_worker.errors import ConfigError

MAX_TEMPLATE_CHARS = 100_000
MAX_OUTPUT_BYTES = 200_000
MAX_LOOPS = 10_000
MAX_DEPTH = 20
MISSING = "MISSING_TEMPLATE_VARIABLES"

_missing: ContextVar[set[str]] = ContextVar("missing")


class Rendered(NamedTuple):
    """A template filled in; `missing` names what it wanted to say and had no value for, sorted."""

    text: str
    missing: tuple[str, ...]


class _Noted(Undefined):
    """A name without a value: false in a condition, and noted where it would have been said."""

    __slots__ = ()
    force_liquid_default = True

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        _missing.get().add(self.name)
        return ""


class _Environment(Environment):
    context_depth_limit = MAX_DEPTH
    block_nesting_limit = MAX_DEPTH
    loop_iteration_limit = MAX_LOOPS
    local_namespace_limit = MAX_OUTPUT_BYTES
    output_stream_limit = MAX_OUTPUT_BYTES


def render(text: str, values: Mapping[str, Any], includes: Mapping[str, str]) -> Rendered:
    """Return the template with its names replaced by values.

    Args:
        includes: templates that `{% render 'name' %}` and `{% include 'name' %}` may name.

    Raises:
        ConfigError: the template is wrong or too large.
    """
    noted: set[str] = set()
    token = _missing.set(noted)
    try:
        return Rendered(_compiled(text, _frozen(includes)).render(**values), tuple(sorted(noted)))
    except LiquidError as error:
        raise _wrong(error) from error
    finally:
        _missing.reset(token)


def check_template(text: str, includes: Mapping[str, str], declared: Collection[str]) -> list[str]:
    """Return the names a template says without a default that are neither declared nor the product's own.

    Raises:
        ConfigError: the template is wrong or too large.
    """
    known = {name: "x" for name in declared}
    return [name for name in render(text, {**known, "system": _Anything()}, includes).missing if name not in known]


def missing_variables_error(names: Collection[str]) -> ConfigError:
    """Return the error that names every variable without a value."""
    listed = ", ".join(sorted(names))
    return ConfigError(MISSING, f"No value for: {listed}.", remedy="Send them in `variables`, or declare a default.")


class _Anything(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "x"

    def __contains__(self, key: object) -> bool:
        return True


def _frozen(includes: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(includes.items()))


@lru_cache(maxsize=4)
def _environment(includes: tuple[tuple[str, str], ...]) -> Environment:
    return _Environment(loader=DictLoader(dict(includes)), undefined=_Noted)


@lru_cache(maxsize=256)
def _compiled(text: str, includes: tuple[tuple[str, str], ...]) -> BoundTemplate:
    if len(text) > MAX_TEMPLATE_CHARS:
        raise ConfigError("template_too_large", f"A template has at most {MAX_TEMPLATE_CHARS} characters.")
    return _environment(includes).from_string(text)


def _wrong(error: LiquidError) -> ConfigError:
    if isinstance(error, TemplateNotFoundError):
        return ConfigError("template_invalid", f"The template includes a prompt that does not exist: {error.message}.")
    return ConfigError("template_invalid", f"The template is wrong: {error.message}.")
