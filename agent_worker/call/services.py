"""What every call of a process shares: settings, the control plane, tools, rendered speech."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent_worker.call.speech_cache import SpeechCache
from agent_worker.control.base import ControlPlane
from agent_worker.settings import Settings
from agent_worker.toolbox.loader import LoadedTool


@dataclass(frozen=True)
class CallServices:
    """Made once per process, before a call is offered.

    Attributes:
        env: the environment providers take keys and base URLs from.
        worker_id: names this worker in leases and on call rows.
    """

    settings: Settings
    control: ControlPlane
    tools: Mapping[str, LoadedTool]
    speech: SpeechCache
    env: Mapping[str, str]
    worker_id: str
