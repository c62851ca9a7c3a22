"""Where recordings are kept: by URL, whole or not at all, and nothing else in the folder can be reached."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_worker.errors import RecordingStoreError, SettingsError
from agent_worker.recordings.disk import disk_name
from agent_worker.recordings.folder import Folder
from agent_worker.recordings.place import pieces
from agent_worker.recordings.store import RecordingStore
from agent_worker.settings import Settings
from tests.made_recordings import LEFT, RIGHT, heard, write_recording

WALKS = [
    "../secret.ogg",
    "..",
    ".",
    "",
    "/etc/passwd",
    "sub/call-1.ogg",
    "..%2fsecret.ogg",
    "call-1.ogg\0",
    "call\0-1.ogg",
    ".hidden.ogg",
    "call-1.ogg/",
    "call-1.txt",
    "call-1.ogg\n",
    "-.ogg",
    "ｃall.ogg",
]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def whole(store: RecordingStore, location: str, channels: str = "dual") -> bytes:
    async with store.open(location) as recording:
        return b"".join([piece async for piece in pieces(recording, 0, recording.size, channels)])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WALKS)
async def test_nobody_walks_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Only files right in it, by a name that is a call's, are opened, deleted or written."""
    secret = tmp_path / "secret.ogg"
    secret.write_bytes(b"a secret")
    (tmp_path / "recordings" / "sub").mkdir(parents=True)
    (tmp_path / "recordings" / "sub" / "call-1.ogg").write_bytes(b"not right in it")
    folder = Folder(tmp_path / "recordings")
    with pytest.raises(RecordingStoreError, match="no such recording"):
        async with folder.open(name):
            pass
    with pytest.raises(RecordingStoreError):
        await folder.delete(name)
    with pytest.raises(RecordingStoreError):
        await folder.put(secret, name)
    assert secret.read_bytes() == b"a secret"
    assert (tmp_path / "recordings" / "sub" / "call-1.ogg").exists()


async def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link, a pipe or a folder with a call's name is no recording."""
    (tmp_path / "secret").write_bytes(b"a secret")
    folder = Folder(tmp_path / "recordings")
    folder.path.mkdir()
    (folder.path / "link.ogg").symlink_to(tmp_path / "secret")
    os.mkfifo(folder.path / "pipe.ogg")
    (folder.path / "folder.ogg").mkdir()
    for name in ("link.ogg", "pipe.ogg", "folder.ogg", "absent.ogg"):
        with pytest.raises(RecordingStoreError, match="no such recording"):
            async with folder.open(name):
                pass


async def test_a_copy_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """What a killed copier left is swept away by the next, and was never a recording; a second copy changes nothing."""
    audio = write_recording(tmp_path / "spool" / "call-1.ogg")
    folder = Folder(tmp_path / "kept")
    folder.path.mkdir()
    (folder.path / ".call-1.ogg.dead.part").write_bytes(audio[:100])
    for _ in range(2):
        await folder.put(tmp_path / "spool" / "call-1.ogg", "call-1.ogg")
    assert names(folder.path) == ["call-1.ogg"]
    assert (folder.path / "call-1.ogg").read_bytes() == audio
    with pytest.raises(FileNotFoundError):
        await folder.put(tmp_path / "spool" / "absent.ogg", "absent.ogg")


async def test_both_forms_come_from_the_one_file(tmp_path: Path) -> None:
    """Any part of the mono form is that part of the whole, however it is cut."""
    settings = Settings(data_dir=tmp_path)
    audio = write_recording(settings.recordings_dir / "call-1.ogg")
    store = RecordingStore(settings)
    assert await whole(store, "call-1.ogg") == audio
    mono = await whole(store, "call-1.ogg", "mono")
    assert heard(mono) == [{LEFT, RIGHT}]
    async with store.open("call-1.ogg") as recording:
        for start, end in ((0, 1), (0, 60), (30, 500), (511, 513), (512, 2000), (len(audio) - 1, len(audio))):
            assert b"".join([p async for p in pieces(recording, start, end, "mono")]) == mono[start:end]


async def test_recordings_kept_before_the_place_was_changed_are_found(tmp_path: Path) -> None:
    """A new folder takes new ones; those in the data folder are still read and deleted."""
    settings = Settings(data_dir=tmp_path, recordings_url=f"file://{tmp_path}/elsewhere")
    old, new = settings.recordings_dir / "old.ogg", settings.recordings_dir / "new.ogg"
    audio = [write_recording(path, 0.5) for path in (old, new)]
    store = RecordingStore(settings)
    assert store.location_of(new.resolve()) is None
    location = await store.put(new, "new")
    new.unlink()
    assert [await whole(store, place) for place in ("old.ogg", location)] == audio
    for place in ("old.ogg", location):
        await store.delete(place)
    assert not old.exists()
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "url",
    [
        "recordings",
        "/var/recordings",
        "ftp://host/recordings",
        "https://bucket.example.com/x",
        "s3://",
        "s3:///prefix",
        "file://host/recordings",
        "file:relative",
        "s3://key:secret@bucket/prefix",
        "s3://bucket/prefix?region=eu",
        "memory://",
    ],
)
def test_a_url_that_cannot_be_used_is_told_at_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="AGENT_WORKER_RECORDINGS_URL") as found:
        RecordingStore(Settings(data_dir=tmp_path, recordings_url=url))
    assert "secret@" not in str(found.value)


@pytest.mark.parametrize(
    "url", ["", "file:///srv/recordings", "s3://bucket", "s3://bucket/a/b", "gs://bucket/x", "az://container/x"]
)
def test_folders_and_buckets_are_told_apart_without_asking_them(tmp_path: Path, url: str) -> None:
    store = RecordingStore(Settings(data_dir=tmp_path, recordings_url=url))
    kept_here = store.location_of((tmp_path / "recordings" / "call-1.ogg").resolve())
    assert kept_here == ("call-1.ogg" if url == "" else None)


def test_a_disk_keeps_its_name_and_no_two_share_one(tmp_path: Path) -> None:
    """A container that starts with another host name still has its files."""
    name = disk_name(tmp_path / "a")
    assert disk_name(tmp_path / "a") == name
    assert disk_name(tmp_path / "b") != name
    assert names(tmp_path / "a") == ["disk-name"]
