"""What a call needs for transfers, from the services of its process and its agent's settings."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from agent_worker.call.live_call import LiveCall
from agent_worker.call.room_line import RoomLine
from agent_worker.call.services import CallServices
from agent_worker.call.transfer.briefing import PLAIN, briefing_of
from agent_worker.call.transfer.consultation import Consultation
from agent_worker.call.transfer.hold_audio import HoldAudio
from agent_worker.call.transfer.hourly_cap import FILE, HourlyCap
from agent_worker.call.transfer.transfers import Transfers, TransferServices
from agent_worker.domain.dialling import DialPolicy
from agent_worker.domain.tool_ref import ToolRef
from agent_worker.domain.transfer import TransferConfig
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import ConfigError
from agent_worker.prompting.templates import prompt
from agent_worker.toolbox.binding import bind_all

logger = logging.getLogger("agent_worker.call")

TAKE_MESSAGE = ToolRef(name="take_message")
"""What an agent is given that is to take a message because nobody took the caller."""


def make_transfers(call: LiveCall, services: CallServices) -> Transfers | None:
    """Return what puts the caller through; None where no person can be reached beside this line."""
    settings = services.settings
    make_leg = services.make_leg
    if make_leg is None and isinstance(call.line, RoomLine) and settings.livekit_url:
        make_leg = partial(Consultation, settings)
    if make_leg is None:
        return None
    transfers = Transfers(
        call,
        TransferServices(
            settings,
            DialPolicy.of(settings.dial_allow),
            HourlyCap(settings.data_dir / FILE, settings.transfers_per_hour),
            make_leg,
            make_stack=lambda: services.stack_for(call.agent),
            briefing=lambda attempt: briefing_of(call, attempt, _instructions(settings.prompts_dir)),
            hold_audio=HoldAudio(AddressPolicy.of(settings.egress_allow)),
            message_tool=next(iter(bind_all([TAKE_MESSAGE], services.tools, call)), None),
        ),
    )
    for config in _configs(call):
        if config.key is not None and config.destinations and not config.simulated:
            plan = config.plan(config.destinations[0], reason="key pressed", summary="")
            transfers.listen_for_key(config.key, plan)
    return transfers


def _configs(call: LiveCall) -> Iterator[TransferConfig]:
    for ref in call.agent.tools:
        if ref.function != "transfer_call":
            continue
        # where it is wrong an event says so; the call goes on, and the tool says that it failed when it is used
        with contextlib.suppress(ValidationError):
            yield TransferConfig.model_validate(ref.function_config)


def _instructions(prompts_dir: Path) -> str:
    try:
        return prompt("screening", prompts_dir)
    except ConfigError as error:
        logger.warning("people are asked without the prompt screening", extra={"code": error.code})
        return PLAIN
