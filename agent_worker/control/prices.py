"""Reads the operator's price table, YAML: `{provider: {model or "*": {metric: micro-USD a unit}}}`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import get_args

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from agent_worker.control.cost import PriceTable
from agent_worker.domain.fact import UsageMetric
from agent_worker.errors import ConfigError


def read_prices(path: Path) -> PriceTable:
    """Return the price table of a file.

    Raises:
        ConfigError: the file cannot be read, or is not of that shape; names the place in it.
    """
    try:
        table = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise _problem(path, f"The price table cannot be read ({type(error).__name__}).") from error
    prices: dict[str, dict[str, dict[str, Decimal]]] = {}
    for provider, models in _object(path, table or {}, "the file").items():
        for model, metrics in _object(path, models, provider).items():
            for metric, price in _object(path, metrics, f"{provider}.{model}").items():
                place = f"{provider}.{model}.{metric}"
                if metric not in get_args(UsageMetric):
                    known = ", ".join(get_args(UsageMetric))
                    raise _problem(path, f"{place}: there is no such metric (known: {known}).")
                prices.setdefault(provider, {}).setdefault(model, {})[metric] = _amount(path, price, place)
    return prices


def _object(path: Path, value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _problem(path, f"{place}: must be an object, is {type(value).__name__}.")
    return {str(key): inner for key, inner in value.items()}


def _amount(path: Path, value: object, place: str) -> Decimal:
    try:
        amount = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise _problem(path, f"{place}: must be a number of micro-USD, 0 or more.")
    return amount


def _problem(path: Path, message: str) -> ConfigError:
    return ConfigError(
        "prices_invalid",
        message,
        remedy='Write {provider: {model or "*": {metric: micro-USD a unit}}}.',
        file=str(path),
    )
