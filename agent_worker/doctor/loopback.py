"""`doctor --call`: the whole way of a call, told by the stage it reached."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livekit import api, rtc

from agent_worker.config.numbers import to_e164
from agent_worker.doctor.bridge import bridge_address
from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status
from agent_worker.doctor.loopback_call import RATE, LoopbackCall, LoopbackOrder, place_call
from agent_worker.doctor.providers import words_of
from agent_worker.telephony.matching import Caution, Verdict

NAME = "call"
UNANSWERED = "canceled"
"""LiveKit's code of a call that nobody answered in time."""

LATE_SECONDS = 2.0
QUIET_DBFS = -40.0
_TRANSPORTS = {"UDP": api.SIPTransport.SIP_TRANSPORT_UDP, "TCP": api.SIPTransport.SIP_TRANSPORT_TCP}
_ENCRYPTION = {
    "disable": api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE,
    "allow": api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_ALLOW,
    "require": api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_REQUIRE,
}


@dataclass(frozen=True)
class Expected:
    """What is known of the number before it is dialled.

    Attributes:
        silent: the agent waits for the caller to speak first.
        only_from_addresses: the trunk takes calls from certain addresses only, and ours comes from the bridge's own.
    """

    silent: bool = False
    only_from_addresses: bool = False
    needs_password: bool = False


async def check_call(exam: Examination) -> None:
    """Call one of our numbers from the bridge itself, and say how far the call came and what was heard."""
    chosen = _choose_number(exam)
    if chosen is None:
        return
    number, verdict = chosen
    try:
        call = await place_call(exam.known_settings, _order(exam, number, verdict))
    except (api.TwirpError, rtc.ConnectError) as error:
        exam.report(
            NAME,
            Status.FAILED,
            f"The room for the call cannot be joined ({type(error).__name__}).",
            "Open LiveKit's media ports (rtc.udp_port, rtc.tcp_port) towards this machine.",
            code="room_not_joined",
        )
        return
    words = await words_of(exam, number, rtc.AudioFrame(call.audio.tobytes(), RATE, 1, call.audio.size))
    expected = Expected(
        silent=_waits_for_caller(exam, number),
        only_from_addresses=Caution.ONLY_FROM_ADDRESSES in verdict.cautions,
        needs_password=Caution.NEEDS_PASSWORD in verdict.cautions,
    )
    status, code, message, remedy = judge_call(call, number, expected, words)
    exam.report(NAME, status, message, remedy, code=code, detail=_detail(call, number, words))


def judge_call(call: LoopbackCall, number: str, expected: Expected, words: str = "") -> tuple[Status, str, str, str]:
    """Return status, code, message and remedy of a call that is over.

    Args:
        words: what a recogniser made of it, "" where none could tell.
    """
    if call.answered is None or call.failure:
        if call.reached_room is None and expected.only_from_addresses and call.failure == UNANSWERED:
            return (
                Status.WARNING,
                "address_not_allowed",
                f"The trunk of {number} does not take calls from the bridge's own address, so it cannot be tried so.",
                "Call the number from a telephone, or add the bridge's address to allowedAddresses for a moment.",
            )
        return Status.FAILED, *_why_unanswered(call, number)
    return _what_was_heard(call, number, expected, words)


def _why_unanswered(call: LoopbackCall, number: str) -> tuple[str, str, str]:
    after = f"after {call.given_up:.0f} s" if call.given_up else "at once"
    if call.failure == "no_bridge":
        return "no_bridge", "No SIP bridge is connected to LiveKit.", "Start livekit-sip."
    if call.failure == "password_refused" or call.sip_status in (401, 403, 407):
        return (
            "password_refused",
            f"The trunk of {number} refuses the user name or password of its SIP connection.",
            "Correct the variables of usernameEnv and passwordEnv, then run `provision`.",
        )
    if call.sip_status in (400, 488):
        return (
            "no_common_media",
            f"The bridge finds no common codec or encryption for {number} ({call.sip_status}).",
            "Set mediaEncryption of the SIP connection and of the trunk alike.",
        )
    if call.sip_status == 503:
        return (
            "clash",
            f"The bridge answers 503 to calls to {number}: two trunks or two rules claim it, or it is overloaded.",
            "Delete the second trunk or rule; if there is none, give livekit-sip more CPU.",
        )
    if call.agent_joined is not None:
        return (
            "not_picked_up",
            f"An agent joined the call to {number} after {call.agent_joined:.1f} s, but did not pick up.",
            f"Read the worker's log of the room {call.inbound_room}.",
        )
    if call.reached_room is not None:
        return (
            "no_agent_joined",
            f"The call to {number} rang, trunk and rule matched, but no agent joined: given up {after}.",
            "Start a worker of the name the rule dispatches; if one runs, read its log.",
        )
    if call.sip_status:
        return (
            "refused",
            f"The call to {number} was answered with {call.sip_status} before any room.",
            "Read livekit-sip's log of this call.",
        )
    if call.ringing is not None:
        return (
            "nobody_there",
            f"The call to {number} rang, but no trunk and rule took it: silence, given up {after}.",
            "Run `python -m agent_worker provision`, and look at what the check of the numbers says.",
        )
    return (
        "bridge_deaf",
        "The bridge does not reach its own address: the INVITE got no answer at all.",
        "Set AGENT_WORKER_SIP_ADDRESS to an address that reaches the bridge from its own machine too.",
    )


def _what_was_heard(call: LoopbackCall, number: str, expected: Expected, words: str) -> tuple[Status, str, str, str]:
    answered = f"{number} was answered after {call.answered:.1f} s"
    if call.first_sound is None and call.hung_up is not None:
        return (
            Status.FAILED,
            "hung_up",
            f"{answered} and hung up without a word.",
            f"Read the worker's log of the room {call.inbound_room or 'of this call'}.",
        )
    if call.first_sound is None and expected.silent:
        return Status.OK, "", f"{answered}; the agent waits for the caller to speak.", ""
    if call.first_sound is None and call.audio.size == 0:
        return (
            Status.FAILED,
            "no_audio",
            f"{answered}, but no audio came.",
            "Open the bridge's RTP ports and LiveKit's media ports, and see that the bridge announces its own address.",
        )
    if call.first_sound is None:
        return (
            Status.FAILED,
            "silence",
            f"{answered}, but only silence was heard.",
            "Look at what the check of the providers says of the agent's voice, then read the worker's log.",
        )
    heard = (
        f"{answered}; sound {call.first_sound:.1f} s later, {call.speech_seconds:.1f} s of speech "
        f"at {call.level_dbfs:.0f} dBFS" + (f": “{words.rstrip('.')}”" if words else "")
    )
    if call.first_sound > LATE_SECONDS:
        return Status.WARNING, "late", f"{heard}.", "Look at the voice's answer time in the check of the providers."
    if call.level_dbfs < QUIET_DBFS:
        return Status.WARNING, "quiet", f"{heard}, which is quiet.", "Raise audioOutput.gainDb of the agent."
    return Status.OK, "", f"{heard}.", ""


def _choose_number(exam: Examination) -> tuple[str, Verdict] | None:
    if exam.number is not None:
        number = to_e164(exam.number) or exam.number
        if number not in exam.verdicts:
            known = ", ".join(list(exam.verdicts)[:5]) or "none"
            exam.report(
                NAME,
                Status.FAILED,
                f"{number} is no number of ours that takes calls.",
                f"Choose one that does: {known}.",
                code="number_unknown",
            )
            return None
        if not exam.verdicts[number].matches:
            exam.report(NAME, Status.SKIPPED, f"Not placed because {number} failed the check of the numbers.")
            return None
        return number, exam.verdicts[number]
    for number, verdict in exam.verdicts.items():
        if verdict.matches:
            return number, verdict
    exam.report(NAME, Status.SKIPPED, "Not placed because there is no number that a call would reach.")
    return None


def _order(exam: Examination, number: str, verdict: Verdict) -> LoopbackOrder:
    catalog, settings = exam.known_catalog, exam.known_settings
    connection = catalog.connections.get(catalog.numbers[number].config.sip_connection or "")
    trunk = verdict.trunk
    # what the carrier would present: the connection's own variables, else what the trunk itself tells
    username = exam.env.get((connection.username_env if connection else None) or "", "")
    password = exam.env.get((connection.password_env if connection else None) or "", "")
    if trunk is not None and not username:
        username, password = trunk.auth_username, trunk.auth_password
    callers = list(trunk.allowed_numbers) if trunk is not None else []
    return LoopbackOrder(
        number=number,
        address=bridge_address(settings)[0],
        caller=callers[0] if callers else f"doctor{secrets.token_hex(4)}",
        transport=_TRANSPORTS.get(exam.bridge_transport, api.SIPTransport.SIP_TRANSPORT_UDP),
        username=username,
        password=password,
        media_encryption=_ENCRYPTION[connection.media_encryption] if connection else _ENCRYPTION["disable"],
    )


def _waits_for_caller(exam: Examination, number: str) -> bool:
    entry = exam.known_catalog.numbers[number].config
    agent = exam.known_catalog.agents.get(entry.agent_id or "")
    return agent is not None and not agent.first_message.strip()


def _detail(call: LoopbackCall, number: str, words: str) -> Mapping[str, Any]:
    def shown(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds, 2)

    return {
        "number": number,
        "ringing_s": shown(call.ringing),
        "reached_room_s": shown(call.reached_room),
        "agent_joined_s": shown(call.agent_joined),
        "answered_s": shown(call.answered),
        "first_sound_s": shown(call.first_sound),
        "speech_s": shown(call.speech_seconds),
        "level_dbfs": shown(call.level_dbfs) if call.speech else None,
        "hung_up_s": shown(call.hung_up),
        "failure": call.failure,
        "sip_status": call.sip_status,
        "room": call.inbound_room,
        "heard": words,
    }
