"""transfer_call: puts the caller through to a person the agent's configuration names."""

from __future__ import annotations

from typing import Annotated

from agent_worker.domain.transfer import TransferConfig
from agent_worker.toolbox import CallControl, FromConfig, ToolRefused, tool


@tool(ends_turn=True, config=TransferConfig)
async def transfer_call(
    control: CallControl,
    destination: Annotated[str, FromConfig("destinations", "label")],
    reason: str = "",
    summary: str = "",
) -> str:
    """Put the caller through to a person or a department. Use it when the caller asks for one.

    What is about to happen is said for you: do not announce it yourself.

    Args:
        destination: Whom the caller wants, one of the names given.
        reason: Why, in a few words.
        summary: What the person should know: who is calling, what they want, what you have found out.
    """
    labels = FromConfig("destinations", "label").values(control.config)
    if destination not in labels:
        known = f"Nobody but {', '.join(labels)} can be asked for." if labels else "Nobody can be asked for."
        raise ToolRefused(f"{known} Tell the caller, and offer to take a message.")
    config = TransferConfig.model_validate(control.config)
    requested = control.structured_data.setdefault("transfer_requested", {})
    requested.update(destination=destination, reason=reason.strip()[:500])
    if config.simulated:
        control.record_event("transfer.unavailable", destination=destination, simulated=True)
        raise ToolRefused(
            f"This line is simulated: nobody at {destination} was called. "
            "Tell the caller exactly that, and ask whether there is anything else."
        )
    plan = config.plan(destination, reason=reason.strip()[:500], summary=summary.strip()[:2_000])
    if why_not := control.transfer(plan):
        raise ToolRefused(why_not)
    return "The transfer has begun."
