"""Which value wins: layers of configuration become one, and each value remembers its layer (contract 3.5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

from agent_worker.domain.agent import AgentConfig

LayerName = Literal["default", "number", "agent", "per_call", "pre_call"]
LAYERS: tuple[LayerName, ...] = ("default", "number", "agent", "per_call", "pre_call")
"""From the lowest to the highest."""

FREE_KEYS = frozenset({"metadata"})
"""Objects of the operator's own, in which an explicit null is a value."""

CLEARED = "cleared"
MASK = "***"
_SECRET_WORDS = frozenset(
    {"secret", "secrets", "token", "password", "passwd", "apikey", "authorization", "credential", "credentials"}
)


@dataclass(frozen=True)
class Layer:
    """Some keys and where they come from; None clears what the layers below say."""

    name: LayerName
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """The values in force.

    Attributes:
        provenance: the layer of each value: `voice`, and for each key of an object `intent.language`; where a layer
            cleared a value, `per_call (cleared)`.
    """

    values: dict[str, Any]
    provenance: dict[str, str]


def resolve(layers: Iterable[Layer]) -> Resolved:
    """Merge layers, lowest first: scalars and lists are replaced, objects merge one level deep, None clears.

    What is cleared falls back to the lowest layer, the built-in defaults, or is gone where that says nothing.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    floor: Mapping[str, Any] | None = None
    for layer in layers:
        floor = layer.values if floor is None else floor
        for key, value in layer.values.items():
            if value is None:
                _set(values, origins, key, floor.get(key), f"{layer.name} ({CLEARED})")
            elif isinstance(value, Mapping):
                if not isinstance(values.get(key), Mapping):
                    _forget(values, origins, key)
                _merge(values, origins, key, value, floor.get(key), layer.name)
            else:
                _set(values, origins, key, value, layer.name)
    return Resolved(values, origins)


def _forget(values: dict[str, Any], origins: dict[str, str], key: str) -> None:
    values.pop(key, None)
    for known in [name for name in origins if name == key or name.startswith(f"{key}.")]:
        del origins[known]


def _set(values: dict[str, Any], origins: dict[str, str], key: str, value: Any, origin: str) -> None:
    _forget(values, origins, key)
    if value is None:
        origins[key] = origin
    elif isinstance(value, Mapping):
        values[key] = dict(value)
        origins.update(_origins_of(key, value, origin))
    else:
        values[key] = value
        origins[key] = origin


def _merge(
    values: dict[str, Any], origins: dict[str, str], key: str, above: Mapping[str, Any], floor: Any, origin: str
) -> None:
    merged = dict(values.get(key) or {})
    defaults = floor if isinstance(floor, Mapping) else {}
    origins.pop(key, None)
    for name, value in above.items():
        if value is None and key not in FREE_KEYS:
            origins[f"{key}.{name}"] = f"{origin} ({CLEARED})"
            if defaults.get(name) is None:
                merged.pop(name, None)
            else:
                merged[name] = defaults[name]
        else:
            origins[f"{key}.{name}"] = origin
            merged[name] = value
    values[key] = merged
    if not merged:
        origins[key] = origin


def _origins_of(key: str, value: Mapping[str, Any], origin: str) -> dict[str, str]:
    return {f"{key}.{name}": origin for name in value} or {key: origin}


@lru_cache(maxsize=1)
def default_layer() -> Layer:
    """Return what is built in."""
    built_in = AgentConfig(name="-").model_dump(mode="json", by_alias=True, exclude_none=True)
    return Layer("default", {key: value for key, value in built_in.items() if key not in ("name", "numbers")})


def agent_layer(agent: AgentConfig) -> Layer:
    """Return what an agent's file or row says, and nothing that it leaves to others."""
    said = agent.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Layer("agent", {key: value for key, value in said.items() if key not in ("numbers", "prompt")})


def without_secrets(value: Any) -> Any:
    """Return the configuration with everything masked that its key calls a secret.

    What a tool sends along to authenticate is masked too: its headers, and what follows `?` in its URL. `metadata` is
    the operator's own and stays as it is.
    """
    if isinstance(value, Mapping):
        return {key: _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    return value


def _masked(key: str, value: Any) -> Any:
    if key in FREE_KEYS or value in (None, "", {}, []):
        return value
    if key == "authHeaders" and isinstance(value, list):
        return [{**header, "value": MASK} if isinstance(header, Mapping) else MASK for header in value]
    if key == "headers" and isinstance(value, Mapping):
        return dict.fromkeys(value, MASK)
    if key == "url" and isinstance(value, str):
        return value.partition("?")[0] + (f"?{MASK}" if "?" in value else "")
    if _is_secret(key):
        return dict.fromkeys(value, MASK) if isinstance(value, Mapping) else MASK
    return without_secrets(value)


def _is_secret(key: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", key)
    folded = [word.lower() for word in words]
    return bool(_SECRET_WORDS & {*folded, *(a + b for a, b in pairwise(folded))})
