"""Dialling a person and handing a caller over: LiveKit's two SIP verbs, with what their answers mean.

An answer that is lost is not a refusal: what came of it is then read from the leg itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

import aiohttp
from livekit import api

from agent_worker.domain.dialling import SipAddress, sip_address
from agent_worker.domain.transfer import TransferCause, cause_of

logger = logging.getLogger("agent_worker.telephony")

LEG_GONE_SECONDS = 3.0
"""How long a caller whose REFER has an unknown outcome is watched: the bridge says BYE 1 s after a success."""

GRACE_SECONDS = 3.0
"""Beyond the time it may ring, before a verb that does not return is given up."""


NOTHING_SENT = frozenset(
    {
        api.TwirpErrorCode.NOT_FOUND,
        api.TwirpErrorCode.UNAVAILABLE,
        api.TwirpErrorCode.UNAUTHENTICATED,
        api.TwirpErrorCode.PERMISSION_DENIED,
        api.TwirpErrorCode.FAILED_PRECONDITION,
        api.TwirpErrorCode.UNIMPLEMENTED,
    }
)
"""Answers that prove that no REFER went out: a leg that ends now has hung up."""


@dataclass(frozen=True)
class SipOutcome:
    """How an attempt came out on the SIP side.

    Attributes:
        cause: None where it succeeded.
    """

    cause: TransferCause | None
    sip_status_code: int | None = None
    sip_status: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.cause is None


SUCCESS = SipOutcome(None, 200, "OK")


async def refer(
    client: api.LiveKitAPI,
    *,
    room: str,
    identity: str,
    to: str,
    headers: Mapping[str, str],
    play_dialtone: bool,
    ringing_seconds: int,
    leg_gone: Awaitable[object],
) -> SipOutcome:
    """Ask the caller's own carrier to call somebody else (SIP REFER), and return what it made of that.

    Success is only what a NOTIFY, or the end of the leg after an accepted REFER, says.

    Args:
        to: `tel:`, `sip:` or `sips:` URI.
        leg_gone: done once the caller's leg has left the room.
    """
    request = api.TransferSIPParticipantRequest(
        participant_identity=identity, room_name=room, transfer_to=to, play_dialtone=play_dialtone, headers=headers
    )
    request.ringing_timeout.FromSeconds(ringing_seconds)
    try:
        async with asyncio.timeout(ringing_seconds + GRACE_SECONDS):
            await client.sip.transfer_sip_participant(request)
        return SUCCESS
    except api.SipCallError as error:
        return SipOutcome(cause_of(error.sip_status_code), error.sip_status_code, error.sip_status)
    except api.TwirpError as error:
        if error.code == api.TwirpErrorCode.DEADLINE_EXCEEDED:
            return SipOutcome(TransferCause.NO_ANSWER)
        if error.code == api.TwirpErrorCode.INVALID_ARGUMENT:
            return SipOutcome(TransferCause.INVALID_NUMBER)
        if error.code in NOTHING_SENT:
            logger.warning("caller not handed over", extra={"code": error.code})
            return SipOutcome(TransferCause.DIAL_FAILED)
        logger.info("outcome of a transfer unknown, watching the leg", extra={"code": error.code})
    except (TimeoutError, aiohttp.ClientError) as error:
        logger.info("outcome of a transfer unknown, watching the leg", extra={"error": type(error).__name__})
    return await _as_the_leg_says(leg_gone)


async def _as_the_leg_says(leg_gone: Awaitable[object]) -> SipOutcome:
    try:
        async with asyncio.timeout(LEG_GONE_SECONDS):
            await leg_gone
    except TimeoutError:
        return SipOutcome(TransferCause.NOT_CONFIRMED)
    return SUCCESS


async def find_trunk(client: api.LiveKitAPI, shown_number: str | None) -> str | None:
    """Return the outbound trunk that has this number, else the only one there is; None where that leaves a choice."""
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            listing = await client.sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest())
    except (api.TwirpError, TimeoutError, aiohttp.ClientError) as error:
        logger.warning("outbound trunks not listed", extra={"error": type(error).__name__})
        return None
    with_number = [trunk for trunk in listing.items if shown_number in trunk.numbers]
    found = with_number or (listing.items if len(listing.items) == 1 else [])
    return found[0].sip_trunk_id if found else None


def _at_its_host(address: SipAddress) -> api.SIPOutboundConfig:
    transport = f"SIP_TRANSPORT_{address.transport.upper() or 'AUTO'}"
    hostname = f"{address.host}:{address.port}" if address.port else address.host
    return api.SIPOutboundConfig(hostname=hostname, transport=getattr(api.SIPTransport, transport))


async def dial(
    client: api.LiveKitAPI,
    *,
    room: str,
    identity: str,
    to: str,
    trunk_id: str | None,
    shown_number: str | None,
    ringing_seconds: int,
) -> SipOutcome:
    """Dial a person into a room and return once they have answered, or will not.

    Args:
        to: a number, dialled over the trunk, or a SIP address, dialled at its host without one.
    """
    address = sip_address(to)
    if address is not None and not address.user:
        return SipOutcome(TransferCause.INVALID_NUMBER)  # the bridge dials users, not hosts
    request = api.CreateSIPParticipantRequest(
        sip_trunk_id=trunk_id or "",
        trunk=_at_its_host(address) if address else None,
        sip_call_to=address.user if address else to.removeprefix("tel:"),
        sip_number=shown_number or "",
        room_name=room,
        participant_identity=identity,
        wait_until_answered=True,
    )
    request.ringing_timeout.FromSeconds(ringing_seconds)
    try:
        async with asyncio.timeout(ringing_seconds + GRACE_SECONDS):
            await client.sip.create_sip_participant(request)
        return SUCCESS
    except api.SipCallError as error:
        return SipOutcome(cause_of(error.sip_status_code), error.sip_status_code, error.sip_status)
    except api.TwirpError as error:
        if error.code in (api.TwirpErrorCode.CANCELED, api.TwirpErrorCode.DEADLINE_EXCEEDED):
            return SipOutcome(TransferCause.NO_ANSWER)
        logger.warning("person not dialled", extra={"code": error.code})
    except TimeoutError:
        return SipOutcome(TransferCause.NO_ANSWER)
    except aiohttp.ClientError as error:
        logger.warning("person not dialled", extra={"error": type(error).__name__})
    return SipOutcome(TransferCause.DIAL_FAILED)
