"""What an agent says under a tool's `config`, held against the model that the tool declares for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent_worker.config.agent_files import CheckedAgent
from agent_worker.config.yaml_file import Location, expectation, remedy_for_unknown
from agent_worker.domain.dialling import DIAL_POLICY, DialPolicy
from agent_worker.domain.tool_ref import BuiltinSource
from agent_worker.errors import ConfigError

MOST_OF_A_TOOL = 20
"""Mistakes of one tool that are told."""

MOST_CHARS = 100
"""Of a key that is told."""


def tool_config_problems(
    found: CheckedAgent, models: Mapping[str, type[BaseModel]], policy: DialPolicy
) -> Iterator[ConfigError]:
    """Yield what keeps the agent's tools from working with what it says under their `config`.

    Args:
        models: what can be said, by the function's name; of a function that is not there nothing is known.
        policy: whom calls may be transferred to.
    """
    for index, tool in enumerate(found.agent.tools):
        model = models.get(tool.function or "")
        if model is None:
            continue
        inner = ("source", "config") if isinstance(tool.source, BuiltinSource) else ("config",)
        try:
            model.model_validate(tool.function_config, context={DIAL_POLICY: policy})
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            for detail in islice(details, MOST_OF_A_TOOL):
                yield _problem(found, ("tools", index, *inner), detail, model)


def config_mistake(config: Mapping[str, object], model: type[BaseModel]) -> str | None:
    """Return where a tool's configuration is wrong first and how, without what it says there; None where it is not."""
    try:
        model.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        inner = tuple(part[:MOST_CHARS] if isinstance(part, str) else part for part in first["loc"])
        return f"{_dotted(inner)} {expectation(first)}"
    return None


def _problem(found: CheckedAgent, place: Location, detail: ErrorDetails, model: type[BaseModel]) -> ConfigError:
    of_key = detail["loc"][-1:] == ("[key]",)
    inner = tuple(part[:MOST_CHARS] if isinstance(part, str) else part for part in detail["loc"])
    location = (*place, *(inner[:-1] if of_key else inner))
    if detail["type"] == "extra_forbidden":
        message = f"There is no key {_dotted(inner)!r}."
        return found.problem("tool_config_key_unknown", location, message, remedy_for_unknown(model, inner))
    if detail["type"] == "missing":
        return found.problem("tool_config_key_missing", location, f"The key {_dotted(inner)!r} is missing.")
    where = f"{_dotted(inner[:-2])}: the key {inner[-2]!r}" if of_key else _dotted(inner)
    return found.problem("tool_config_wrong", location, f"{where} {expectation(detail)}.")


def _dotted(inner: Location) -> str:
    return "config" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
