"""What keeps a transfer from beginning, asked in the order an operator or a model meets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from agent_worker.call.live_call import LiveCall, TransferRefused
from agent_worker.call.transfer.hold_audio import HoldAudio
from agent_worker.call.transfer.hourly_cap import HourlyCap
from agent_worker.call.transfer.transfers import Transfers, TransferServices
from agent_worker.domain.dialling import DialPolicy
from agent_worker.domain.transfer import MOST_ATTEMPTS, TransferPlan
from agent_worker.egress.policy import AddressPolicy
from agent_worker.settings import Settings

SALES = "+12015550123"


@dataclass
class Call:
    """A call, as far as it is asked before anybody is dialled."""

    ending: bool = False
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def record_event(self, event_type: str, **payload: Any) -> None:
        self.events.append((event_type, payload))


def plan(*to: str) -> TransferPlan:
    return TransferPlan.model_validate({"kind": "warm", "destinations": [{"to": number} for number in to]})


def transfers(call: Call, cap: HourlyCap) -> Transfers:
    def unused(*_: Any) -> Any:
        raise AssertionError("nobody is to be called")

    services = TransferServices(
        Settings(),
        DialPolicy.of("US"),
        cap,
        make_leg=unused,
        make_stack=unused,
        briefing=unused,
        hold_audio=HoldAudio(AddressPolicy.of("")),
    )
    return Transfers(cast(LiveCall, call), services)


async def refused(call: Call, cap: HourlyCap, wanted: TransferPlan, attempts: int = 0) -> TransferRefused:
    asked = transfers(call, cap)
    asked.attempts += [cast(Any, None)] * attempts
    with pytest.raises(TransferRefused) as caught:
        asked.begin(wanted)
    assert len(asked.attempts) == attempts
    return caught.value


async def test_a_full_hour_is_said_in_a_sentence_and_in_the_calls_events(tmp_path: Path) -> None:
    """With a code of its own: it passes."""
    cap = HourlyCap(tmp_path / "cap", 1)
    assert cap.take()
    call = Call()
    refusal = await refused(call, cap, plan(SALES))
    assert refusal.code == "TOO_MANY_TRANSFERS"
    assert str(refusal).startswith("Nobody can be called for now")
    assert call.events == [("transfer.refused", {"reason": str(refusal)})]


async def test_what_is_refused_for_another_reason_is_not_counted(tmp_path: Path) -> None:
    """A number that may not be dialled, also where it is not the first; too many attempts; a call that is over."""
    cap, call = HourlyCap(tmp_path / "cap", 1), Call()
    assert (await refused(call, cap, plan(SALES, "+442071838750"))).code == "DESTINATION_NOT_ALLOWED"
    assert (await refused(call, cap, plan("+19005550123"))).code == "DESTINATION_NOT_ALLOWED"
    assert (await refused(call, cap, plan(SALES), attempts=MOST_ATTEMPTS)).code == "TOO_MANY_ATTEMPTS"
    call.ending = True
    assert (await refused(call, cap, plan(SALES))).code == "CALL_NOT_LIVE"
    assert "550123" not in repr(call.events)
    assert cap.take()
