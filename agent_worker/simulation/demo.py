"""The demo: a whole call with real audio, without a key, a server or a network."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from agent_worker.domain.call import DisconnectionReason
from agent_worker.providers.embedded.engines import installed_engine
from agent_worker.settings import Settings, shipped_folder
from agent_worker.simulation.caller import ScriptedCaller
from agent_worker.simulation.keepsakes import keep
from agent_worker.simulation.line import SimulatedLine
from agent_worker.simulation.own_api import own_api
from agent_worker.simulation.person import SimulatedPerson
from agent_worker.simulation.receiver import receiving
from agent_worker.simulation.screen import Screen
from agent_worker.simulation.script import CALLER_LINES, DIALED_NUMBER, PERSON_LINES, PERSON_YES
from agent_worker.simulation.stage import require_providers, stage
from agent_worker.webhooks.signing import new_secret

AGENTS_FOLDER = Path(__file__).parent / "agents"
AGENT_NAME = "demo"
PERSON_NAME = "Sam"
CALL_SECONDS = 150.0
"""A demo call that takes longer than this is cut off."""


async def run_demo(output_dir: Path, *, quiet: bool) -> int:
    """Run the demo's call and leave its files in `output_dir`; returns the process's exit code.

    Raises:
        ProviderError: the recogniser is not installed.
        ConfigErrors: the demo agent or a tool is wrong.
    """
    logging.getLogger().setLevel(logging.WARNING)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="agent-worker-demo-") as folder:
        return await _run(demo_settings(Path(folder)), output_dir, console, quiet=quiet)


def demo_settings(data_dir: Path) -> Settings:
    """Return settings under which the demo touches nothing but this folder."""
    return Settings(
        agents_dir=AGENTS_FOLDER,
        prompts_dir=shipped_folder("prompts"),
        tools_dir=shipped_folder("tools"),
        data_dir=data_dir,
        database_url="",
        prices_file=None,
        webhook_secret=SecretStr(new_secret()),
        egress_allow="127.0.0.1",
    )


async def _run(settings: Settings, output_dir: Path, console: Console, *, quiet: bool) -> int:
    line = SimulatedLine(dialed_number=DIALED_NUMBER, job_metadata={"simulated": True})
    screen = Screen(console, quiet=quiet, speaking=lambda: _who_speaks(line))
    caller = ScriptedCaller(line, CALLER_LINES, said=lambda text: _tell_what_nobody_recognises(text, screen))
    async with (
        receiving(settings.webhook_secret.get_secret_value()) as receiver,
        own_api(settings) as api,
        stage(settings, watch=screen.fact, make_leg=lambda room, _: _person(room, screen)) as theatre,
    ):
        agent = theatre.catalog.agents[AGENT_NAME]
        require_providers(agent, settings)
        screen.note(_voices())
        await api.subscribe(receiver.url)
        await theatre.render_speech(agent)
        with screen:
            calling = asyncio.create_task(caller.run(), name="caller")
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    ending = await theatre.take(line)
                await calling
                await theatre.settle()
            finally:
                calling.cancel()
        told = await api.told(line.call_id)
    if told is None:
        console.print("The call left no report.", style="red")
        return 1
    files = await asyncio.to_thread(keep, output_dir, told, receiver)
    screen.summary(caller.turns, told, receiver.received, api.url)
    screen.files(files)
    complete = ending.reason is DisconnectionReason.CALL_TRANSFER and len(caller.turns) == len(CALLER_LINES)
    if not complete:
        console.print(f"The call did not go as scripted: it ended by {ending.reason.value}.", style="red")
    return 0 if complete else 1


def _tell_what_nobody_recognises(text: str, screen: Screen) -> None:
    if text == CALLER_LINES[-1]:
        screen.aside("caller", text)


def _person(room_name: str, screen: Screen) -> SimulatedPerson:
    return SimulatedPerson(
        room_name, yes=PERSON_YES, lines=PERSON_LINES, said=lambda text: screen.aside(PERSON_NAME, text)
    )


def _who_speaks(line: SimulatedLine) -> str:
    if line.playout.speaking:
        return "agent"
    return "caller" if line.mouth_open else ""


def _voices() -> str:
    engine = installed_engine()
    if engine is not None:
        return f"Simulated call, real audio: pocketsphinx hears, {engine} speaks, replies go by rules."
    return (
        "Simulated call, real audio: pocketsphinx hears, replies go by rules, the voice is recorded sentences"
        " (for a synthesised one: apt install flite)."
    )
