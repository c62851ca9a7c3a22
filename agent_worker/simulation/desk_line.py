"""A line that ends at a desk: the developer's microphone and speaker in place of a phone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from livekit import rtc

from agent_worker.call.line import LINE_SAMPLE_RATE, Line, LineClosed
from agent_worker.domain.call import CallOffer, Direction, DisconnectionReason, new_call_id
from agent_worker.errors import ConfigError

BLOCK_SAMPLES = LINE_SAMPLE_RATE // 50
BLOCK_BYTES = 2 * BLOCK_SAMPLES


class Sound(Protocol):
    """A microphone and a speaker, 16-bit mono at the line's rate, in blocks of 20 ms."""

    def start(self, heard: Callable[[bytes], None], wanted: Callable[[], bytes]) -> None:
        """Begin; both functions are called from a thread of the sound system, once per block."""

    def stop(self) -> None:
        """End. Idempotent."""


class DeskLine(Line):
    """The line between an agent and a desk.

    Args:
        agent_name: the agent that answers, whatever numbers it has.
    """

    def __init__(self, agent_name: str, sound: Sound) -> None:
        super().__init__(new_call_id())
        self.room_name = f"desk-{self.call_id[:8]}"
        self._agent_name = agent_name
        self._sound = sound
        self._loop = asyncio.get_running_loop()
        self._speaker: deque[bytes] = deque()
        self._guard = threading.Lock()

    async def ring(self) -> CallOffer:
        """Return an offer that names the agent itself."""
        return CallOffer(
            call_id=self.call_id,
            direction=Direction.INBOUND,
            room_name=self.room_name,
            caller_identity="desk",
            job_metadata={"agentId": self._agent_name, "desk": True},
        )

    async def pick_up(self) -> None:
        """Open microphone and speaker."""
        self._sound.start(self._heard, self._wanted)
        self.picked_up = True
        self.playout.start()

    async def hang_up(self) -> None:
        """End the call from the agent's side."""
        self._sound.stop()
        self._close(LineClosed(DisconnectionReason.AGENT_HANGUP, None, 200, "OK"))

    def caller_hangs_up(self) -> None:
        """End the call from the desk."""
        self._close(LineClosed(DisconnectionReason.USER_HANGUP, None, 200, "OK"))

    async def aclose(self) -> None:
        """Let go of microphone and speaker."""
        self._sound.stop()
        await self.playout.aclose()

    async def send_digit(self, digit: str) -> None:
        """Nothing to do: a desk has no keys."""

    async def _send(self, frame: rtc.AudioFrame) -> None:
        with self._guard:
            self._speaker.append(bytes(frame.data))

    def _discard(self) -> None:
        with self._guard:
            self._speaker.clear()

    def _heard(self, block: bytes) -> None:
        frame = rtc.AudioFrame(block, LINE_SAMPLE_RATE, 1, len(block) // 2)
        with contextlib.suppress(RuntimeError):  # a block that comes while the loop closes is nobody's
            self._loop.call_soon_threadsafe(self._hear, frame)

    def _wanted(self) -> bytes:
        with self._guard:
            block = self._speaker.popleft() if self._speaker else b""
        return block.ljust(BLOCK_BYTES, b"\x00")


class _SystemSound:
    """The machine's default microphone and speaker."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._streams: list[Any] = []

    def start(self, heard: Callable[[bytes], None], wanted: Callable[[], bytes]) -> None:
        options = {
            "samplerate": LINE_SAMPLE_RATE,
            "channels": 1,
            "dtype": "int16",
            "blocksize": BLOCK_SAMPLES,
        }

        def listen(data: Any, _frames: int, _time: Any, _status: Any) -> None:
            heard(bytes(data))

        def speak(data: Any, _frames: int, _time: Any, _status: Any) -> None:
            data[:] = wanted()

        try:
            self._streams = [
                self._module.RawInputStream(callback=listen, **options),
                self._module.RawOutputStream(callback=speak, **options),
            ]
            for stream in self._streams:
                stream.start()
        except self._module.PortAudioError as error:
            raise _no_sound(str(error)) from error

    def stop(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = []


def open_sound() -> Sound:
    """Return the machine's microphone and speaker, not started yet.

    Raises:
        ConfigError: sounddevice or PortAudio is not installed, or there is no microphone or speaker.
    """
    try:
        import sounddevice
    except ImportError:
        raise ConfigError(
            "sound_not_installed",
            "Microphone and speaker need the package sounddevice.",
            remedy="Run: pip install 'agent-worker[console]', or type instead: console --text.",
        ) from None
    except OSError as error:
        raise _no_sound(str(error)) from error
    try:
        sounddevice.check_input_settings(samplerate=LINE_SAMPLE_RATE, channels=1, dtype="int16")
        sounddevice.check_output_settings(samplerate=LINE_SAMPLE_RATE, channels=1, dtype="int16")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise _no_sound(str(error)) from error
    return _SystemSound(sounddevice)


def _no_sound(cause: str) -> ConfigError:
    return ConfigError(
        "no_sound",
        f"There is no usable microphone and speaker here: {cause}.",
        remedy="On Debian: apt install libportaudio2. Or type instead: console --text.",
    )
