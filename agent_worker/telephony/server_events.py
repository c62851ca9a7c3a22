"""What LiveKit's server says by webhook, once it is known to be LiveKit's: signed, body and all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from livekit import api
from livekit.protocol.models import DisconnectReason, ParticipantInfo
from livekit.protocol.webhook import WebhookEvent

from agent_worker.errors import TelephonyError
from agent_worker.settings import Settings
from agent_worker.telephony.rooms import is_web

_OF_ROOMS = frozenset({"room_started", "room_finished"})
_OF_PARTICIPANTS = frozenset({"participant_joined", "participant_left", "participant_connection_aborted"})
KEPT = _OF_ROOMS | _OF_PARTICIPANTS
"""The others tell of tracks, of recordings this product does not make, and of servers."""


@dataclass(frozen=True)
class ServerEvent:
    """One thing LiveKit says.

    Attributes:
        payload: without names and numbers of people, which the call has already.
    """

    id: str
    name: str
    room: str
    at: datetime
    payload: dict[str, Any]


def read_event(settings: Settings, body: bytes, authorization: str) -> ServerEvent | None:
    """Return what was sent, None where it says nothing about a call.

    Raises:
        TelephonyError: it is not from a LiveKit server with our key, or was changed on the way.
    """
    secret = settings.livekit_api_secret.get_secret_value()
    receiver = api.WebhookReceiver(api.TokenVerifier(settings.livekit_api_key, secret))
    try:
        found = receiver.receive(body.decode(), authorization.removeprefix("Bearer ").strip())
    except Exception as error:  # whoever asks is a stranger: whatever the reader raises, it is not signed
        sentence = f"This is not signed with this deployment's LiveKit key ({type(error).__name__})."
        raise TelephonyError("webhook_not_signed", sentence) from error
    if found.event not in KEPT or not found.id or not found.room.name:
        return None
    at = datetime.fromtimestamp(found.created_at or found.room.creation_time, UTC)
    return ServerEvent(found.id[:100], found.event, found.room.name, at, _payload(found))


def _payload(found: WebhookEvent) -> dict[str, Any]:
    said: dict[str, Any] = {"room_sid": found.room.sid}
    if found.event in _OF_PARTICIPANTS:
        participant = found.participant
        kind = ParticipantInfo.Kind.Name(participant.kind).lower()
        said |= {"participant_sid": participant.sid, "kind": "web" if is_web(participant.identity) else kind}
        if found.event != "participant_joined":
            said["disconnect_reason"] = DisconnectReason.Name(participant.disconnect_reason).lower()
    return said
