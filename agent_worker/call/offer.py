"""Reads what a room says about a call: SIP attributes and the dispatch's metadata become a `CallOffer`."""

from __future__ import annotations

import uuid
from typing import Any

from agent_worker.config.plan import JUNK_METADATA
from agent_worker.domain.call import CallOffer, Direction
from agent_worker.domain.plain_json import depth_within, read_json

MAX_METADATA_BYTES = 64 * 1024
MAX_METADATA_DEPTH = 50


def read_job_metadata(text: str) -> dict[str, Any]:
    """Return the object in a dispatch's metadata; junk is noted under `JUNK_METADATA`, never an error."""
    if not text:
        return {}
    if len(text) > MAX_METADATA_BYTES:
        return {JUNK_METADATA: f"job metadata is larger than {MAX_METADATA_BYTES} bytes"}
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        return {JUNK_METADATA: "job metadata is not JSON"}
    if not isinstance(value, dict):
        return {JUNK_METADATA: "job metadata is not a JSON object"}
    if not depth_within(value, MAX_METADATA_DEPTH):
        return {JUNK_METADATA: f"job metadata is nested more than {MAX_METADATA_DEPTH} deep"}
    return value


def given_call_id(job_metadata: dict[str, Any]) -> str | None:
    """Return the call id a dispatch gives the call, None where it gives none that is a UUID."""
    given = job_metadata.get("callId", job_metadata.get("call_id"))
    try:
        return str(uuid.UUID(given)) if isinstance(given, str) else None
    except ValueError:
        return None


def read_offer(
    *,
    call_id: str,
    room_name: str,
    identity: str,
    attributes: dict[str, str],
    job_metadata: dict[str, Any],
) -> CallOffer:
    """Return the offer of an inbound call; numbers are left as the trunk wrote them."""
    return CallOffer(
        call_id=call_id,
        direction=Direction.INBOUND,
        room_name=room_name,
        caller_number=attributes.get("sip.phoneNumber") or None,
        dialed_number=attributes.get("sip.trunkPhoneNumber") or None,
        caller_identity=identity,
        attributes=attributes,
        job_metadata=job_metadata,
    )
