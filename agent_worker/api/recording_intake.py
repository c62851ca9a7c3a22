"""Takes recordings from workers on other hosts, a piece at a time: what has arrived is kept, whatever breaks then."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.requests import ClientDisconnect

from agent_worker.api.errors import ApiError
from agent_worker.api.requests import bearer
from agent_worker.control import wire
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.errors import RecordingStoreError
from agent_worker.recordings.place import file_name
from agent_worker.settings import Settings
from agent_worker.store.recordings import is_wanted, recording_of

STALL_SECONDS = 15.0
"""How long a worker may send nothing before it is cut off; it goes on from there later."""

_CLOSING = {"connection": "close"}

Size = Annotated[int, Query(ge=0, le=wire.MAX_RECORDING_BYTES)]
Digest = Annotated[str, Query(pattern="^[0-9a-f]{64}$")]


def recording_intake_routes(control: EmbeddedControlPlane, settings: Settings) -> APIRouter:
    """Return the routes; both need the workers' token.

    Raises:
        SettingsError: there is no token, or it is too short.
    """
    router = APIRouter(dependencies=[Depends(bearer(wire.required_token(settings)))], include_in_schema=False)
    intake = _Intake(control)

    @router.get(wire.RECORDING)
    async def how_much_has_arrived(call_id: str) -> wire.Held:
        return await intake.held(_known(call_id))

    @router.put(wire.RECORDING)
    async def take_a_piece(request: Request, call_id: str, offset: Size, size: Size, digest: Digest) -> wire.Held:
        return await intake.take(_known(call_id), request, offset, size, digest)

    return router


def _known(call_id: str) -> str:
    try:
        file_name(call_id)
    except RecordingStoreError:
        raise _unknown() from None
    return call_id


def _unknown() -> ApiError:
    # whose it is may come to be known after a database was restored: the worker keeps it
    return ApiError(404, "CALL_UNKNOWN", "There is no such call here.", retryable=False)


class _Intake:
    def __init__(self, control: EmbeddedControlPlane) -> None:
        self._control = control
        self._store = control.recordings.store

    async def held(self, call_id: str) -> wire.Held:
        if await self._is_settled(call_id):
            await asyncio.to_thread(self._part(call_id).unlink, missing_ok=True)
            return wire.Held(held=0, settled=True)
        return wire.Held(held=await asyncio.to_thread(_size_of, self._part(call_id)), settled=False)

    async def take(self, call_id: str, request: Request, offset: int, size: int, digest: str) -> wire.Held:
        before = await self.held(call_id)
        if before.settled or offset > before.held:
            # read to its end, or the connection would break under the answer
            with contextlib.suppress(ClientDisconnect):
                async for _ in request.stream():
                    pass
            return before
        part = self._part(call_id)
        await self._append(request, part, offset, size)
        arrived = await asyncio.to_thread(_size_of, part)
        if arrived < size:
            return wire.Held(held=arrived, settled=False)
        if not await asyncio.to_thread(_is_whole, part, size, digest):
            await asyncio.to_thread(part.unlink, missing_ok=True)
            return wire.Held(held=0, settled=False)
        await self._keep(call_id, part)
        return wire.Held(held=size, settled=True)

    async def _append(self, request: Request, part: Path, offset: int, size: int) -> None:
        """Write what comes, each piece to its place, so that two senders of the same file do no harm."""
        file = await asyncio.to_thread(_opened, part)
        try:
            pieces = request.stream()
            while True:
                async with asyncio.timeout(STALL_SECONDS):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                if offset + len(piece) > size:
                    raise ApiError(413, "TOO_LARGE", "More came than was said.", retryable=False, headers=_CLOSING)
                await asyncio.to_thread(os.pwrite, file, piece, offset)
                offset += len(piece)
        except TimeoutError as error:
            sentence = f"Nothing came for {STALL_SECONDS:.0f} s."
            raise ApiError(408, "REQUEST_TIMEOUT", sentence, headers=_CLOSING) from error
        except ClientDisconnect as error:
            raise ApiError(408, "REQUEST_TIMEOUT", "The connection broke.", headers=_CLOSING) from error
        finally:
            os.close(file)

    async def _keep(self, call_id: str, part: Path) -> None:
        path = self._store.spool.path / file_name(call_id)
        with contextlib.suppress(FileNotFoundError):  # another sender of the same file was as quick
            await asyncio.to_thread(part.replace, path)
        async with self._control.writing() as connection:
            await self._control.recordings.bring(connection, call_id, path, utc_now())

    async def _is_settled(self, call_id: str) -> bool:
        async with self._control.reading() as connection:
            row = await recording_of(connection, call_id)
        if row is None:
            raise _unknown()
        # a call that was never answered has none, and what was purged is nobody's
        return not is_wanted(row) or _is_here(row)

    def _part(self, call_id: str) -> Path:
        return self._store.incoming(call_id)


def _is_here(row: dict[str, object]) -> bool:
    return row["location"] is not None or (row["path"] is not None and row["host"] is not None)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def _is_whole(path: Path, size: int, digest: str) -> bool:
    with path.open("r+b") as file:
        file.truncate(size)
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest() == digest
