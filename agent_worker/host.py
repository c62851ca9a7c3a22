"""The worker's parent process: registers with LiveKit, admits calls, ships journals, answers health checks, drains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from livekit import api
from livekit.agents import AgentServer, JobContext, JobExecutorType, JobProcess, JobRequest

from agent_worker import __version__, metrics
from agent_worker.call.speech_ahead import SpeechAhead
from agent_worker.call.speech_cache import SpeechCache
from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.config.presets_file import read_presets
from agent_worker.config.routing import own_refusal
from agent_worker.control.catalog_keeper import OK
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_control, make_keeper
from agent_worker.control.recording_shipper import recording_shipper
from agent_worker.control.shipper import JournalShipper, Standing
from agent_worker.control.sweeper import Sweeper
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallOpened
from agent_worker.errors import ControlPlaneError
from agent_worker.providers.registry import preload_modules
from agent_worker.settings import Settings
from agent_worker.stop_signals import on_stop_signals
from agent_worker.telephony.probe import WorkerState, answer_probe, is_probe
from agent_worker.telephony.rooms import agent_identity, delete_consultations, delete_room, is_web

logger = logging.getLogger("agent_worker.host")

RESCUE_KEY = "agentWorkerRescue"
"""Job metadata that sends a job into the room of a call whose process died, to say so and hang up."""

RESCUE_SECONDS = 7.0
"""How long a rescue may take before the room is deleted under it."""

MOST_LOAD = 0.99
"""What a full worker says: one that says 1 is offered nothing, and could neither rescue a call nor answer a probe."""

ASSIGNMENT_SECONDS = 10.0
"""An accepted job that has not started by then never will (LiveKit gives up after 7.5 s)."""

PRELOADED = ["agent_worker.worker", "agent_worker.call.preload"]


class WorkerHost:
    """Runs one worker until it is told to stop.

    Args:
        catalog: what calls are planned from; its cached part is kept fresh here.
        entrypoint: runs one job, in its own process.
        prewarm: makes a job process ready.
        worker_id: names this worker in leases and on call rows.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: CachedCatalog,
        entrypoint: Callable[[JobContext], Awaitable[None]],
        prewarm: Callable[[JobProcess], Any],
        worker_id: str,
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._catalog = catalog
        self._control = make_control(settings, catalog)
        self._keeper = make_keeper(self._control, catalog)
        self._admitted: dict[str, float] = {}
        self._registered = False
        self._stopping = asyncio.Event()
        # the fork server loads the end-of-turn weights once; without this every call would load its own
        os.environ.setdefault("LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE", "1")
        self._server = AgentServer(
            job_executor_type=JobExecutorType.PROCESS,
            ws_url=settings.livekit_url,
            api_key=settings.livekit_api_key,
            api_secret=settings.livekit_api_secret.get_secret_value(),
            host="127.0.0.1",
            port=0,
            num_idle_processes=settings.idle_processes,
            drain_timeout=settings.drain_timeout_seconds,
            load_fnc=self._load,
            # the library counts every job it is about to start as a share of the threshold, so that three calls
            # within 10 ms look like a full machine; `_admit` counts for itself
            load_threshold=math.inf,
            setup_fnc=prewarm,
            preload_modules=[*preload_modules(), *PRELOADED],
            job_memory_warn_mb=500,
        )
        self._server.rtc_session(entrypoint, agent_name=settings.agent_name, on_request=self._admit)
        self._server.on("worker_registered", self._on_registered)

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, then let calls end; returns the exit code."""
        on_stop_signals(self._stop, _stop_at_once)
        shipper = JournalShipper(
            self._settings.journal_dir,
            self._control,
            worker_id=self._worker_id,
            lease_seconds=self._settings.lease_seconds,
            on_orphan=self._on_orphan,
            on_delivered=metrics.CallMeter().observe,
        )
        async with contextlib.AsyncExitStack() as stack:
            await self._serve_health(stack, shipper)
            stack.push_async_callback(self._control.aclose)
            presets = read_presets(self._settings.presets_file)
            speech = SpeechAhead(
                SpeechCache(self._settings.cache_dir), self._catalog, presets, refusal=own_refusal(self._settings)
            )
            beside = [
                asyncio.create_task(speech.run(), name="speech-ahead"),
                asyncio.create_task(metrics.watch_loop(metrics.WORKER_LOOP_LAG), name="loop-lag"),
            ]
            if isinstance(self._control, EmbeddedControlPlane):
                # where the control plane is on another host, its database and its lost calls are that host's to mind
                sweeper = Sweeper(self._control, self._close_room, grace_seconds=self._settings.lease_seconds)
                beside.append(asyncio.create_task(sweeper.run(), name="sweeper"))
                await self._prepare_database(self._control)
            beside.append(asyncio.create_task(self._keeper.run(), name="catalog"))
            recordings = recording_shipper(self._control, self._settings)
            recordings.start()
            stack.push_async_callback(recordings.aclose)
            shipper.start()
            stack.push_async_callback(shipper.aclose)
            for task in beside:
                stack.callback(task.cancel)
            if not await self._has_configuration():
                return 0
            return await self._serve()

    async def _has_configuration(self) -> bool:
        """Wait for the first configuration where all of it comes from another host; returns whether there is one."""
        if self._catalog.files is not None or self._keeper.first.is_set():
            return True
        logger.warning("waiting for the control plane: no configuration is cached here yet")
        waits = {asyncio.create_task(self._keeper.first.wait()), asyncio.create_task(self._stopping.wait())}
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        return not self._stopping.is_set()

    async def _serve(self) -> int:
        running = asyncio.create_task(self._server.run(devmode=False), name="agent_server")
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if running.done():
            logger.error("LiveKit cannot be reached", exc_info=running.exception())
            return 1
        with contextlib.suppress(TimeoutError):
            await self._server.drain()
        await self._server.aclose()
        await running
        return 0

    async def _prepare_database(self, control: EmbeddedControlPlane) -> None:
        """Bring the database up to date; one that is away is no reason not to answer the phone."""
        try:
            await control.renew_leases(["-"], worker_id=self._worker_id, until=utc_now())
        except ControlPlaneError as error:
            logger.error("database not available, journals are kept", extra={"code": error.code})

    def _stop(self) -> None:
        logger.info("stopping: no new calls, waiting for %d to end", len(self._server.active_jobs))
        self._stopping.set()

    def _on_registered(self, worker_id: str, _info: object) -> None:
        self._registered = True
        logger.info("registered with LiveKit", extra={"worker_id": worker_id})

    def _calls(self) -> int:
        now = asyncio.get_running_loop().time()
        running = {job.job.id for job in self._server.active_jobs}
        for job_id, since in list(self._admitted.items()):
            if job_id in running or now - since > ASSIGNMENT_SECONDS:
                del self._admitted[job_id]
        return len(running) + len(self._admitted)

    def _load(self, server: AgentServer) -> float:
        # runs in a thread, so it reads and does not clean up
        return min(len(server.active_jobs) / self._settings.call_slots, MOST_LOAD)

    async def _admit(self, request: JobRequest) -> None:
        """Take the job if a slot is free; the count is hard, whatever the machine's load looks like."""
        if is_probe(request.job.metadata):
            await self._answer_probe(request)
            return
        rescue = RESCUE_KEY in request.job.metadata
        if self._stopping.is_set() or (self._calls() >= self._settings.call_slots and not rescue):
            reason = "draining" if self._stopping.is_set() else "no_free_slot"
            logger.warning("job refused", extra={"job_id": request.id, "reason": reason})
            metrics.JOBS_REFUSED.labels(reason).inc()
            await request.reject(terminate=False)
            return
        self._admitted[request.id] = asyncio.get_running_loop().time()
        await request.accept(name="Agent", identity=agent_identity(request.id))

    async def _answer_probe(self, request: JobRequest) -> None:
        """Say who we are in the room of somebody who asks, and leave the job to the next worker."""
        calls, slots = self._calls(), self._settings.call_slots
        state = "draining" if self._stopping.is_set() else "ready" if calls < slots else "full"
        about = WorkerState(self._worker_id, state, slots, calls, __version__)
        async with self._livekit() as client:
            await answer_probe(client, request.room.name, request.job.metadata, about)
        await request.reject(terminate=False)

    async def _on_orphan(self, opened: CallOpened) -> None:
        """A call has lost its process: have another one tell the caller, and take the room down."""
        room = opened.room_name
        async with self._livekit() as client:
            await delete_consultations(client, room)
            if not await self._has_caller(client, room):
                await delete_room(client, room)
                return
            with contextlib.suppress(api.TwirpError, TimeoutError):
                await client.agent_dispatch.create_dispatch(
                    api.CreateAgentDispatchRequest(
                        agent_name=self._settings.agent_name,
                        room=room,
                        metadata=json.dumps({RESCUE_KEY: opened.call_id}),
                    )
                )
                async with asyncio.timeout(RESCUE_SECONDS):
                    while await self._has_caller(client, room):  # noqa: ASYNC110 - the server has no event for it
                        await asyncio.sleep(0.25)
            await delete_room(client, room)

    async def _close_room(self, room: str) -> None:
        async with self._livekit() as client:
            await delete_consultations(client, room)
            await delete_room(client, room)

    def _livekit(self) -> api.LiveKitAPI:
        settings = self._settings
        return api.LiveKitAPI(
            settings.livekit_url, settings.livekit_api_key, settings.livekit_api_secret.get_secret_value()
        )

    async def _has_caller(self, client: api.LiveKitAPI, room: str) -> bool:
        try:
            listing = await client.room.list_participants(api.ListParticipantsRequest(room=room))
        except api.TwirpError:
            return False
        agent = api.ParticipantInfo.Kind.AGENT
        return any(found.kind != agent and not is_web(found.identity) for found in listing.participants)

    async def _serve_health(self, stack: contextlib.AsyncExitStack, shipper: JournalShipper) -> None:
        async def tell_metrics(_request: web.Request) -> web.Response:
            self._measure(shipper.standing())
            return web.Response(body=metrics.render(metrics.WORKER), headers={"content-type": metrics.CONTENT_TYPE})

        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", tell_metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self._settings.health_host, self._settings.health_port).start()

    def _measure(self, standing: Standing) -> None:
        """Set the gauges to what is now."""
        metrics.CALLS_LIVE.set(len(self._server.active_jobs) if self._registered else 0)
        metrics.CALL_SLOTS.set(self._settings.call_slots)
        metrics.REGISTERED.set(self._registered and not self._stopping.is_set())
        metrics.CONTROL_PLANE_UP.set(self._keeper.state == OK)
        metrics.JOURNALS.set(standing.journals)
        metrics.JOURNAL_BYTES_BEHIND.set(standing.behind_bytes)
        metrics.JOURNAL_AGE_SECONDS.set(standing.behind_seconds)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        """Ready means: a call offered now would be taken."""
        calls = self._calls() if self._registered else 0
        if self._stopping.is_set():
            status = "draining"
        elif self._catalog.files is None and not self._keeper.first.is_set():
            status = "waiting_for_control_plane"
        elif not self._registered:
            status = "not_registered"
        else:
            status = "ready" if calls < self._settings.call_slots else "full"
        body = {"status": status, "calls": calls, "slots": self._settings.call_slots}
        body["control_plane" if self._catalog.files is None else "database"] = self._keeper.state
        return web.json_response(body, status=200 if status == "ready" else 503)


def _stop_at_once() -> None:
    logger.warning("second signal: stopping at once")
    os._exit(1)
