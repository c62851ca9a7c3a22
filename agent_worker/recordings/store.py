"""Where recordings are kept, by the URL the operator gives: a folder of this host, or a bucket.

What was kept before the operator chose another place is found where it is: a location in a bucket is a whole URL, one
in a folder a name, so that the folder can be moved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from agent_worker.errors import RecordingStoreError, SettingsError
from agent_worker.recordings.bucket import Bucket
from agent_worker.recordings.folder import Folder
from agent_worker.recordings.place import Channels, Place, Readable, file_name, missing
from agent_worker.settings import Settings

SCHEMES = ("file", "s3", "gs", "az")


class RecordingStore:
    """Keeps recordings.

    Attributes:
        spool: the folder a worker writes recordings to; unless told otherwise they also stay there.

    Raises:
        SettingsError: AGENT_WORKER_RECORDINGS_URL is no URL of a folder or a bucket.
    """

    def __init__(self, settings: Settings) -> None:
        self.spool = Folder(settings.recordings_dir)
        self._home = _home(settings.recordings_url) or self.spool
        self._buckets: dict[str, Bucket] = {}

    def location_of(self, path: Path) -> str | None:
        """Return the location of a file that is where recordings stay already, None where it has to be brought."""
        return path.name if isinstance(self._home, Folder) and self._home.holds(path) else None

    def incoming(self, call_id: str) -> Path:
        """Return where what has arrived of a recording waits for the rest.

        Raises:
            RecordingStoreError: the id cannot be part of a name.
        """
        return self.spool.path / "incoming" / f"{file_name(call_id)}.part"

    def is_in_bucket(self, location: str) -> bool:
        """Return whether any host can read and delete what is there."""
        return "/" in location

    def may_delete(self, path: Path) -> bool:
        """Return whether this is the path of a recording, and of nothing else."""
        return self.spool.holds(path) or (isinstance(self._home, Folder) and self._home.holds(path))

    async def put(self, source: Path, call_id: str) -> str:
        """Bring a file to where recordings stay; returns its location.

        Raises:
            RecordingStoreError: the store did not take it.
            OSError: the file cannot be read.
        """
        name = file_name(call_id)
        await self._home.put(source, name)
        return f"{self._home.base}/{name}" if isinstance(self._home, Bucket) else name

    async def delete(self, location: str) -> None:
        """Delete what is there, in every form; what is not there is deleted already.

        Raises:
            RecordingStoreError: the store did not do it.
        """
        for place, name in self._places(location):
            await place.delete(name)

    @asynccontextmanager
    async def open(self, location: str) -> AsyncIterator[Readable]:
        """Open a recording for reading.

        Raises:
            RecordingStoreError: it is not there, or cannot be had.
        """
        async with AsyncExitStack() as stack:
            for place, name in self._places(location):
                try:
                    recording = await stack.enter_async_context(place.open(name))
                except RecordingStoreError as error:
                    if error.retryable:
                        raise
                else:
                    break
            else:
                raise missing()
            yield recording

    async def url(self, location: str, channels: Channels, seconds: int) -> str | None:
        """Return a URL of the store's own that fetches it for so long; None where `serve` has to hand it on."""
        place, name = self._places(location)[0]
        return await place.url(name, channels, seconds)

    def _places(self, location: str) -> list[tuple[Place, str]]:
        base, slash, name = location.rpartition("/")
        if slash:
            if isinstance(self._home, Bucket) and self._home.base == base:
                return [(self._home, name)]
            return [(self._buckets.setdefault(base, Bucket(base)), name)]
        if isinstance(self._home, Folder) and self._home is not self.spool:
            return [(self._home, name), (self.spool, name)]
        return [(self.spool, name)]


def _home(url: str) -> Place | None:
    if not url:
        return None
    parts = urlsplit(url)
    named = parts.netloc or (parts.scheme == "file" and parts.path.startswith("/"))
    if parts.scheme not in SCHEMES or not named or parts.query or parts.fragment or "@" in parts.netloc:
        raise _unusable()
    if parts.scheme != "file":
        return Bucket(url)
    if parts.netloc not in ("", "localhost"):
        raise _unusable()
    return Folder(Path(unquote(parts.path)))


def _unusable() -> SettingsError:
    return SettingsError(
        "recordings_url_invalid",
        "AGENT_WORKER_RECORDINGS_URL is not the URL of a folder or a bucket.",
        remedy="Write file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix, without "
        "credentials, which come from the environment; or leave it out to keep recordings in the data folder.",
    )
