"""The command line: what an operator or a developer types, and how mistakes are told to them.

Commands import what they run when they run it, so that `--help` answers at once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from agent_worker.cli_keys import keys
from agent_worker.cli_told import EXIT_CONFIGURATION, told
from agent_worker.cli_webhook_secret import webhook_secret

app = typer.Typer(
    name="agent_worker",
    help=(
        "An open, self-hosted phone agent for LiveKit.\n\n"
        "\b\nFirst steps:\n"
        "  python -m agent_worker demo      hear a whole call; no key, no network\n"
        "  python -m agent_worker check     is everything in place for real calls?\n"
        "  python -m agent_worker up        take calls, with the API beside them\n\n"
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


@app.command(short_help="The control plane, for workers on other hosts.")
def serve() -> None:
    """Run the control plane for workers on other hosts, until SIGTERM or Ctrl-C.

    It has the agents, the database and the webhooks' secrets; workers need its URL and a token, nothing else.
    Put it behind a proxy that speaks https where workers reach it over a network you do not trust.

    \b
    Example:
      export AGENT_WORKER_CONTROL_TOKEN=$(openssl rand -hex 32)
      AGENT_WORKER_API_HOST=0.0.0.0 python -m agent_worker serve
    On each worker, with the same token:
      AGENT_WORKER_CONTROL_URL=https://control.example.com python -m agent_worker start

    Health: GET /readyz answers 200 once facts are taken (AGENT_WORKER_API_PORT, 8080).
    """
    with told():
        from agent_worker.cli_serve import run_serve
        from agent_worker.settings import settings

        code = run_serve(settings())
    raise typer.Exit(code)


@app.command(short_help="Worker and control plane on one machine.")
def up() -> None:
    """Take calls and run the control plane (API, webhooks, reports) on one machine, until SIGTERM or Ctrl-C.

    Two processes, `start` and `serve`, on the same data folder; each is started again if it dies. One signal
    stops both: live calls end first, then their facts are taken, then the API stops. A second signal stops at once.

    \b
    Example:
      set -a; . ./.env; set +a
      python -m agent_worker up
    """
    with told():
        from agent_worker.cli_up import run_up
        from agent_worker.settings import settings

        configuration = settings()
        configuration.require_livekit()
        code = run_up(configuration)
    raise typer.Exit(code)


app.add_typer(keys, name="keys", short_help="Keys of the API.")
app.add_typer(webhook_secret, name="webhook-secret", short_help="The secret webhooks are signed with.")


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


@app.command(short_help="Where does each value come from?")
def explain(
    number: Annotated[str | None, typer.Option("--number", "-n", help="The number that is called, E.164.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Id of the agent, as a dispatch names it.")] = None,
    caller: Annotated[str | None, typer.Option("--caller", help="The caller's number.")] = None,
    overrides: Annotated[
        Path | None, typer.Option("--overrides", "-o", help="JSON or YAML file: what a dispatch or a request sends.")
    ] = None,
    pre_call: Annotated[
        Path | None, typer.Option("--pre-call", help="JSON or YAML file: what the pre-call webhook would answer.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show built-in defaults too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print how a call would be configured, and which layer each value comes from; no call is made.

    \b
    Examples:
      python -m agent_worker explain --number +12015550123
      python -m agent_worker explain --agent front-desk --pre-call reply.json --json
    """
    with told():
        import json

        from agent_worker import cli_explain
        from agent_worker.control.make import make_catalog
        from agent_worker.settings import settings

        if number is None and agent is None:
            raise typer.BadParameter("name a --number or an --agent")
        offer = cli_explain.offer_of(number, agent, caller, cli_explain.read_object(overrides) if overrides else {})
        reply = cli_explain.read_object(pre_call) if pre_call else None
        explanation = cli_explain.explain(offer, reply, make_catalog(settings()).current(), settings())
        if as_json:
            typer.echo(json.dumps(cli_explain.as_json(explanation), indent=2, ensure_ascii=False))
        else:
            cli_explain.print_explanation(explanation, everything=everything)


@app.command(short_help="Make LiveKit match the numbers.")
def provision(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove what an earlier run made and nothing names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make LiveKit's trunks and dispatch rule match the numbers of telephony.yaml and of the agents.

    For each SIP connection an inbound trunk with its numbers and an outbound trunk; one rule, bound to those
    trunks, that brings calls to this agent name. A second run changes nothing. What others made is never touched.
    Nothing is changed while the database, or the control plane on another host, cannot be asked for its numbers.

    \b
    Example:
      python -m agent_worker provision --dry-run
      python -m agent_worker provision --prune

    Exits with 1 where LiveKit could not be made to match, and says why.
    """
    with told():
        from agent_worker import cli_provision
        from agent_worker.settings import settings

        settings().require_livekit()
        found = asyncio.run(cli_provision.read_configuration(settings()))
        if prune:
            cli_provision.check_prune(found)
        desired = cli_provision.desired_of(found.catalog, settings())
        run = cli_provision.run_provision(settings(), desired, prune=prune, dry_run=dry_run, as_json=as_json)
        code = asyncio.run(run)
    raise typer.Exit(code)


@app.command(short_help="Why are calls not answered?")
def doctor(
    call: Annotated[bool, typer.Option("--call", help="Also place a call through the bridge and listen.")] = False,
    number: Annotated[str | None, typer.Option("--number", "-n", help="The number of ours that --call dials.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    skip: Annotated[list[str] | None, typer.Option("--skip", help="A check to leave out; may be repeated.")] = None,
) -> None:
    """Find out why calls are not answered: configuration, LiveKit, bridge, numbers, workers, providers, webhooks.

    Asks each part in the order a call needs it, and says for each failure the cause and the remedy. Changes
    nothing; rooms it makes are deleted again. Exits with 1 where anything failed.

    \b
    Example:
      python -m agent_worker doctor
      python -m agent_worker doctor --call --number +12015550123
      python -m agent_worker doctor --skip providers --skip webhooks --json
    """
    with told():
        from agent_worker.cli_doctor import run_doctor

        code = run_doctor(call=call, number=number, as_json=as_json, skip=skip or [])
    raise typer.Exit(code)


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
