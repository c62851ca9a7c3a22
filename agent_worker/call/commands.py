"""What an operator may tell a live call: to end, or something for the agent to know.

Commands come through the call's room, from LiveKit's server API: who may ask that server may command.
"""

from __future__ import annotations

import logging

from livekit.agents.llm import ChatContext
from pydantic import ValidationError

from agent_worker.call.live_call import Ending, LiveCall
from agent_worker.call.transfer.commands import transfer_commands
from agent_worker.call.transfer.transfers import Transfers
from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.command import END, MESSAGE, Answer, Assembly, CommandAnswer, MessagePart

logger = logging.getLogger("agent_worker.call")

OPERATOR = "operator"
MOST_REMEMBERED = 100

NOTE = (
    "A message from the people you work for; the caller did not say it and has not heard it. "
    "Take it into account from now on. Do not read it out as it stands, and do not mention that it was sent.\n\n"
)


def take_commands(call: LiveCall) -> None:
    """Answer commands from now on."""
    commands = _Commands(call)
    transfers = transfer_commands(call.transfers) if isinstance(call.transfers, Transfers) else {}
    call.line.take_commands({END: commands.end, MESSAGE: commands.message, **transfers})


class _Commands:
    """The commands of one call; each takes what was sent and returns a `CommandAnswer`."""

    def __init__(self, call: LiveCall) -> None:
        self._call = call
        self._assembly = Assembly()
        self._taken: dict[str, None] = {}

    async def end(self, _payload: str) -> str:
        """End the call at once: nothing more is said."""
        call = self._call
        if call.ended.is_set():
            return _answer("over")
        logger.info("ended by an operator", extra={"call_id": call.call_id})
        if call.line.picked_up:
            call.finish(Ending(DisconnectionReason.AGENT_HANGUP, None, 200, "OK", ended_by=OPERATOR))
        else:
            # a room that is gone is what stops an answer that is being prepared
            call.finish(Ending(DisconnectionReason.CANCELLED, "cancelled", 487, "Request Terminated", OPERATOR))
            call.own(call.line.hang_up())
        return _answer("done")

    async def message(self, payload: str) -> str:
        """Have the agent know something, and answer it where the message asks for that."""
        call = self._call
        try:
            part = MessagePart.model_validate_json(payload)
        except ValidationError:
            return _answer("invalid")
        if call.ended.is_set():
            return _answer("over")
        if not call.line.picked_up:
            return _answer("ringing")
        if part.mode == "respond" and call.transfers is not None and call.transfers.talking:
            return _answer("joined")
        text = self._assembly.add(part)
        if text is not None and part.message_id not in self._taken:
            self._remember(part.message_id)
            try:
                await self._tell_agent(part, text)
            except RuntimeError:
                return _answer("over")  # the session closes under us when the caller hangs up at this very moment
        return _answer("done")

    async def _tell_agent(self, part: MessagePart, text: str) -> None:
        call = self._call
        agent = call.phone_agent
        assert agent is not None
        said = {"messageId": part.message_id, "text": text, "mode": part.mode}
        call.journal.event("call.message_sent", status="pending", payload=said)
        known: ChatContext = agent.chat_ctx.copy()
        known.add_message(role="system", content=NOTE + text)
        await agent.update_chat_ctx(known)
        if part.mode == "respond" and not call.held_back:
            call.session.generate_reply()

    def _remember(self, message_id: str) -> None:
        self._taken[message_id] = None
        if len(self._taken) > MOST_REMEMBERED:
            self._taken.pop(next(iter(self._taken)))


def _answer(answer: Answer) -> str:
    return CommandAnswer(answer=answer).model_dump_json()
