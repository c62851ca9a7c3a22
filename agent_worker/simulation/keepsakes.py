"""What a simulated call leaves behind as files: the recording, the report, the events and the webhook, as they came."""

from __future__ import annotations

import json
from pathlib import Path

from agent_worker.simulation.own_api import Told
from agent_worker.simulation.receiver import Receiver

RECORDING, CALL, REPORT, EVENTS, WEBHOOK = "recording.ogg", "call.json", "report.json", "events.json", "webhook.json"


def keep(folder: Path, told: Told, receiver: Receiver) -> dict[str, Path]:
    """Write the call's files; returns them by what they are.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    if told.recording:
        files["recording"] = folder / RECORDING
        files["recording"].write_bytes(told.recording)
    files["call"] = _write(folder / CALL, told.call)
    files["report"] = _write(folder / REPORT, told.report)
    files["events"] = _write(folder / EVENTS, told.events)
    files["webhook"] = _write(folder / WEBHOOK, _webhook(receiver))
    return files


def _webhook(receiver: Receiver) -> dict[str, object]:
    """Return the report's webhook as the receiver got it, and the demo's own secret to verify it with."""
    report = next((one for one in receiver.received if one.event == "call.report"), None)
    return {
        "note": "The secret was made for this demo alone.",
        "secret": receiver.secret,
        "url": receiver.url,
        "headers": report.headers if report else {},
        "body": report.body if report else "",
    }


def _write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
