"""Reads a pre-call webhook's reply: whatever bytes come, it is an answer or a word for what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_worker.config.overrides import canonical
from agent_worker.domain.plain_json import depth_within, read_json

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
    """Return one layer of overrides under the agent's own names: what is nested wins over the top (contract 3.5)."""
    merged: dict[str, Any] = {}
    _lay(merged, {name: inner for name, inner in value.items() if name not in _RESERVED})
    for name in _NESTED:
        nested = value.get(name)
        if nested is None:
            continue
        if not isinstance(nested, dict):
            raise NotUsable("wrong_type", f"{name!r} in the webhook's reply is not an object.")
        _lay(merged, nested)
    return merged


def _lay(merged: dict[str, Any], level: Mapping[str, Any]) -> None:
    for name, inner in level.items():
        key, value = canonical(name, inner)
        below = merged.get(key)
        merged[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value = read_json(body)
    except (ValueError, RecursionError) as error:
        raise NotUsable("not_json", "The webhook's reply is not JSON.") from error
    if not isinstance(value, dict):
        raise NotUsable("not_an_object", "The webhook's reply is JSON, but not an object.")
    if not depth_within(value, MAX_DEPTH):
        raise NotUsable("not_json", f"The webhook's reply nests objects or lists more than {MAX_DEPTH} deep.")
    return value
