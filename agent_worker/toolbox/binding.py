"""A loaded tool and a live call -> the function tool a model calls: deadline, end of call, errors, events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from livekit.agents.llm import RawFunctionTool, ToolError, ToolResult, function_tool

from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.tool_ref import ToolRef
from agent_worker.domain.transfer import TransferPlan
from agent_worker.errors import place_of
from agent_worker.toolbox.base import CallControl, ToolRefused, ToolsCall
from agent_worker.toolbox.loaded_tool import LoadedTool

logger = logging.getLogger(__name__)

END_GRACE_SECONDS = 0.25
"""How long a tool may go on once the call is over, before it is cancelled: it holds no line open."""

FAILED = "The tool failed. Tell the caller briefly that this did not work, and offer another way."
TIMED_OUT = "The tool took too long and was stopped. Tell the caller briefly that this did not work."
CALL_OVER = "The call is over."

BoundTool = RawFunctionTool[Any, Any]


def bind(
    tool: LoadedTool,
    control: ToolsCall,
    config: Mapping[str, Any],
    *,
    name: str | None = None,
    description: str | None = None,
) -> BoundTool:
    """Return the tool for one call; calls at once each bind their own and share nothing.

    Args:
        name: what the model calls it, where that is not the function's own name.
        description: what the model reads, where that is not the function's docstring.

    The model is told what went wrong in words it may pass on; details go to the log, without arguments.
    """
    view = _ToolsView(control, dict(config))

    async def run(raw_arguments: dict[str, object]) -> ToolResult:
        started = time.monotonic()
        outcome = "error"
        control.record_event("tool.started", name=tool.name)
        try:
            text = await _run(tool, view, raw_arguments)
            outcome = "ok"
        except _Refused as refused:
            outcome = refused.outcome
            raise ToolError(refused.for_model) from refused
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            duration_ms = round((time.monotonic() - started) * 1_000)
            control.record_event("tool.ended", name=tool.name, duration_ms=duration_ms, outcome=outcome)
        return ToolResult(text, reply_required=not tool.meta.ends_turn)

    schema = {
        "name": name or tool.name,
        "description": description or tool.signature.description,
        "parameters": tool.signature.parameters_for(config),
    }
    return function_tool(run, raw_schema=schema)


def bind_all(refs: Sequence[ToolRef], tools: Mapping[str, LoadedTool], control: ToolsCall) -> list[BoundTool]:
    """Return the functions an agent names, bound for one call; what is no function here is left out."""
    return [
        bind(tool, control, ref.function_config, name=ref.name, description=ref.description)
        for ref in refs
        if ref.function and (tool := tools.get(ref.function))
    ]


class _Refused(Exception):
    def __init__(self, outcome: str, for_model: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.for_model = for_model


class _ToolsView:
    """The call as one tool sees it: its control, with the configuration the agent's file gives this tool."""

    def __init__(self, control: ToolsCall, config: dict[str, Any]) -> None:
        self._control = control
        self.config = config
        self.call_id = control.call_id
        self.ended = control.ended
        self.structured_data = control.structured_data

    async def say(self, text: str) -> None:
        await self._control.say(text)

    async def end(self, reason: DisconnectionReason, *, farewell: str | None = None) -> None:
        await self._control.end(reason, farewell=farewell)

    def record_event(self, event_type: str, **payload: Any) -> None:
        self._control.record_event(event_type, **payload)

    def transfer(self, plan: TransferPlan) -> str | None:
        return self._control.transfer(plan)


async def _run(tool: LoadedTool, control: CallControl, raw: Mapping[str, object]) -> str:
    if control.ended.is_set():
        raise _Refused("call_ended", CALL_OVER)
    try:
        arguments = tool.signature.read(raw, control.config)
    except ValueError as error:
        raise _Refused("wrong_arguments", f"The arguments are wrong: {error}") from error
    async with asyncio.TaskGroup() as group:
        work = group.create_task(_guarded(tool, control, arguments))
        over = group.create_task(control.ended.wait())
        try:
            await asyncio.wait({work, over}, timeout=tool.meta.timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and over.done():
                await asyncio.wait({work}, timeout=END_GRACE_SECONDS)
            done, ended = work.done(), over.done()
        finally:
            work.cancel()
            over.cancel()
    if not done:
        logger.warning("tool stopped", extra={"tool": tool.name, "call_id": control.call_id, "ended": ended})
        raise _Refused(*(("call_ended", CALL_OVER) if ended else ("timeout", TIMED_OUT)))
    result = _Refused("error", FAILED) if work.cancelled() else work.result()
    if isinstance(result, _Refused):
        raise result
    return result


async def _guarded(tool: LoadedTool, control: CallControl, arguments: Mapping[str, Any]) -> str | _Refused:
    """Run the tool; an error of its code is an answer for the model, not an end of the conversation."""
    try:
        result: object = await tool.function(control, **arguments)
    except ToolError as error:
        return _Refused("refused", error.message)
    except ToolRefused as error:
        return _Refused("refused", str(error))
    except Exception as error:  # noqa: BLE001 - a tool is the operator's code; the conversation outlives it
        logger.error(
            "tool failed",
            extra={
                "tool": tool.name,
                "call_id": control.call_id,
                "error": place_of(error),
            },
        )
        return _Refused("error", FAILED)
    return result if isinstance(result, str) else str(result)
