"""Messages to a live call: in parts that fit in a request, and whole again at the other end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent_worker.domain.command import MAX_MESSAGE_CHARS, Assembly, message_parts

LIVEKIT_BYTES = 15_360
LETTERS = st.sampled_from(['"', "\\", "\n", "é", "漢", "🛗", "\u2028", "\x01", "x"])


@given(st.text(alphabet=LETTERS, min_size=1, max_size=50), st.integers(1, MAX_MESSAGE_CHARS))
def test_any_message_fits_and_is_whole_again(some: str, length: int) -> None:
    """Whatever it is made of: each part is below what LiveKit carries, and together they are the message."""
    text = (some * (length // len(some) + 1))[:length]
    parts = message_parts("msg_1", "respond", text)
    assembly = Assembly()
    assert all(len(part.model_dump_json().encode()) < LIVEKIT_BYTES for part in parts)
    found = [assembly.add(part) for part in reversed(parts)]
    assert found[:-1] == [None] * (len(parts) - 1)
    assert found[-1] == text


def test_messages_that_never_become_whole_are_forgotten() -> None:
    """What is kept of them is bounded."""
    assembly = Assembly()
    begun = [message_parts(f"msg_{number}", "context", "x" * 16_000) for number in range(Assembly.MOST + 1)]
    for parts in begun:
        assert assembly.add(parts[0]) is None
    assert [assembly.add(part) for part in begun[0][1:]][-1] is None
    assert assembly.add(begun[-1][1]) == "x" * 16_000
