"""Voice activity detection: the detector bundled with LiveKit Agents, or the silero plugin on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent_worker.errors import ProviderError
from agent_worker.providers.vendor import is_importable

if TYPE_CHECKING:
    from livekit.agents import vad

VAD_VARIABLE = "AGENT_WORKER_VAD"
CHOICES = ("local", "silero")


def vad_problem(env: Mapping[str, str]) -> ProviderError | None:
    """Return why the detector asked for cannot be used, or None where it can."""
    choice = env.get(VAD_VARIABLE) or "local"
    if choice not in CHOICES:
        return ProviderError(
            "vad_unknown", f"{VAD_VARIABLE} is {choice!r}.", remedy=f"Set it to one of: {', '.join(CHOICES)}."
        )
    if choice == "silero" and not is_importable("livekit.plugins.silero"):
        return ProviderError(
            "provider_not_installed",
            f"{VAD_VARIABLE} asks for silero, which is not installed.",
            remedy="Run: pip install 'livekit-plugins-silero', or leave the variable unset.",
        )
    return None


def make_vad(env: Mapping[str, str]) -> vad.VAD:
    """Build the detector of one call.

    Raises:
        ProviderError: `AGENT_WORKER_VAD` names a detector that is unknown or not installed.
    """
    if problem := vad_problem(env):
        raise problem
    if env.get(VAD_VARIABLE) == "silero":
        from livekit.plugins import silero

        return silero.VAD.load()
    from livekit.agents import inference

    return inference.VAD()
