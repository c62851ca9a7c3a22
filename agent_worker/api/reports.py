"""`/v1/calls/{id}/report`: what came of a call, and having it made now."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.api.audit import audit
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.known_calls import CallId, Operator, Reader, the_call
from agent_worker.api.report_shapes import CallReport, FinalizeRequest, FinalizeResult
from agent_worker.api.shapes import errors
from agent_worker.control.settle import ANALYSIS, call_of, enqueue_analysis, make_report
from agent_worker.domain.call import utc_now
from agent_worker.store.deliveries import retry_report_deliveries
from agent_worker.store.jobs import is_pending
from agent_worker.store.reports import call_report, lock_call

Record = dict[str, Any]

_AGGREGATES = ("status", "attempts", "next_retry_at", "delivered_at", "error")


def reports_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["calls"])

    @router.get("/calls/{call_id}/report", responses=errors(404))
    async def get_report(call_id: CallId, principal: Reader) -> CallReport:
        """Return the report; 404 before there is one, which is a moment after the call's end."""
        async with backend.control.reading() as connection:
            await the_call(connection, backend, principal, call_id)
            report = await call_report(connection, call_id)
        if report is None:
            raise ApiError(404, "NOT_FOUND", "The call has no report yet: it is made when the call ends.")
        return CallReport.model_validate(report)

    @router.post("/calls/{call_id}/report/finalize", responses=errors(404, 409))
    async def finalize_report(
        call_id: CallId, principal: Operator, body: FinalizeRequest | None = None
    ) -> FinalizeResult:
        """Make the report of what is known now, also of a call that goes on; done again, it changes nothing more."""
        wanted = body or FinalizeRequest()
        prices = await backend.control.prices()
        async with backend.control.writing() as connection:
            await the_call(connection, backend, principal, call_id)
            await lock_call(connection, call_id)
            call = await call_of(connection, call_id)
            assert call is not None, "it was just found"
            if wanted.force_analysis and not backend.settings.analyses:
                sentence = "Calls are not analysed here: the operator has set AGENT_WORKER_ANALYSIS=off."
                raise ApiError(409, "ANALYSIS_OFF", sentence, retryable=False)
            if call["purged_at"] is not None:
                raise ApiError(409, "CALL_PURGED", "The call was purged: there is nothing left to report.")
            await make_report(connection, call, prices)
            if wanted.force_analysis:
                await enqueue_analysis(connection, call, utc_now())
            if wanted.retry_webhook:
                await _retry_webhook(connection, backend, call)
            if wanted.force_analysis or wanted.retry_webhook:
                asked = wanted.model_dump(exclude_none=True)
                await audit(connection, backend, principal, "report.finalize", f"calls/{call_id}", asked)
            report = await call_report(connection, call_id)
            pending = await is_pending(connection, ANALYSIS, call_id)
        assert report is not None, "it was just made"
        return _result(report, pending)

    return router


async def _retry_webhook(connection: AsyncConnection, backend: Backend, call: Record) -> None:
    if call["ended_at"] is None:
        return  # the report of a call that goes on is told when it ends
    now = utc_now()
    report = await call_report(connection, call["id"])
    assert report is not None, "it was just made"
    announcer = backend.control.announcer
    await announcer.report(connection, call, report, now, True)  # to whoever was not to be told before
    await announcer.report(connection, call, report, now, False)
    await retry_report_deliveries(connection, call["id"], now)


def _result(report: Record, pending: bool) -> FinalizeResult:
    names = ("session_id", "summary", "outcome", "cost_micro_usd", "analysis_status", "webhook_deliveries")
    webhook = {name: report[f"post_call_webhook_{name}"] for name in _AGGREGATES}
    kept = {name: report[name] for name in names}
    return FinalizeResult.model_validate({**kept, "analysis_pending": pending, "webhook": webhook})
