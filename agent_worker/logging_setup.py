"""Logs of this process and of its job processes: JSON for machines, text for people; ids, never what was said."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime

from agent_worker.settings import Settings

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SPEECH = frozenset({"text_sent", "tool_calls_sent", "lk.pii.data", "lk.pii.chat_ctx", "lk.pii.transcript"})
"""What the call runtime says beside its messages of what people said."""
_QUIET = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "asyncio",
    "openai",
    "aiosqlite",
    "alembic",
    "sqlalchemy",
    "websockets",
)


_NUMBER = re.compile(r"\+\d{6,15}")

PROCESS_VARIABLE = "AGENT_WORKER_PROCESS"
"""What `up` calls a process whose lines stand among those of others."""


def without_numbers(line: str) -> str:
    """Return a log line with every phone number gone: the bridge names rooms and participants after the caller's."""
    return _NUMBER.sub("+…", line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line; fields given as `extra` stand beside the message."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            **self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= _fields(record)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return without_numbers(json.dumps(entry, default=str))


class TextFormatter(logging.Formatter):
    """A line for a person at a terminal."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = f"{process:<6} " if process else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, its fields behind the message."""
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]  # noqa: DTZ006 - local time on purpose
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        line = f"{moment} {self._process}{record.levelname:<7} {record.getMessage()} {fields}".rstrip()
        return without_numbers(f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line)


def configure_logging(settings: Settings, *, text: bool = False, process: str = "") -> None:
    """Send all logs to standard error in the configured form.

    Args:
        process: names this process on each line; default: what `up` calls it, nothing where it runs alone.
    """
    handler = logging.StreamHandler(sys.stderr)
    process = process or os.environ.get(PROCESS_VARIABLE, "")
    as_text = text or settings.log_format == "text"
    handler.setFormatter(TextFormatter(process) if as_text else JsonFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD | _SPEECH}
