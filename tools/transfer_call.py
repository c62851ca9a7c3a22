"""transfer_call: says honestly that nobody is put through on this line, and notes that it was asked for."""

from __future__ import annotations

from typing import Annotated

from agent_worker.toolbox import CallControl, FromConfig, tool


@tool()
async def transfer_call(
    control: CallControl,
    destination: Annotated[str, FromConfig("destinations", "label")],
    reason: str = "",
) -> str:
    """Put the caller through to a person or a department. Use it when the caller asks for one.

    Args:
        destination: Whom the caller wants, one of the names given.
        reason: Why, in a few words.
    """
    labels = FromConfig("destinations", "label").values(control.config)
    if destination not in labels:
        known = f"Nobody but {', '.join(labels)} can be asked for." if labels else "Nobody can be asked for."
        return f"{known} Tell the caller, and offer to take a message."
    simulated = control.config.get("simulated") is True
    control.record_event("transfer.unavailable", destination=destination, simulated=simulated)
    requested = control.structured_data.setdefault("transfer_requested", {})
    requested.update(destination=destination, reason=reason.strip()[:500])
    if simulated:
        return (
            f"This line is simulated: nobody at {destination} was called. "
            "Tell the caller exactly that, and ask whether there is anything else."
        )
    return (
        f"This line is not connected to {destination}: nobody was called. "
        "Tell the caller so, and offer to take a message."
    )
