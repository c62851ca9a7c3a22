"""Sends a recording to another host's `serve`, from where an earlier attempt got to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent_worker.control import wire
from agent_worker.control.remote_client import TOO_LARGE, Answer, ControlClient
from agent_worker.errors import ControlPlaneError

ASK_SECONDS = 10.0
SEND_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 32_768
"""A line that is slower than this carries no calls either."""

READ_BYTES = 65_536
SMALL_BYTES = 512 * 1024
"""What any proxy on the way takes at once; sent at a time where one says that all of it is too much."""


async def send_recording(client: ControlClient, call_id: str, path: Path) -> None:
    """Return once all of the file is kept there, or unwanted.

    Raises:
        ControlPlaneError: it is not; `retryable` unless the other host knows of no such call.
        OSError: the file cannot be read.
    """
    url = wire.RECORDING.format(call_id=call_id)
    size = (await asyncio.to_thread(path.stat)).st_size
    held = await client.ask("GET", url, _read, seconds=ASK_SECONDS)
    digest = "" if held.settled else await asyncio.to_thread(_digest, path)
    most = size
    while not held.settled:
        end = min(held.held + most, size)
        try:
            answer = await _send(client, url, path, held.held, end, {"size": str(size), "digest": digest})
        except ControlPlaneError as error:
            if error.code != TOO_LARGE or not error.retryable or most <= SMALL_BYTES:
                raise
            most = SMALL_BYTES
            continue
        if not answer.settled and answer.held <= held.held:
            # started anew at the other end, as after a change of replica: later is soon enough
            raise ControlPlaneError("recording_not_taken", "The control plane takes no more of it now.", retryable=True)
        held = answer


async def _send(client: ControlClient, url: str, path: Path, start: int, end: int, about: dict[str, str]) -> wire.Held:
    length = max(0, end - start)
    query = f"offset={start}&size={about['size']}&digest={about['digest']}"
    return await client.ask(
        "PUT",
        f"{url}?{query}",
        _read,
        seconds=SEND_SECONDS + length / SLOWEST_BYTES_PER_SECOND,
        content=_piece(path, start, end),
        headers={"content-length": str(length), "content-type": "application/octet-stream"},
        again=False,
    )


async def _piece(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        file.seek(start)
        left = end - start
        while left > 0 and (data := await asyncio.to_thread(file.read, min(left, READ_BYTES))):
            left -= len(data)
            yield data
    finally:
        file.close()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(answer: Answer) -> wire.Held:
    return wire.Held.model_validate_json(answer.body)
