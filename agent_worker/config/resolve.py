"""Which value wins: layers of configuration become one, and each key remembers its layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_worker.domain.agent import AgentConfig

_SECRET_WORDS = ("secret", "token", "password", "apikey", "authorization", "credential")
MASK = "***"


@dataclass(frozen=True)
class Layer:
    """Some keys and where they come from.

    Attributes:
        name: what provenance calls it: `default`, `agent`, `job_metadata`.
    """

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """The values in force.

    Attributes:
        provenance: for each key of `values`, its layer; where an object was merged, all its layers.
    """

    values: dict[str, Any]
    provenance: dict[str, str]


def resolve(layers: Iterable[Layer]) -> Resolved:
    """Merge layers, lowest first: scalars and lists are replaced, objects are merged one level deep."""
    values: dict[str, Any] = {}
    origins: dict[str, list[str]] = {}
    for layer in layers:
        for key, value in layer.values.items():
            below = values.get(key)
            if isinstance(below, Mapping) and isinstance(value, Mapping):
                values[key] = {**below, **value}
                origins[key] = [*origins[key], *([layer.name] if value else [])]
            else:
                values[key] = value
                origins[key] = [layer.name]
    return Resolved(values, {key: " < ".join(dict.fromkeys(names)) for key, names in origins.items()})


def agent_layers(agent: AgentConfig) -> list[Layer]:
    """Return an agent's configuration as two layers: what is built in, and what its file says."""
    return [
        Layer("default", AgentConfig(name=agent.name).model_dump(mode="json", by_alias=True, exclude_none=True)),
        Layer("agent", agent.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)),
    ]


def without_secrets(value: Any) -> Any:
    """Return the value with everything masked that its key calls a secret."""
    if isinstance(value, Mapping):
        return {
            key: MASK if _is_secret(str(key)) and inner not in (None, "") else without_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    return value


def _is_secret(key: str) -> bool:
    folded = key.lower().replace("_", "").replace("-", "")
    return folded != "maxtokens" and any(word in folded for word in _SECRET_WORDS)
