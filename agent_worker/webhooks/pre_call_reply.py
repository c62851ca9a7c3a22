"""Reads a pre-call webhook's reply: whatever bytes come, it is an answer or a word for what is wrong with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from pydantic.alias_generators import to_camel

from agent_worker.config.overrides import ALIASES

MAX_REJECT_MESSAGE = 500
MAX_DEPTH = 32
"""How deep objects and lists may lie in one another: what comes later walks them by recursion."""

_NESTED = ("pipeline_config", "pipelineConfig")
_RESERVED = frozenset({"reject", "rejectMessage", "reject_message", *_NESTED})

WhatIsWrong = Literal["not_json", "not_an_object", "wrong_type"]


class NotUsable(Exception):
    """The reply is no answer.

    Attributes:
        failure: what is wrong, in a word.
    """

    def __init__(self, failure: WhatIsWrong, detail: str) -> None:
        super().__init__(detail)
        self.failure: WhatIsWrong = failure


@dataclass(frozen=True)
class Said:
    """What a usable reply says."""

    overrides: dict[str, Any] = field(default_factory=dict)
    reject: bool = False
    reject_message: str = ""


def read_reply(body: bytes) -> Said:
    """Return what the body of a 2xx reply says; an empty one says nothing, which is fine.

    Raises:
        NotUsable: it is no JSON object, or what decides about the call has the wrong type.
    """
    if not body.strip():
        return Said()
    value = _parsed(body)
    reject = value.get("reject", False)
    if reject is not None and not isinstance(reject, bool):
        raise NotUsable("wrong_type", "'reject' in the webhook's reply is neither true nor false.")
    message = value.get("rejectMessage", value.get("reject_message"))
    return Said(
        overrides=_merged(value),
        reject=reject is True,
        reject_message=message.strip()[:MAX_REJECT_MESSAGE] if reject and isinstance(message, str) else "",
    )


def _merged(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return one layer of overrides: what is nested replaces the same key at the top, however that is spelled."""
    merged: dict[str, Any] = {name: inner for name, inner in value.items() if name not in _RESERVED}
    for name in _NESTED:
        nested = value.get(name)
        if nested is None:
            continue
        if not isinstance(nested, dict):
            raise NotUsable("wrong_type", f"{name!r} in the webhook's reply is not an object.")
        merged = _over(merged, nested)
    return merged


def _over(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    told = {_canonical(name) for name in high}
    merged = {name: value for name, value in low.items() if _canonical(name) not in told}
    merged.update(high)
    below = low.get("metadata")
    if isinstance(below, dict) and isinstance(high.get("metadata"), dict):
        merged["metadata"] = {**below, **high["metadata"]}  # metadata adds up at every step (contract 3.5)
    return merged


def _canonical(name: str) -> str:
    camel = to_camel(name) if "_" in name else name
    return ALIASES.get(camel, camel)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value: Any = json.loads(body, parse_constant=_not_json, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise NotUsable("not_json", "The webhook's reply is not JSON.") from error
    if not isinstance(value, dict):
        raise NotUsable("not_an_object", "The webhook's reply is JSON, but not an object.")
    if _too_deep(value):
        raise NotUsable("not_json", f"The webhook's reply nests objects or lists more than {MAX_DEPTH} deep.")
    return value


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (part for outer in level for part in (outer.values() if isinstance(outer, dict) else outer))
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return False
    return True
