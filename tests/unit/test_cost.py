"""What a call costs: sums, what is said when a price is missing, and a price table that cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.control.cost import cost_of, telephony_usage
from agent_worker.control.prices import read_prices
from agent_worker.domain.fact import UsageMetric
from agent_worker.errors import ConfigError

PRICES = {
    "deepgram": {"nova-3": {"stt_seconds": Decimal("71.7")}},
    "openai": {
        "*": {
            "llm_input_tokens": Decimal("0.4"),
            "llm_cached_tokens": Decimal("0.1"),
            "llm_output_tokens": Decimal("1.6"),
        }
    },
}


def _line(provider: str, metric: str, quantity: float, model: str | None = None) -> dict[str, Any]:
    return {"provider": provider, "model": model, "metric": metric, "quantity": quantity}


def test_a_price_is_found_by_model_then_by_any_model() -> None:
    """An exact model wins, `*` serves every other."""
    cost = cost_of(
        [_line("deepgram", "stt_seconds", 10, "nova-3"), _line("openai", "llm_output_tokens", 100, "gpt-x")],
        PRICES,
    )
    assert cost.micro_usd == "877"
    assert [line["costMicroUsd"] for line in cost.breakdown] == ["717", "160"]
    assert {line["keySource"] for line in cost.breakdown} == {"BYOK"}


def test_what_has_no_price_is_said_and_not_silently_free() -> None:
    """A line without a price is in the breakdown at 0 and in `unpriced`."""
    cost = cost_of([_line("deepgram", "stt_seconds", 10, "nova-2")], PRICES)
    assert cost.micro_usd == "0"
    assert cost.unpriced == [{"provider": "deepgram", "model": "nova-2", "metric": "stt_seconds"}]


def test_cached_tokens_are_not_paid_twice() -> None:
    """Cached tokens are part of the input tokens: those with a price of their own leave the input line."""
    usage = [_line("openai", "llm_input_tokens", 1000), _line("openai", "llm_cached_tokens", 600)]
    assert cost_of(usage, PRICES).micro_usd == str(400 * 4 // 10 + 600 // 10)
    only_input = {"openai": {"*": {"llm_input_tokens": Decimal("0.4")}}}
    uncached = cost_of(usage, only_input)
    assert uncached.micro_usd == "400"
    assert uncached.unpriced == []


def test_a_model_that_was_used_twice_is_one_line() -> None:
    """The call's tokens and the analysis's are added up, and what was cached is taken off once."""
    usage = [_line("openai", metric, 500) for metric in ("llm_input_tokens", "llm_cached_tokens")]
    cost = cost_of([*usage, *usage], PRICES)
    assert [(line["metric"], line["quantity"]) for line in cost.breakdown] == [
        ("llm_input_tokens", 1000),
        ("llm_cached_tokens", 1000),
    ]
    assert cost.micro_usd == "100"


def test_what_is_part_of_the_product_is_free_and_priced() -> None:
    """The embedded providers cost nothing, which is known; a price of the operator's stands above that."""
    line = _line("embedded", "tts_characters", 100)
    assert cost_of([line], {}).unpriced == []
    assert cost_of([line], {"embedded": {"*": {"tts_characters": Decimal(2)}}}).micro_usd == "200"


def test_the_line_is_used_from_pick_up_to_the_end() -> None:
    """Seconds of telephony follow from the call itself, apart for each direction; a simulated line costs nothing."""
    start = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    row = {"direction": "outbound", "answered_at": start, "ended_at": start + timedelta(seconds=65), "metadata": {}}
    (line,) = telephony_usage(row)
    assert line == {"provider": "sip", "model": "outbound", "metric": "telephony_seconds", "quantity": 65.0}
    prices = {"sip": {"outbound": {"telephony_seconds": Decimal(150)}, "inbound": {"telephony_seconds": Decimal(1)}}}
    assert cost_of([line], prices).micro_usd == "9750"
    for unused in ({"answered_at": None}, {"ended_at": None}, {"metadata": {"simulated": True}}):
        assert telephony_usage(row | unused) == []


def test_the_shipped_example_is_a_price_table() -> None:
    """Every metric that calls count has a price in it, under the names providers have here."""
    table = read_prices(Path(__file__).parents[2] / "deploy" / "prices.example.yaml")
    metrics = {metric for models in table.values() for prices in models.values() for metric in prices}
    assert metrics == set(get_args(UsageMetric)) - {"recording_seconds"}


@given(st.lists(st.floats(0, 1e7, allow_nan=False), max_size=20))
def test_the_total_is_the_sum_of_the_lines(quantities: list[float]) -> None:
    """What the lines say adds up to the total, whatever the rounding, and is a plain decimal."""
    cost = cost_of([_line("deepgram", "stt_seconds", quantity, "nova-3") for quantity in quantities], PRICES)
    assert int(cost.micro_usd) == sum(int(line["costMicroUsd"]) for line in cost.breakdown)


def test_a_price_table_is_read_exactly(tmp_path: Path) -> None:
    """A price in the file is the same decimal in the table."""
    file = tmp_path / "prices.yaml"
    file.write_text('deepgram:\n  nova-3: {stt_seconds: 71.7}\nopenai:\n  "*": {llm_input_tokens: 0.4}\n')
    assert read_prices(file)["deepgram"]["nova-3"]["stt_seconds"] == Decimal("71.7")
    assert read_prices(file)["openai"]["*"]["llm_input_tokens"] == Decimal("0.4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("deepgram: 3", "deepgram: must be an object"),
        ("deepgram: {nova-3: {minutes: 3}}", "deepgram.nova-3.minutes: there is no such metric"),
        ("deepgram: {nova-3: {stt_seconds: cheap}}", "deepgram.nova-3.stt_seconds: must be a number"),
        ("deepgram: {nova-3: {stt_seconds: -1}}", "must be a number"),
        ("deepgram: {nova-3: {stt_seconds: true}}", "must be a number"),
        ("deepgram: [", "cannot be read"),
    ],
)
def test_a_wrong_price_table_says_where(tmp_path: Path, text: str, says: str) -> None:
    """The error names the file and the place in it."""
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says) as error:
        read_prices(file)
    assert error.value.file == str(file)
