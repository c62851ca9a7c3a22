"""The command line: what an operator or a developer types, and how mistakes are told to them.

Commands import what they run when they run it, so that `--help` answers at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from agent_worker.errors import AgentWorkerError, ConfigError, SettingsError

EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended

app = typer.Typer(
    name="agent_worker",
    help=(
        "An open, self-hosted phone agent for LiveKit.\n\n"
        "\b\nFirst steps:\n"
        "  python -m agent_worker demo      hear a whole call; no key, no network\n"
        "  python -m agent_worker check     is everything in place for real calls?\n"
        "  python -m agent_worker start     take calls from LiveKit\n\n"
        "Settings are environment variables (.env.example); agents are files in agents/."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command the process was started with, and exit with its code."""
    app(prog_name="python -m agent_worker")


@contextmanager
def told() -> Iterator[None]:
    """Turn an error raised on purpose into one sentence on stderr, and Ctrl-C into a quiet end.

    Exit codes: 2 = the configuration or a setting is wrong, 1 = any other error, 130 = interrupted.
    """
    try:
        yield
    except AgentWorkerError as error:
        configuration = isinstance(error, ConfigError | SettingsError)
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(EXIT_CONFIGURATION if configuration else EXIT_ERROR) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.command(short_help="Take calls from LiveKit.")
def start() -> None:
    """Take calls from LiveKit until SIGTERM or Ctrl-C; then let live calls end, and exit.

    \b
    Example:
      export LIVEKIT_URL=wss://livekit.example.com LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…
      export DEEPGRAM_API_KEY=… OPENAI_API_KEY=… CARTESIA_API_KEY=…
      python -m agent_worker start

    Health: GET http://127.0.0.1:8081/readyz answers 200 once calls can come (AGENT_WORKER_HEALTH_PORT).
    """
    _run_worker(dev=False)


@app.command(short_help="The same, with logs for people.")
def dev() -> None:
    """Take calls like `start`, with logs for people instead of JSON lines.

    Everything else is the same: the same models, the same local turn detection, the same processes.

    \b
    Example:
      AGENT_WORKER_LOG_LEVEL=DEBUG python -m agent_worker dev
    """
    _run_worker(dev=True)


def _run_worker(*, dev: bool) -> None:
    with told():
        from agent_worker.settings import settings

        configuration = settings()
        configuration.require_livekit()
        from agent_worker.worker import run_worker

        code = run_worker(configuration, dev=dev)
    raise typer.Exit(code)


@app.command(short_help="Hear a whole call; no key, no network.")
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder the call's files are written to.", file_okay=False)
    ] = Path("demo-call"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the summary only.")] = False,
) -> None:
    """Hear a whole call with real audio, without a key, a server or a network.

    A scripted caller rings the demo agent; speech is recognised and spoken on this machine. Afterwards the
    folder has the recording, the report, the events and the webhook that would have been sent.

    \b
    Example:
      python -m agent_worker demo --output /tmp/call
    """
    with told():
        from agent_worker.simulation.demo import run_demo

        code = asyncio.run(run_demo(output, quiet=quiet))
    raise typer.Exit(code)


@app.command(short_help="Talk to an agent at the desk.")
def console(
    agent: Annotated[str, typer.Option("--agent", "-a", help="Name of the agent to talk to.")] = "front-desk",
    text: Annotated[bool, typer.Option("--text", "-t", help="Type instead of speaking.")] = False,
) -> None:
    """Talk to an agent at the desk: microphone and speaker, or the keyboard with --text.

    \b
    Example:
      python -m agent_worker console --agent front-desk --text
    """
    with told():
        from agent_worker.simulation.desk import run_desk

        code = asyncio.run(run_desk(agent, text=text))
    raise typer.Exit(code)


@app.command(short_help="Is everything in place for real calls?")
def check() -> None:
    """Check settings, agent files, prompts, tools and providers, without taking a call.

    Prints what would answer which number, or every problem with its file, line and remedy. Exits with 2
    where anything is wrong, so it can stand before a deployment.

    \b
    Example:
      python -m agent_worker check && systemctl restart agent-worker
    """
    with told():
        from agent_worker.cli_check import print_outcome, run_check

        outcome = run_check()
        print_outcome(outcome)
    raise typer.Exit(EXIT_CONFIGURATION if outcome.problems else 0)


@app.command(short_help="Create or update the tables.")
def migrate() -> None:
    """Create or update the database's tables; `start` does the same, so this is for those who do it apart.

    \b
    Example:
      AGENT_WORKER_DATABASE_URL=postgresql+psycopg://agent@db.example/agent python -m agent_worker migrate
    """
    with told():
        from agent_worker.settings import settings
        from agent_worker.store.migrate import upgrade

        upgrade(settings().database)
    typer.echo("The tables are up to date.")


@app.command(short_help="Print the versions.")
def version() -> None:
    """Print the versions of this product, of LiveKit Agents and of Python.

    \b
    Example:
      python -m agent_worker version
    """
    from importlib.metadata import version as installed

    from agent_worker import __version__

    python = ".".join(str(part) for part in sys.version_info[:3])
    typer.echo(f"agent-worker {__version__}, livekit-agents {installed('livekit-agents')}, Python {python}")
