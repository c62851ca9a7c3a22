"""end_call: the agent says goodbye and hangs up."""

from __future__ import annotations

from agent_worker.domain.call import DisconnectionReason
from agent_worker.toolbox import CallControl, tool


@tool(ends_turn=True)
async def end_call(control: CallControl, reason: str = "", farewell: str = "Goodbye.") -> str:
    """End the call. Use it when the caller says goodbye or has nothing more to ask.

    The farewell is spoken for you: do not say goodbye yourself.

    Args:
        reason: Why the call ends, in a few words.
        farewell: The last sentence the caller hears before the line is closed.
    """
    control.record_event("call.end_tool.completed", reason=reason[:200])
    await control.end(DisconnectionReason.AGENT_HANGUP, farewell=farewell.strip() or None)
    return "The call is ended."
