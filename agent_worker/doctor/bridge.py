"""Is there a SIP bridge: one that LiveKit knows, and that answers where carriers send their calls?"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Literal
from urllib.parse import urlsplit

import aiohttp
from livekit import api

from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status
from agent_worker.doctor.sip_options import DEFAULT_PORT, SipAnswer, ask_bridge, split_address
from agent_worker.settings import Settings
from agent_worker.telephony.client import livekit_client
from agent_worker.telephony.rooms import delete_room

NAME = "bridge"
NO_SUCH_ENCRYPTION = 99
REQUEST_SECONDS = 8.0

Knock = Literal["answers", "nobody", "unwell", "unknown"]


async def check_bridge(exam: Examination) -> None:
    """Read trunks and rules, then ask for the bridge from both sides: through LiveKit, and where carriers do."""
    settings = exam.known_settings
    try:
        address, host, port = bridge_address(settings)
    except ValueError as error:
        _fail(
            exam, "address_invalid", f"AGENT_WORKER_SIP_ADDRESS: {error}.", "Write host:port, as sip.example.com:5060."
        )
        return
    async with livekit_client(settings) as client:
        if not await _read_lists(exam, client):
            return
        knock, options = await asyncio.gather(_knock(client), _options(host, port))
    _judge(exam, knock, options, address, guessed=not settings.sip_address)


def bridge_address(settings: Settings) -> tuple[str, str, int]:
    """Return where the bridge takes calls: as text, as host and as port.

    Raises:
        ValueError: the setting is no address.
    """
    if settings.sip_address:
        host, port = split_address(settings.sip_address)
    else:
        host, port = urlsplit(settings.livekit_url).hostname or "", DEFAULT_PORT
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), host, port


async def _read_lists(exam: Examination, client: api.LiveKitAPI) -> bool:
    try:
        trunks = await client.sip.list_inbound_trunk(api.ListSIPInboundTrunkRequest())
        rules = await client.sip.list_dispatch_rule(api.ListSIPDispatchRuleRequest())
    except api.TwirpError as error:
        code, message, remedy = explain_no_sip(str(error.code), error.message)
        _fail(exam, code, message, remedy)
        return False
    except aiohttp.ClientError as error:
        _fail(exam, "lists_failed", f"LiveKit broke off ({type(error).__name__}).", "Read LiveKit's own log.")
        return False
    exam.trunks, exam.rules = list(trunks.items), list(rules.items)
    return True


def explain_no_sip(code: str, message: str) -> tuple[str, str, str]:
    """Return code, cause and remedy of trunks that cannot be listed."""
    if "redis required" in message or "sip not connected" in message:
        return (
            "no_redis",
            "This LiveKit runs without redis, so it has no telephony.",
            "Give livekit-server and livekit-sip the same redis (redis.address in both configurations).",
        )
    if re.search(r"dial tcp|redis", message):
        return "redis_away", "LiveKit cannot reach its redis.", "Start redis, or correct redis.address."
    if code in ("unauthenticated", "permission_denied"):
        return (
            "no_sip_grant",
            "The API key may not manage telephony.",
            "Use a key of the server's own configuration, or one with SIP rights.",
        )
    return "lists_failed", f"LiveKit does not list its trunks ({code}).", "Read LiveKit's own log."


async def _knock(client: api.LiveKitAPI) -> Knock:
    """Ask the bridge, through LiveKit, for something it refuses before it dials: the refusal shows that it is there."""
    room = f"doctor-knock-{secrets.token_hex(6)}"
    request = api.CreateSIPParticipantRequest(
        # a name that no DNS has: should a bridge ever accept this, the call goes nowhere
        trunk=api.SIPOutboundConfig(hostname="doctor.invalid"),
        sip_call_to="doctor",
        sip_number="doctor",
        room_name=room,
        participant_identity="doctor",
        media_encryption=NO_SUCH_ENCRYPTION,  # type: ignore[arg-type]
    )
    try:
        await client.sip.create_sip_participant(request, timeout=REQUEST_SECONDS)
    except api.TwirpError as error:
        return read_knock(str(error.code), error.message)
    except (aiohttp.ClientError, TimeoutError):
        return "unknown"
    await delete_room(client, room)
    return "answers"


def read_knock(code: str, message: str) -> Knock:
    """Return what a refusal says of the bridge."""
    if "no response from servers" in message:
        return "nobody"
    if "encryption" in message:
        return "answers"
    return "unwell" if code == "unavailable" else "unknown"


async def _options(host: str, port: int) -> SipAnswer | OSError | None:
    try:
        return await ask_bridge(host, port)
    except OSError as error:
        return error


def _judge(
    exam: Examination, knock: Knock, options: SipAnswer | OSError | None, address: str, *, guessed: bool
) -> None:
    answers = isinstance(options, SipAnswer)
    if knock == "nobody" and answers:
        _fail(
            exam,
            "bridge_not_connected",
            f"A bridge answers at {address}, but LiveKit knows of none: they do not share a redis.",
            "Give livekit-sip the redis.address of livekit-server.",
        )
    elif knock == "nobody":
        _fail(
            exam,
            "no_bridge",
            "No SIP bridge is connected to LiveKit, so calls reach nobody.",
            "Start livekit-sip with the redis.address and the API key of livekit-server.",
        )
    elif knock == "unwell":
        _fail(
            exam,
            "bridge_unwell",
            "The SIP bridge takes no calls now: it is overloaded or shutting down.",
            "Give livekit-sip more CPU, or raise max_cpu_utilization in its configuration.",
        )
    elif isinstance(options, SipAnswer):
        _praise(exam, options, address)
    else:
        _no_options(exam, options, address, guessed=guessed or knock == "unknown")


def _praise(exam: Examination, options: SipAnswer, address: str) -> None:
    exam.bridge_transport = options.transport
    detail = {"address": address, "transport": options.transport, "sip_status": options.status}
    if options.transport == "TCP":
        exam.report(
            NAME,
            Status.WARNING,
            f"The bridge answers at {address} over TCP, but not over UDP.",
            "Open the port for UDP too, or have the carrier use TCP.",
            code="no_udp",
            detail=detail,
        )
        return
    exam.report(NAME, Status.OK, f"The SIP bridge is connected and answers at {address}.", detail=detail)


def _no_options(exam: Examination, options: OSError | SipAnswer | None, address: str, *, guessed: bool) -> None:
    what = (
        f"The name in {address} cannot be resolved" if isinstance(options, OSError) else f"Nothing answers at {address}"
    )
    detail = {"address": address}
    if guessed:
        exam.report(
            NAME,
            Status.WARNING,
            f"LiveKit has a SIP bridge, but it is not where it was looked for: {what[0].lower()}{what[1:]}.",
            "Set AGENT_WORKER_SIP_ADDRESS to the host:port that carriers send calls to.",
            code="bridge_elsewhere",
            detail=detail,
        )
        return
    exam.report(
        NAME,
        Status.FAILED,
        f"LiveKit has a SIP bridge, but carriers do not reach it: {what[0].lower()}{what[1:]}.",
        "Correct AGENT_WORKER_SIP_ADDRESS, or open that port for UDP in the firewall.",
        code="bridge_unreachable",
        detail=detail,
    )


def _fail(exam: Examination, code: str, message: str, remedy: str) -> None:
    exam.report(NAME, Status.FAILED, message, remedy, code=code)
