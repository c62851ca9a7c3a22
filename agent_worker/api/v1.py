"""The contract's API, `/v1`: one line for each family of routes."""

from __future__ import annotations

from fastapi import APIRouter

from agent_worker.api.agents import agents_routes
from agent_worker.api.backend import Backend
from agent_worker.api.call_actions import call_actions_routes
from agent_worker.api.call_lists import call_lists_routes
from agent_worker.api.callbacks import callbacks_routes
from agent_worker.api.calls import calls_routes
from agent_worker.api.deliveries import deliveries_routes
from agent_worker.api.organization import organization_routes
from agent_worker.api.phone_numbers import phone_numbers_routes
from agent_worker.api.recordings import recordings_routes
from agent_worker.api.reports import reports_routes
from agent_worker.api.sessions import sessions_routes
from agent_worker.api.stream import stream_routes
from agent_worker.api.tools import tools_routes
from agent_worker.api.transfers import transfers_routes
from agent_worker.api.unsupported import unsupported_routes
from agent_worker.api.usage import usage_routes
from agent_worker.api.voices import voices_routes
from agent_worker.api.webhooks import webhooks_routes


def v1_routes(backend: Backend) -> APIRouter:
    """Return all routes of the contract; each names the scope it needs.

    What is not supported stands first: `/phone-numbers/available` is no number's id.
    """
    router = APIRouter(prefix="/v1")
    for routes in (
        unsupported_routes,
        organization_routes,
        agents_routes,
        call_lists_routes,
        calls_routes,
        call_actions_routes,
        transfers_routes,
        sessions_routes,
        usage_routes,
        recordings_routes,
        stream_routes,
        reports_routes,
        callbacks_routes,
        tools_routes,
        phone_numbers_routes,
        voices_routes,
        webhooks_routes,
        deliveries_routes,
    ):
        router.include_router(routes(backend))
    return router
