"""An agent by keyboard: the same instructions, model and tools as on a call, without speech."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from livekit.agents import AgentSession, APIConnectOptions, APIError
from livekit.agents.voice.agent_session import SessionConnectOptions
from livekit.agents.voice.events import ToolExecutionUpdatedEvent
from livekit.agents.voice.run_result import ChatMessageEvent, RunResult
from rich.console import Console

from agent_worker.call.phone_agent import PhoneAgent
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import DisconnectionReason, new_call_id
from agent_worker.domain.presets import NO_PRESETS, Presets
from agent_worker.domain.transfer import TransferPlan
from agent_worker.providers.registry import build_llm
from agent_worker.toolbox.binding import bind_all
from agent_worker.toolbox.loaded_tool import LoadedTool

NEVER = 10**6
NOBODY_THERE = "This is a desk, not a telephone: nobody was called. Tell the caller so, and offer to take a message."


class TextDesk:
    """One conversation at the keyboard; it is what tools see of the call.

    Args:
        env: where the model's key comes from; speech providers are not needed.

    Raises:
        ProviderError: the agent has no usable language model.
    """

    def __init__(
        self,
        agent: AgentConfig,
        tools: Mapping[str, LoadedTool],
        env: Mapping[str, str],
        console: Console,
        presets: Presets = NO_PRESETS,
    ) -> None:
        self.call_id = new_call_id()
        self.ended = asyncio.Event()
        self.structured_data: dict[str, Any] = {}
        self._agent = agent
        self._console = console
        self._model = build_llm(agent, env, presets)
        bound = bind_all(agent.tools, tools, self)
        self._phone_agent = PhoneAgent(instructions=agent.system_prompt, tools=[*bound])

    async def run(self, lines: AsyncIterator[str]) -> None:
        """Answer each line until a tool ends the call or the lines do."""
        self._console.print(f"{self._agent.name}: an empty line ends the call.", style="dim", highlight=False)
        options = SessionConnectOptions(
            llm_conn_options=APIConnectOptions(max_retry=1, retry_interval=0.2, timeout=10.0),
            max_unrecoverable_errors=NEVER,  # whoever types decides when it is over
        )
        async with AgentSession[None](llm=self._model, conn_options=options) as session:
            session.on("tool_execution_updated", self._tool)
            await session.start(self._phone_agent, record=False)
            await self.say(self._agent.first_message)
            async for line in lines:
                if not line.strip():
                    break
                await self._answer(session, line.strip())
                if self.ended.is_set():
                    break
        await self._model.aclose()
        if self.structured_data:
            self._console.print(f"collected: {self.structured_data}", style="dim", highlight=False)

    async def say(self, text: str) -> None:
        """Show what the agent says."""
        if text.strip():
            self._console.print(f"agent  {text.strip()}", style="cyan", highlight=False, markup=False)

    async def end(self, reason: DisconnectionReason, *, farewell: str | None = None) -> None:
        """Show the farewell; the conversation ends with this turn."""
        await self.say(farewell or "")
        self._console.print(f"       call ended: {reason.value}", style="dim", highlight=False)
        self.ended.set()

    def record_event(self, event_type: str, **payload: Any) -> None:
        """Show what a tool notes."""
        details = " ".join(f"{key}={value}" for key, value in payload.items())
        self._console.print(f"       {event_type} {details}", style="dim", highlight=False, markup=False)

    def transfer(self, plan: TransferPlan) -> str | None:
        """Say that there is nobody to be put through to at a desk."""
        self.record_event("transfer.unavailable", destination=plan.destinations[0].label, simulated=False)
        return NOBODY_THERE

    async def _answer(self, session: AgentSession[None], line: str) -> None:
        result: RunResult[None] = session.run(user_input=line)
        try:
            await result
        except APIError as error:
            self._console.print(f"       the model failed: {error}", style="red", highlight=False, markup=False)
            return
        for event in result.events:
            if isinstance(event, ChatMessageEvent) and event.item.role == "assistant":
                await self.say(event.item.text_content or "")

    def _tool(self, event: ToolExecutionUpdatedEvent) -> None:
        if event.update.type == "tool_call_started":
            call = event.update.function_call
            self._console.print(f"       {call.name}({call.arguments})", style="dim", highlight=False, markup=False)
