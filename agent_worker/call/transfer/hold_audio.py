"""What a caller on hold hears, where a transfer names a file of its own: fetched, decoded, kept for the call."""

from __future__ import annotations

import asyncio
import io
import logging

import av
import numpy as np
from numpy.typing import NDArray

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import EgressError

logger = logging.getLogger("agent_worker.call")

FETCH_SECONDS = 5.0
MOST_BYTES = 5_000_000
MOST_SECONDS = 300
"""Of audio; what follows is left out: 300 s are 10 MB in memory."""

FORMATS = "wav,mp3,ogg,flac"
"""Whatever the file says it is: a playlist would have the decoder open other files, and other hosts."""

Samples = NDArray[np.int16]
"""Mono, at the line's rate."""


class NoAudio(Exception):
    """A file that cannot be played; the text says why."""


class HoldAudio:
    """The files of one call, each fetched once.

    Args:
        policy: which addresses may be asked.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._known: dict[str, Samples | None] = {}

    async def get(self, url: str) -> Samples | None:
        """Return what is to be heard, None where it cannot be had; the log says why."""
        if url not in self._known:
            self._known[url] = await self._fetch(url)
        return self._known[url]

    async def _fetch(self, url: str) -> Samples | None:
        # reading the certificates of the authorities takes some 20 ms
        client = await asyncio.to_thread(EgressClient, self._policy)
        try:
            reply = await client.get(url, timeout_seconds=FETCH_SECONDS, max_bytes=MOST_BYTES)
            if not reply.is_success:
                raise NoAudio(f"The server answers {reply.status}.")
            return await asyncio.to_thread(decoded, reply.body)
        except (EgressError, NoAudio) as error:
            logger.warning("hold audio not played, our music is", extra={"detail": str(error)})
            return None
        finally:
            await client.aclose()


def decoded(file: bytes) -> Samples:
    """Return the audio of a WAV, MP3, Ogg or FLAC file, at most `MOST_SECONDS` of it.

    Raises:
        NoAudio: it is none of these, is broken, or holds no sound.
    """
    most = MOST_SECONDS * LINE_SAMPLE_RATE
    resampler = av.AudioResampler(format="s16", layout="mono", rate=LINE_SAMPLE_RATE)
    pieces: list[Samples] = []
    length = 0
    try:
        with av.open(
            io.BytesIO(file), mode="r", options={"format_whitelist": FORMATS, "protocol_whitelist": ""}
        ) as container:
            if not container.streams.audio:
                raise NoAudio("The file holds no audio.")
            for frame in container.decode(container.streams.audio[0]):
                for resampled in resampler.resample(frame):
                    pieces.append(resampled.to_ndarray()[0])
                    length += len(pieces[-1])
                if length >= most:
                    break
    except (av.FFmpegError, ValueError) as error:
        raise NoAudio(f"The file is no WAV, MP3, Ogg or FLAC that can be read: {type(error).__name__}.") from error
    if not length:
        raise NoAudio("The file holds no audio.")
    return np.concatenate(pieces)[:most]
