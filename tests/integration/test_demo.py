"""The demo as a user runs it: one command, no key, no network; and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from agent_worker.providers.embedded.clips import ClipLibrary
from agent_worker.simulation.caller import CLIPS_FOLDER
from agent_worker.simulation.script import CALLER_LINES, PERSON_LINES, PERSON_YES
from agent_worker.testing.audio import locate, trim_silence

DEMO_SECONDS = 170

LOOPBACK_ONLY = """
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
os.execv(sys.argv[1], sys.argv[1:])
"""


def isolation() -> list[str]:
    """Return the command that leaves a program loopback and no other network, where this machine allows that."""
    unshare = shutil.which("unshare")
    command = [unshare or "", "-rn", sys.executable, "-c", LOOPBACK_ONLY]
    if unshare is None or subprocess.run([*command, shutil.which("true") or ""], capture_output=True).returncode:
        return []
    return command


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the demo once, with no network but loopback where that is possible; returns its folder and output."""
    folder = tmp_path_factory.mktemp("demo") / "call"
    return folder, asyncio.run(run(folder))


async def run(folder: Path) -> str:
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
    process = await asyncio.create_subprocess_exec(
        *isolation(),
        sys.executable,
        "-m",
        "agent_worker",
        "demo",
        "--output",
        str(folder),
        env={**{name: os.environ[name] for name in kept if name in os.environ}, "COLUMNS": "160"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(DEMO_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode()
    assert process.returncode == 0, text
    return text


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_the_caller_is_understood_answered_and_put_through(demo: tuple[Path, str]) -> None:
    """Each of the caller's lines is in the transcript as its intent, and has its answer."""
    report = read(demo[0], "report.json")
    entries = report["transcript"]["entries"]
    caller = [entry["text"] for entry in entries if entry["source"] == "user"]
    agent = " ".join(entry["text"] for entry in entries if entry["source"] == "agent")
    assert len(caller) == len(CALLER_LINES) - 1  # the last one is said to the person
    assert all(word in text for word, text in zip(("saturday", "service", "sales"), caller, strict=True))
    for answer in ("On Saturday we are open", "eighty five dollars", "I will put you through to sales"):
        assert answer in agent
    assert report["outcome"] == "transferred"
    assert report["metadata"]["disconnection_reason"] == "call_transfer"
    assert report["structured_data"]["transfer_requested"]["destination"] == "sales"


def test_every_answer_has_its_latencies(demo: tuple[Path, str]) -> None:
    """Turn, model and voice are measured for each reply of the model."""
    entries = read(demo[0], "report.json")["transcript"]["entries"]
    complete = [entry for entry in entries if entry["latency_status"] == "complete"]
    assert len(complete) >= 2
    for entry in complete:
        assert 0 < entry["conversational_latency_ms"] < 5_000


def test_the_events_tell_the_call_in_order(demo: tuple[Path, str]) -> None:
    """From initiated to hang-up, with the transfer in between."""
    names = [event["event_type"] for event in read(demo[0], "events.json")]
    expected = [
        "call.initiated",
        "call.ringing",
        "call.answered",
        "tool.started",
        "call.transfer.initiated",
        "call.hold",
        "transfer.screening",
        "transfer.bridging",
        "call.unhold",
        "call.transfer.completed",
        "call.hangup",
    ]
    assert [name for name in names if name in expected and name != "tool.started"] == [
        name for name in expected if name != "tool.started"
    ]
    assert names.count("tool.started") == names.count("tool.ended") == 1
    assert names[-1] == "call.hangup"


def test_the_person_is_asked_and_then_talks_with_the_caller(demo: tuple[Path, str]) -> None:
    """The row says who was asked what and agreed; the recording has the person's voice, as they said it."""
    [transfer] = read(demo[0], "call.json")["transfers"]
    assert (transfer["kind"], transfer["status"], transfer["failure_cause"]) == ("warm", "completed", None)
    asked = [said["source"] for said in transfer["metadata"]["consultation"]]
    assert asked == ["agent", "user"]
    assert "transfer   warm to sales (+12015550188): completed" in demo[1]
    for told in ("caller on hold, music", "Sam: Yes, please.", "caller talks with sales", f"Sam: {PERSON_LINES[0]}"):
        assert told in demo[1]
    with av.open(str(demo[0] / "recording.ogg")) as container:
        resampler = av.AudioResampler(format="s16p", layout="stereo", rate=16_000)
        parts = [out.to_ndarray() for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    ours = np.concatenate(parts, axis=1)[1]
    library = ClipLibrary(CLIPS_FOLDER)
    for line, there in [(line, True) for line in PERSON_LINES] + [(PERSON_YES, False)]:
        said = np.frombuffer(library.pcm(line) or b"", dtype=np.int16)
        found = locate(ours, trim_silence(said, 16_000), 16_000)
        assert (found is not None and found.correlation > 0.5) is there, (line, found)


def test_the_webhook_verifies_with_the_standard_library_and_not_when_changed(demo: tuple[Path, str]) -> None:
    """Headers, body and secret are what a receiver got; one changed byte is refused."""
    webhook = read(demo[0], "webhook.json")
    receiver = Webhook(webhook["secret"])
    payload = receiver.verify(webhook["body"], webhook["headers"])
    assert payload["type"] == "call.report"
    assert payload["call_id"] == read(demo[0], "report.json")["session_id"]
    with pytest.raises(WebhookVerificationError):
        receiver.verify(webhook["body"].replace("transferred", "tr4nsferred", 1), webhook["headers"])


def test_the_recording_has_both_voices_each_on_its_side(demo: tuple[Path, str]) -> None:
    """Left is the caller, right the agent; they take turns, so neither side holds the other's voice."""
    with av.open(str(demo[0] / "recording.ogg")) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    audio = np.concatenate(parts, axis=1)
    audio = audio.reshape(-1, 2).T if audio.shape[0] == 1 else audio
    audio = audio.astype(np.float64) / (32_768 if np.abs(audio).max() > 2 else 1)
    window = rate // 10
    count = audio.shape[1] // window
    levels = np.sqrt((audio[:, : count * window].reshape(2, count, window) ** 2).mean(axis=2))
    caller, agent = levels > 0.01
    assert caller.sum() > 60 and agent.sum() > 120  # windows of 100 ms
    # on a busy machine one may begin before the other has quite ended; a voice on the wrong side would be all of it
    assert (caller & agent).sum() < 0.3 * caller.sum()
    assert agent[:10].any()


def test_the_output_shows_the_call_and_where_its_files_are(demo: tuple[Path, str]) -> None:
    """Without a terminal the call is plain lines: no control codes, and no warnings."""
    folder, output = demo
    assert "\x1b" not in output
    assert "agent Thanks for calling Juniper Cycles" in output
    assert "tool transfer_call" in output
    assert "GET http://127.0.0.1:" in output
    assert str(folder / "recording.ogg") in output
    for noise in ("Traceback", "WARNING", "Warning", "LIVEKIT_"):
        assert noise not in output


def test_the_api_shows_the_call_with_its_analysis(demo: tuple[Path, str]) -> None:
    """What was fetched over HTTP is the whole call: analysed offline, its recording ready, its spans there."""
    call, report = read(demo[0], "call.json"), read(demo[0], "report.json")
    assert (call["status"], call["recording_status"], call["agent_id"]) == ("ended", "ready", "demo")
    assert call["span_tree"]["root"]["name"] == "call"
    assert (report["analysis_status"], report["analysis_provider"]) == ("completed", "embedded")
    assert report["general_success"] is True
    assert 1 <= report["final_score"] <= 10
    assert report["customer_request"]
    assert "saturday" in report["summary"]
    assert "analysis   completed, by embedded/" in demo[1]


def test_every_webhook_of_the_call_was_delivered_and_verified(demo: tuple[Path, str]) -> None:
    """Report, analysis and recording went to a receiver by the dispatcher that serves operators."""
    lines = [line.split(maxsplit=1)[1] for line in demo[1].splitlines() if line.startswith("  webhook    call.")]
    told = {line.split(":")[0]: line for line in lines}
    assert set(told) == {"call.report", "call.analysis", "call.recording"}
    for line in told.values():
        assert line.endswith("succeeded (200), signature verified by the receiver")
