"""Shows a simulated call as it goes: who speaks, what was understood, which tools ran, how long it took."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import (
    CallAnswered,
    CallEnded,
    CallOpened,
    EventOccurred,
    Fact,
    TranscriptSpoken,
)
from agent_worker.simulation.caller import CallerTurn
from agent_worker.simulation.own_api import Told
from agent_worker.simulation.receiver import Received

STYLES = {"agent": "cyan", "user": "green", "system": "dim", "aside": "magenta"}
NAMES = {"agent": "agent", "user": "caller", "system": "", "aside": ""}
SHOWN_EVENTS = {
    "call.ringing": "ringing",
    "call.answered": "picked up",
    "tool.started": "tool",
    "tool.ended": "tool done",
    "transfer.unavailable": "transfer (simulated)",
    "call.hold": "caller on hold, music",
    "transfer.screening": "picked up by",
    "transfer.bridging": "accepted by",
    "call.transfer.completed": "caller talks with",
    "call.transfer.failed": "not reached:",
    "call.hangup": "hung up",
}
ASKED = {"agent": "agent", "user": "they"}
REFRESH_PER_SECOND = 8
MOST_SHOWN = 120


class Screen:
    """A live terminal, or plain lines where there is none.

    Args:
        speaking: who is heard right now: `agent`, `caller`, or "".
        quiet: show the summary only.
    """

    def __init__(self, console: Console, *, quiet: bool = False, speaking: Callable[[], str] = lambda: "") -> None:
        self._console = console
        self._quiet = quiet
        self._speaking = speaking
        self._started: datetime | None = None
        self._rows: dict[str, tuple[float, str, str, str]] = {}
        self._printed: set[str] = set()
        self._live: Live | None = None
        self._asides = 0

    def __enter__(self) -> Screen:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(
                get_renderable=self._render,
                console=self._console,
                refresh_per_second=REFRESH_PER_SECOND,
                vertical_overflow="visible",
            )
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._speaking = lambda: ""
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
            self._live = None

    def note(self, text: str) -> None:
        """Say something about the call."""
        if not self._quiet:
            self._console.print(text, style="dim", highlight=False)

    def fact(self, fact: Fact) -> None:
        """Show one fact of the call."""
        if isinstance(fact, CallOpened):
            self._started = fact.at
        elif isinstance(fact, TranscriptSpoken):
            partial = fact.latency_status == "partial" and fact.ended_at is None
            self._row(f"t{fact.index}", fact.started_at, fact.source, fact.text, "…" if partial else _legs(fact))
        elif isinstance(fact, EventOccurred) and (name := SHOWN_EVENTS.get(fact.event_type)):
            detail = fact.payload.get("name") or fact.payload.get("destination") or fact.payload.get("label") or ""
            self._row(fact.id, fact.at, "system", f"{name} {detail}".strip(), "")
        elif isinstance(fact, (CallAnswered, CallEnded)):
            return

    def aside(self, name: str, text: str) -> None:
        """Show what somebody said that the agent does not hear, or nobody recognises."""
        self._asides += 1
        self._row(f"a{self._asides}", utc_now(), "aside", f"{name}: {text}", "")

    def _row(self, key: str, at: datetime, source: str, text: str, note: str) -> None:
        seconds = (at - (self._started or at)).total_seconds()
        self._rows[key] = (seconds, source, text, note)
        if self._live is None and not self._quiet and note != "…" and key not in self._printed:
            self._printed.add(key)
            self._console.print(_line(*self._rows[key]), highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        lines: list[RenderableType] = [_line(*row) for row in sorted(self._rows.values(), key=lambda row: row[0])]
        who = self._speaking()
        status = {"agent": "agent speaks", "caller": "caller speaks"}.get(who, "")
        lines.append(Text(f"        {'●' if status else '○'} {status}", style=STYLES.get(who, "green")))
        return Group(*lines)

    def summary(self, turns: Sequence[CallerTurn], told: Told, received: Sequence[Received], url: str) -> None:
        """Show what the API says the call came to.

        Args:
            received: webhooks, as they came.
            url: where the API was asked.
        """
        call, report = told.call, told.report
        self._console.print(_turns(turns, call["transcript"]["entries"]))
        asked = f"{url}/v1/calls/{call['id']}"
        self._say(f"The call, as its API tells it (GET {asked}):", style="bold")
        self._about("call", f"{call['status']}, {call['duration_seconds']} s, {len(told.events)} events")
        self._about("outcome", f"{report['outcome']}. {report['summary']}")
        self._about("analysis", _analysis(report))
        self._about("wanted", report.get("customer_request") or "")
        self._about("data", ", ".join(f"{name}: {_short(value)}" for name, value in report["structured_data"].items()))
        for transfer in call["transfers"]:
            who = f"{transfer['kind']} to {transfer['metadata'].get('label', '')} ({transfer['transfer_to']})"
            self._about("transfer", f"{who}: {transfer['status']}")
            asked = transfer["metadata"].get("consultation", [])
            self._about("asked", " ".join(f'{ASKED[said["source"]]}: "{said["text"]}"' for said in asked))
        self._about("recording", f"{call['recording_status']}, {told.recording_url or 'no link'}")
        for delivery in told.deliveries:
            verified = any(one.verified and one.headers["webhook-id"] == delivery["id"] for one in received)
            signature = "signature verified by the receiver" if verified else "not verified"
            self._about("webhook", f"{delivery['event']}: {delivery['status']} ({delivery['httpStatus']}), {signature}")

    def files(self, files: Mapping[str, Path]) -> None:
        """Show where the call's files are."""
        self._say("Files:", style="bold")
        for what, path in files.items():
            self._about(what, str(path))

    def _about(self, what: str, text: str) -> None:
        if text:
            self._say(f"  {what:<10} {text}")

    def _say(self, text: str, *, style: str = "") -> None:
        self._console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def _turns(turns: Sequence[CallerTurn], entries: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Turns, as the caller heard them", title_justify="left", title_style="bold")
    table.add_column("the caller said", overflow="fold")
    table.add_column("it was understood as", overflow="fold")
    table.add_column("answered after", justify="right")
    heard = [entry["text"] for entry in entries if entry["source"] == "user"]
    for number, turn in enumerate(turns):
        understood = heard[number] if number < len(heard) else "-"
        latency = f"{turn.latency_ms:.0f} ms" if turn.latency_ms is not None else "-"
        table.add_row(turn.text, understood, latency)
    return table


def _analysis(report: Mapping[str, Any]) -> str:
    """Return how the report was analysed, by whom, and its score."""
    by = "/".join(name for name in (report["analysis_provider"], report["analysis_model"]) if name)
    score = report.get("final_score")
    said = [report["analysis_status"], f"by {by}" if by else "", "" if score is None else f"score {score} of 10"]
    return ", ".join(part for part in said if part)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"


def _line(seconds: float, source: str, text: str, note: str) -> Text:
    style = STYLES[source]
    return Text.assemble(
        (f"{seconds:6.1f}s ", "dim"),
        (f"{NAMES[source]:>6} ", f"bold {style}"),
        (text, style),
        (f"  {note}" if note else "", "dim"),
    )


def _legs(fact: TranscriptSpoken) -> str:
    if fact.conversational_latency_ms is None:
        return ""
    legs = (("turn", fact.eou_ms), ("model", fact.llm_ttft_ms), ("voice", fact.tts_ttfb_ms))
    parts = ", ".join(f"{name} {value:.0f}" for name, value in legs if value is not None)
    return f"[{fact.conversational_latency_ms:.0f} ms: {parts}]"
