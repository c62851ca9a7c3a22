"""What an operator tells a live call, as it goes from the control plane to the call and back."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

END = "agent_worker.end"
MESSAGE = "agent_worker.message"

MAX_MESSAGE_CHARS = 16_000
MAX_PART_BYTES = 12_000
"""LiveKit carries 15 KiB in one request; a part's text with what stands around it stays below."""

MAX_PARTS = 16

MessageMode = Literal["respond", "context"]
Answer = Literal["done", "over", "ringing", "joined", "invalid"]


class Wire(BaseModel):
    """What goes between the control plane and a live call; keys it does not know are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class MessagePart(Wire):
    """A part of a message to the agent; most messages have one."""

    message_id: str = Field(min_length=1, max_length=64)
    mode: MessageMode
    part: int = Field(ge=0, lt=MAX_PARTS)
    parts: int = Field(ge=1, le=MAX_PARTS)
    text: str = Field(max_length=MAX_MESSAGE_CHARS)


class CommandAnswer(Wire):
    """What the call says: `done`, or why not.

    It is `over`, still `ringing`, `joined` to a person who is not to be spoken over, or what was said was `invalid`.
    """

    answer: Answer


def message_parts(message_id: str, mode: MessageMode, text: str) -> list[MessagePart]:
    """Return the message in parts that each fit in a request."""
    pieces: list[str] = [""]
    size = 0
    for letter in text:
        # as JSON, the longest a character gets is two escapes of six
        width = len(letter.encode("utf-8", "replace")) if letter.isprintable() and letter not in '"\\' else 12
        if size + width > MAX_PART_BYTES:
            pieces.append("")
            size = 0
        pieces[-1] += letter
        size += width
    return [
        MessagePart(message_id=message_id, mode=mode, part=number, parts=len(pieces), text=piece)
        for number, piece in enumerate(pieces)
    ]


class Assembly:
    """Puts messages together from their parts; those that never become whole are forgotten first."""

    MOST = 8

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, MessagePart]] = {}

    def add(self, part: MessagePart) -> str | None:
        """Take a part; returns the message's text once it is whole."""
        found = self._parts.setdefault(part.message_id, {})
        found[part.part] = part
        if len(self._parts) > self.MOST:
            self._parts.pop(next(iter(self._parts)))
        if len(found) < part.parts:
            return None
        self._parts.pop(part.message_id, None)
        return "".join(found[number].text for number in sorted(found))[:MAX_MESSAGE_CHARS]
