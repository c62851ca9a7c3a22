"""The client of LiveKit's server API, opened with this process's settings."""

from __future__ import annotations

from livekit import api

from agent_worker.settings import Settings


def livekit_client(settings: Settings) -> api.LiveKitAPI:
    """Return a client; it is an async context manager, to be entered in the loop it is used in."""
    secret = settings.livekit_api_secret.get_secret_value()
    return api.LiveKitAPI(settings.livekit_url, settings.livekit_api_key, secret)
