"""Logs hold ids and figures, nobody's number."""

from __future__ import annotations

import json
import logging

from agent_worker.logging_setup import JsonFormatter, TextFormatter


def record(**extra: object) -> logging.LogRecord:
    line = logging.makeLogRecord({"name": "x", "levelname": "INFO", "msg": "connecting to call-_+15559999_abc"})
    line.__dict__.update(extra)
    return line


def test_phone_numbers_are_masked_wherever_they_stand() -> None:
    """The bridge names rooms after callers; neither message nor field shows the number."""
    fields = {"room": "call-_+15559999_abc", "call_id": "5b2c"}
    for formatter in (JsonFormatter(), TextFormatter()):
        text = formatter.format(record(**fields))
        assert "15559999" not in text
        assert "call-_" in text
    entry = json.loads(JsonFormatter().format(record(**fields)))
    assert entry["call_id"] == "5b2c"
    assert entry["level"] == "INFO"
