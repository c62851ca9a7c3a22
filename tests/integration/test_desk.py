"""The desk: an agent by keyboard, and by a microphone and speaker that are handed in."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from rich.console import Console

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import DisconnectionReason
from agent_worker.providers.embedded.clips import ClipLibrary
from agent_worker.settings import shipped_folder
from agent_worker.simulation.caller import CLIPS_FOLDER
from agent_worker.simulation.demo import AGENTS_FOLDER, demo_settings
from agent_worker.simulation.desk_line import BLOCK_BYTES, DeskLine
from agent_worker.simulation.desk_text import TextDesk
from agent_worker.simulation.script import CALLER_LINES
from agent_worker.simulation.stage import stage
from agent_worker.store.queries import call_detail
from agent_worker.testing.product_process import clean_environment
from agent_worker.toolbox.loader import load_tools


@pytest.fixture
def agent() -> AgentConfig:
    return AgentCatalog.load(AGENTS_FOLDER, shipped_folder("prompts")).agents["demo"]


async def typed(*lines: str) -> AsyncIterator[str]:
    for line in lines:
        yield f"{line}\n"


async def shown(agent: AgentConfig, *lines: str, env: dict[str, str] | None = None) -> tuple[TextDesk, str]:
    """Return the desk and what it showed, plain, after these lines."""
    console = Console(file=io.StringIO(), width=200)
    desk = TextDesk(agent, load_tools(shipped_folder("tools")), env or {}, console)
    await desk.run(typed(*lines))
    assert isinstance(console.file, io.StringIO)
    return desk, console.file.getvalue()


async def test_typed_lines_are_answered_until_a_tool_ends_the_call(agent: AgentConfig) -> None:
    """The agent greets, answers, runs its tools, and what comes after its goodbye is not read."""
    desk, output = await shown(
        agent, "when do you close on saturday", "put me through to sales", "bye", "are you there"
    )
    assert desk.ended.is_set()
    assert desk.structured_data["transfer_requested"]["destination"] == "sales"
    order = [
        "How can I help",
        "On Saturday we are open",
        "transfer_call(",
        "simulated line",
        "end_call(",
        "call ended",
    ]
    positions = [output.index(part) for part in order]
    assert positions == sorted(positions)
    assert "Sorry, I did not catch" not in output


async def test_an_empty_line_ends_the_conversation(agent: AgentConfig) -> None:
    """No tool is needed to leave."""
    desk, output = await shown(agent, "", "when do you close on saturday")
    assert not desk.ended.is_set()
    assert "On Saturday" not in output


async def test_a_model_that_fails_is_told_and_the_conversation_goes_on(agent: AgentConfig) -> None:
    """A refused connection is one line, for each turn it fails."""
    allowed = {"stackPreferences": {"allowedProviders": {"llm": ["openai"]}}, "name": "a"}
    failing = AgentConfig.model_validate(allowed)
    _, output = await shown(failing, "hello", "hello again", env={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
    assert output.count("the model failed") == 2


class Booth:
    """A microphone that plays what it is given, and a speaker that keeps what it hears, at their real pace."""

    def __init__(self) -> None:
        self.played = bytearray()
        self.words = bytearray()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, heard: Callable[[bytes], None], wanted: Callable[[], bytes]) -> None:
        self._thread = threading.Thread(target=self._run, args=(heard, wanted))
        self._thread.start()

    def _run(self, heard: Callable[[bytes], None], wanted: Callable[[], bytes]) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            block = bytes(self.words[:BLOCK_BYTES])
            del self.words[:BLOCK_BYTES]
            heard(block.ljust(BLOCK_BYTES, b"\x00"))
            self.played += wanted()
            due += 0.02
            time.sleep(max(0.0, due - time.monotonic()))

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()


async def until(condition: Callable[[], bool]) -> None:
    """Return when what a thread does has come so far."""
    while not condition():  # noqa: ASYNC110 - the thread knows no event of the loop
        await asyncio.sleep(0.1)


async def test_a_spoken_call_goes_through_microphone_and_speaker(tmp_path: Path) -> None:
    """What the microphone hears is answered at the speaker; hanging up at the desk ends the call."""
    booth = Booth()
    async with stage(demo_settings(tmp_path)) as theatre:
        agent = theatre.catalog.agents["demo"]
        await theatre.render_speech(agent)
        line = DeskLine("demo", booth)
        taking = asyncio.create_task(theatre.take(line))
        try:
            async with asyncio.timeout(40):
                await until(lambda: len(booth.played) >= 6 * 32_000)  # the greeting
                before = len(booth.played)
                booth.words += ClipLibrary(CLIPS_FOLDER).pcm(CALLER_LINES[0]) or b""
                await until(lambda: any(booth.played[before:]))
                await asyncio.sleep(2)
                line.caller_hangs_up()
                ending = await taking
        finally:
            taking.cancel()
            booth.stop()
        await theatre.settle()
        async with theatre.control.reading() as connection:
            call = await call_detail(connection, line.call_id)
    assert ending.reason is DisconnectionReason.USER_HANGUP
    assert call is not None
    entries = call["transcript"]["entries"]
    assert [entry["text"] for entry in entries if entry["source"] == "user"] == [
        "hello what time do you close on saturday"
    ]


def test_the_keyboard_has_the_agent_a_call_would_have(tmp_path: Path, root: Path) -> None:
    """Templates in the prompt and the first message are filled in, as they are on a call."""
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "greeter.yaml").write_text(
        "name: greeter\nsystemPrompt: You help.\nfirstMessage: 'Welcome to {{ shop }}.'\n"
        "promptVariables: [{name: shop, defaultValue: Larkspur}]\n"
        "stackPreferences: {allowedProviders: {stt: [embedded], llm: [embedded], tts: [embedded]}}\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "agent_worker", "console", "--agent", "greeter", "--text"],
        cwd=root,
        env=clean_environment(
            {"AGENT_WORKER_AGENTS_DIR": str(agents), "AGENT_WORKER_DATA_DIR": str(tmp_path / "data")}
        ),
        input="\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Welcome to Larkspur." in run.stdout
