"""Tokens that open one room: to a browser that joins a live call, and to ourselves beside one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from livekit import api

from agent_worker.settings import Settings
from agent_worker.telephony.rooms import WEB_IDENTITY_PREFIX

JOIN_TTL = timedelta(minutes=5)
AGENT_TTL = timedelta(hours=6)


@dataclass(frozen=True)
class JoinToken:
    """What a browser joins with, until it expires."""

    token: str
    identity: str
    expires_at: datetime


def join_token(settings: Settings, room: str, display_name: str | None, now: datetime) -> JoinToken:
    """Return a token for this room only: it may speak and listen, and send no data."""
    identity = f"{WEB_IDENTITY_PREFIX}{uuid.uuid4()}"
    secret = settings.livekit_api_secret.get_secret_value()
    grants = api.VideoGrants(
        room_join=True,
        room=room,
        can_publish=True,
        can_publish_sources=["microphone"],
        can_subscribe=True,
        can_publish_data=False,
        can_update_own_metadata=False,
    )
    token = api.AccessToken(settings.livekit_api_key, secret).with_identity(identity).with_grants(grants)
    token = token.with_name(display_name or "Operator").with_ttl(JOIN_TTL)
    return JoinToken(token.to_jwt(), identity, now + JOIN_TTL)


def agent_token(settings: Settings, room: str, identity: str) -> str:
    """Return a token with which a call's process joins a second room as an agent."""
    secret = settings.livekit_api_secret.get_secret_value()
    grants = api.VideoGrants(room_join=True, room=room)
    token = api.AccessToken(settings.livekit_api_key, secret).with_identity(identity).with_grants(grants)
    return token.with_kind("agent").with_ttl(AGENT_TTL).to_jwt()
