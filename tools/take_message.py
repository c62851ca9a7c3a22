"""take_message: notes who called, how to reach them and what about; the report carries it."""

from __future__ import annotations

from agent_worker.toolbox import CallControl, tool


@tool()
async def take_message(control: CallControl, name: str, message: str, number: str | None = None) -> str:
    """Note a message from the caller for the people you work for. Ask for name and message first.

    Args:
        name: The caller's name, as they said it.
        message: What the caller wants, in one or two sentences.
        number: Where the caller can be reached; leave it out to use the number they call from.
    """
    control.structured_data["message"] = {
        "name": name.strip()[:200],
        "number": number.strip()[:50] if number else None,
        "message": message.strip()[:4_000],
    }
    return "The message is noted. Tell the caller that it will be passed on."
