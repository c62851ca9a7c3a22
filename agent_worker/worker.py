"""The worker: takes calls from LiveKit, one process each. `take_call` is the table of contents of a call."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

from livekit.agents import JobContext, JobProcess
from livekit.rtc._ffi_client import FfiClient

from agent_worker.call.answer import announce_and_hang_up, answer
from agent_worker.call.commands import take_commands
from agent_worker.call.conversation import attach, converse
from agent_worker.call.line import Line
from agent_worker.call.live_call import Ending
from agent_worker.call.refuse import refuse
from agent_worker.call.room_line import RoomLine
from agent_worker.call.services import CallServices
from agent_worker.call.setup import open_call, prepare
from agent_worker.call.speech_cache import SpeechCache, bundled
from agent_worker.call.wrapup import wrap_up
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.config.presets_file import read_presets
from agent_worker.config.problems import ConfigErrors
from agent_worker.config.tool_configs import tool_config_problems
from agent_worker.control.make import check_control, make_catalog, make_control
from agent_worker.domain.call import CallRefusal, DisconnectionReason
from agent_worker.domain.dialling import DialPolicy
from agent_worker.domain.presets import Presets
from agent_worker.errors import CallError, place_of
from agent_worker.host import RESCUE_KEY, WorkerHost
from agent_worker.logging_setup import configure_logging
from agent_worker.providers.registry import check_stack
from agent_worker.settings import Settings, settings
from agent_worker.toolbox.loaded_tool import LoadedTool
from agent_worker.toolbox.loader import config_models, load_tools

logger = logging.getLogger("agent_worker.worker")


async def take_call(line: Line, services: CallServices) -> Ending:
    """Take one call, from the first ring to its last fact; returns why it ended."""
    answer_by = asyncio.get_running_loop().time() + services.settings.answer_budget_ms / 1000
    journal, offer, plan = await open_call(line, services, answer_by=answer_by)
    call = plan if isinstance(plan, CallRefusal) else prepare(line, journal, offer, plan, services)
    if isinstance(call, CallRefusal):
        return await refuse(line, journal, call, services, answer_by=answer_by)
    try:
        take_commands(call)
        attach(call)
        await answer(call, answer_by=answer_by)
        ending = await converse(call)
    except CallError as error:
        ending = Ending(DisconnectionReason(error.disconnection_reason), error.code)
    except Exception as error:  # noqa: BLE001 - whatever broke, the caller is not left on a dead line
        logger.error("call broke", extra={"call_id": line.call_id, "error": place_of(error)})
        ending = Ending(DisconnectionReason.ERROR, "worker_error")
    except asyncio.CancelledError:
        # the worker died under this call and takes the session with it: nothing can be said, nothing is left behind
        await wrap_up(call, Ending(DisconnectionReason.WORKER_LOST, "worker_error"), session_lost=True)
        raise
    return await wrap_up(call, ending)


def make_services(configuration: Settings, catalog: CachedCatalog | None = None) -> CallServices:
    """Build what all calls of this process share.

    Raises:
        ConfigError: an agent file, prompt or tool is wrong.
    """
    return CallServices(
        settings=configuration,
        control=make_control(configuration, catalog or make_catalog(configuration)),
        tools=load_tools(configuration.tools_dir),
        speech=SpeechCache(configuration.cache_dir),
        env=os.environ,
        presets=read_presets(configuration.presets_file),
        worker_id=worker_id(configuration),
    )


def worker_id(configuration: Settings) -> str:
    """Return what this worker is called in leases and on call rows."""
    return f"{socket.gethostname()}:{configuration.agent_name}"


def prewarm(process: JobProcess) -> None:
    """Make a job process ready before a call is offered to it."""
    configuration = settings()
    catalog = make_catalog(configuration)
    services = make_services(configuration, catalog)
    services.build_ahead(catalog.current().agents.values())
    process.userdata["services"] = services
    # starts the media engine's threads, which no fork can share
    _ = FfiClient.instance


async def entrypoint(ctx: JobContext) -> None:
    """Run one job: a call, or the rescue of one."""
    services: CallServices = ctx.proc.userdata["services"]
    line = RoomLine(ctx)
    ctx.log_context_fields = {"call_id": line.call_id}
    if RESCUE_KEY in ctx.job.metadata:
        await _rescue(line)
    else:
        await take_call(line, services)
    ctx.shutdown("call ended")


async def _rescue(line: RoomLine) -> None:
    """Tell a caller whose call has lost its process, and hang up."""
    try:
        await line.ring()
        await announce_and_hang_up(line, bundled("goodbye"))
    except CallError:
        await line.hang_up()
    await line.aclose()


def run_worker(configuration: Settings, *, dev: bool) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code.

    Raises:
        AgentWorkerError: a setting, an agent file or a provider is wrong.
    """
    configuration.require_livekit()
    configure_logging(configuration, text=dev)
    check_control(configuration)
    dialling = DialPolicy.of(configuration.dial_allow)  # at once: a mistake in it is found before a call
    tools = load_tools(configuration.tools_dir)
    catalog = make_catalog(configuration)
    presets = read_presets(configuration.presets_file)
    if catalog.files is not None:
        check_tool_configs(catalog.files, tools, dialling)
        check_providers(catalog.files, presets)
    return asyncio.run(_run_host(configuration, catalog))


async def _run_host(configuration: Settings, catalog: CachedCatalog) -> int:
    return await WorkerHost(configuration, catalog, entrypoint, prewarm, worker_id(configuration)).run()


def check_tool_configs(catalog: AgentCatalog, tools: Mapping[str, LoadedTool], dialling: DialPolicy) -> None:
    """Raise `ConfigErrors` where agents configure tools with what these cannot use."""
    models = config_models(tools)
    problems = [p for found in catalog.files.values() for p in tool_config_problems(found, models, dialling)]
    if problems:
        raise ConfigErrors(problems)


def check_providers(catalog: AgentCatalog, presets: Presets) -> None:
    """Raise the first `ProviderError` of any agent: a missing key is found before a call, not on one."""
    for agent in catalog.agents.values():
        for error in check_stack(agent, os.environ, presets):
            raise error
