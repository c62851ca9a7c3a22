"""transfer_call: puts the caller through to a person the agent's configuration names."""

from __future__ import annotations

from typing import Annotated

from agent_worker.domain.transfer import TransferConfig
from agent_worker.toolbox import CallControl, FromConfig, ToolRefused, tool

OR_A_NUMBER = "Or a telephone number the caller gives, in E.164 form such as +12015550123."


@tool(ends_turn=True, config=TransferConfig)
async def transfer_call(
    control: CallControl,
    destination: Annotated[str, FromConfig("destinations", "label", "allowArbitrary", OR_A_NUMBER)] = "",
    reason: str = "",
    summary: str = "",
) -> str:
    """Put the caller through to a person or a department. Use it when the caller asks for one.

    What is about to happen is said for you: do not announce it yourself.

    Args:
        destination: Whom the caller wants, one of the names given; left out, whoever comes first.
        reason: Why, in a few words.
        summary: What the person should know: who is calling, what they want, what you have found out.
    """
    config = TransferConfig.model_validate(control.config)
    wanted = config.find(destination.strip())
    if wanted is None:
        labels = [known.label for known in config.destinations if known.label]
        known = f"Nobody but {', '.join(labels)} can be asked for." if labels else "Nobody can be asked for."
        raise ToolRefused(f"{known} Tell the caller, and offer to take a message.")
    requested = control.structured_data.setdefault("transfer_requested", {})
    requested.update(destination=wanted.label or wanted.to, reason=reason.strip()[:500])
    if config.simulated:
        control.record_event("transfer.unavailable", destination=wanted.label, simulated=True)
        raise ToolRefused(
            "This line is simulated: nobody was called. "
            "Tell the caller exactly that, and ask whether there is anything else."
        )
    plan = config.plan(wanted, reason=reason.strip()[:500], summary=summary.strip()[:2_000])
    if why_not := control.transfer(plan):
        raise ToolRefused(why_not)
    return "The transfer has begun."
