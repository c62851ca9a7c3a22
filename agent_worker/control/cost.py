"""What a call cost: usage times the operator's prices, in whole millionths of a dollar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

ANY_MODEL = "*"
FREE = frozenset({"embedded"})
"""Providers that are part of this product and run on its machine."""

CACHED_TOKENS = "llm_cached_tokens"
"""Cached tokens are part of the input tokens; without a price of their own they cost what those cost."""

PriceTable = Mapping[str, Mapping[str, Mapping[str, Decimal]]]
"""provider -> model, or `*` for any -> metric -> micro-USD a unit."""


@dataclass(frozen=True)
class Cost:
    """The bill of one call.

    Attributes:
        micro_usd: the total, a decimal string, as the contract writes it.
        breakdown: one line per provider and metric, camelCase, `keySource` BYOK.
        unpriced: usage the table has no price for; it is in the breakdown at "0".
    """

    micro_usd: str
    breakdown: list[dict[str, Any]] = field(default_factory=list)
    unpriced: list[dict[str, Any]] = field(default_factory=list)


def cost_of(usage: Sequence[Mapping[str, Any]], prices: PriceTable) -> Cost:
    """Price lines of `{provider, model, metric, quantity}`; the total is the sum of the rounded lines.

    Lines of one metric of one model are one line of the bill.
    """
    usage = _added_up(usage)
    cached_priced = {
        _stack(line): Decimal(str(line["quantity"]))
        for line in usage
        if line["metric"] == CACHED_TOKENS and _price(line, prices) is not None
    }
    total = Decimal(0)
    breakdown: list[dict[str, Any]] = []
    unpriced: list[dict[str, Any]] = []
    for line in usage:
        quantity = Decimal(str(line["quantity"]))
        price = _price(line, prices)
        if line["metric"] == "llm_input_tokens":
            quantity = max(Decimal(0), quantity - cached_priced.get(_stack(line), Decimal(0)))
        cost = Decimal(0) if price is None else (quantity * price).quantize(Decimal(1), ROUND_HALF_UP)
        total += cost
        breakdown.append(
            {
                "provider": line["provider"],
                "model": line["model"],
                "metric": line["metric"],
                "quantity": line["quantity"],
                "keySource": "BYOK",
                "costMicroUsd": str(cost),
            }
        )
        if price is None and line["quantity"] and line["metric"] != CACHED_TOKENS:
            unpriced.append({name: line[name] for name in ("provider", "model", "metric")})
    return Cost(str(total), breakdown, unpriced)


def _added_up(usage: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in usage:
        known = lines.setdefault((*_stack(line), line["metric"]), {**line, "quantity": 0})
        known["quantity"] += line["quantity"]
    return list(lines.values())


def telephony_usage(call: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the line was used for, as usage: the seconds from pick-up to the end, by direction as the model.

    Args:
        call: its row, by column.
    """
    if call["ended_at"] is None or call["answered_at"] is None or call["metadata"].get("simulated"):
        return []
    seconds = round((call["ended_at"] - call["answered_at"]).total_seconds(), 1)
    line = {"provider": "sip", "model": call["direction"], "metric": "telephony_seconds", "quantity": seconds}
    return [line] if seconds > 0 else []


def _stack(line: Mapping[str, Any]) -> tuple[str, str | None]:
    return line["provider"], line["model"]


def _price(line: Mapping[str, Any], prices: PriceTable) -> Decimal | None:
    models = prices.get(line["provider"], {})
    for model in (line["model"], ANY_MODEL):
        if model is not None and line["metric"] in models.get(model, {}):
            return models[model][line["metric"]]
    return Decimal(0) if line["provider"] in FREE else None
