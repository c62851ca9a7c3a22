"""Has a model read a call that is over: the job, from the transcript to the report, the callback and who is told."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.config.presets_file import read_presets
from agent_worker.control.analysis_answer import Analysis, Callback, read_analysis
from agent_worker.control.analysis_question import CallToAnalyse, analysis_question
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.extraction import extraction_fields
from agent_worker.control.heuristic_report import facts_outcome
from agent_worker.control.job_runner import JobRunner, host_name
from agent_worker.control.settle import ANALYSIS, call_of, call_record, make_report
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import DisconnectionReason, utc_now
from agent_worker.errors import ConfigError, ControlPlaneError, ProviderError
from agent_worker.prompting.templates import prompt
from agent_worker.providers.registry import build_structured
from agent_worker.providers.structured import Given, NoAnswer, StructuredModel, ask_first
from agent_worker.settings import Settings
from agent_worker.store import callbacks
from agent_worker.store.endpoints import endpoints_of
from agent_worker.store.jobs import Job, finish_with
from agent_worker.store.reports import lock_call, report_row, save_report
from agent_worker.webhooks.outbox import is_subscribed, tags_of

logger = logging.getLogger("agent_worker.control")

PROMPT = "call-analysis"
ATTEMPTS = 12
"""So often all models are asked while their servers are in trouble, over about three quarters of an hour."""

USELESS_ATTEMPTS = 3
"""So often, where they answer and the answers cannot be used."""

AT_ONCE = 4

ERROR_CHARS = 500
_PACKAGE = Path(__file__).parents[1]
_SHIPPED = (_PACKAGE / "bundled" / "prompts", _PACKAGE.parent / "prompts")

_MODEL_KEYS = ("stackPreferences", "llmOptions", "intent", "timezone")
_USAGE = {
    "input_tokens": "llm_input_tokens",
    "cached_tokens": "llm_cached_tokens",
    "output_tokens": "llm_output_tokens",
}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class _Read:
    """An analysis, and what it took."""

    given: Given[Analysis]
    left_out: int

    @property
    def usage(self) -> list[dict[str, Any]]:
        """Lines of usage, as a call's."""
        label, answer = self.given.label, self.given.answer
        lines = [(metric, getattr(answer, name)) for name, metric in _USAGE.items()]
        return [
            {"provider": label.provider, "model": label.model, "metric": metric, "quantity": quantity}
            for metric, quantity in lines
            if quantity
        ]


def analysis_runner(control: EmbeddedControlPlane, settings: Settings, env: Mapping[str, str]) -> JobRunner:
    """Return what does analyses, apart from other jobs: a model that hangs keeps no recording from being uploaded."""
    handlers = {ANALYSIS: Analyst(control, settings, env).run}
    # more than its own attempts: the report says that it failed also where the database was away for the last one
    return JobRunner(control, handlers, host=host_name(), most_attempts=2 * ATTEMPTS, at_once=AT_ONCE)


class Analyst:
    """Does the jobs of kind `analysis`.

    Args:
        env: where keys and addresses of models come from.
    """

    def __init__(self, control: EmbeddedControlPlane, settings: Settings, env: Mapping[str, str]) -> None:
        self._control = control
        self._settings = settings
        self._env = env

    async def run(self, job: Job) -> None:
        """Analyse the job's call; what comes of it is written once, however often this is done.

        Raises:
            ControlPlaneError: no model gave an answer now, or the database is down: to be tried again.
        """
        assert job.call_id is not None, "an analysis is of a call"
        async with self._control.reading() as connection:
            row = await call_of(connection, job.call_id)
            call = None if row is None or row["purged_at"] else await self._to_analyse(connection, row)
        if row is None or call is None or not call.worth_asking or not self._settings.analyses:
            return await self._drop(job)
        try:
            if job.attempts > ATTEMPTS:
                raise NoAnswer("interrupted")  # it ended this process every time
            read = await self._ask(row, call)
        except NoAnswer as error:
            logger.warning(
                "no analysis", extra={"call_id": job.call_id, "attempt": job.attempts, "problem": str(error)}
            )
            if job.attempts < (ATTEMPTS if error.passing else USELESS_ATTEMPTS):
                raise ControlPlaneError("analysis_failed", str(error), retryable=True) from error
            return await self._fail(job, str(error)[:ERROR_CHARS])
        await self._complete(job, read, call)

    async def _to_analyse(self, connection: AsyncConnection, row: Record) -> CallToAnalyse:
        record = await call_record(connection, row, {})
        config = row["pipeline_config"]
        lists = [config.get("extractionFields")]
        for endpoint in await endpoints_of(connection, row["organization_id"]):
            told = {"agent_id": row["agent_id"], "tags": tags_of(row)}
            if any(is_subscribed(endpoint, event, **told) for event in ("call.report", "call.analysis")):
                lists.append(endpoint["extraction_fields"])
        return CallToAnalyse(
            direction=row["direction"],
            language=row["language"],
            timezone=_agent_of(config).timezone,
            at=row["ended_at"] or utc_now(),
            reason=row["disconnection_reason"] and DisconnectionReason(row["disconnection_reason"]),
            outcome=facts_outcome(record),
            entries=record.entries,
            fields=extraction_fields(*lists),
        )

    async def _ask(self, row: Record, call: CallToAnalyse) -> _Read:
        try:
            asked = analysis_question(call, _template(self._settings.prompts_dir))
            models = self._models(row["pipeline_config"])
        except (ConfigError, ProviderError) as error:
            raise NoAnswer(error.code, passing=True) from error  # an operator may be mending it

        def read(text: str) -> Analysis:
            return read_analysis(text, asked, call)

        seconds = float(self._settings.analysis_timeout_seconds)
        return _Read(await ask_first(models, asked.question, read, seconds=seconds), asked.left_out)

    def _models(self, config: Record) -> Sequence[StructuredModel]:
        agent = _agent_of(config)
        wanted = [entry.strip() for entry in self._settings.analysis.split(",") if entry.strip()]
        if wanted and wanted != ["agent"]:
            chosen = {"stackPreferences": {"allowedProviders": {"llm": wanted}}, "intent": config.get("intent") or {}}
            agent = _agent_of(chosen)
        return build_structured(agent, self._env, read_presets(self._settings.presets_file))

    async def _complete(self, job: Job, read: _Read, call: CallToAnalyse) -> None:
        prices = await self._control.prices()
        now = utc_now()
        async with self._control.writing() as connection:
            row = await _still_wanted(connection, job)
            if row is None:
                return
            callback = _callback_row(read.given.value, row, now)
            await make_report(connection, row, prices, analysis=_columns(read, row, call, callback, now))
            if row["ended_at"] is not None:
                if callback is not None:
                    await callbacks.schedule(connection, callback)
                await self._control.announcer.analysis(connection, row["id"], now)
        logger.info("call analysed", extra={"call_id": job.call_id, "model": str(read.given.label)})

    async def _fail(self, job: Job, problem: str) -> None:
        now = utc_now()
        async with self._control.writing() as connection:
            row = await _still_wanted(connection, job)
            known = await report_row(connection, row["id"]) if row else None
            if row is None or known is None:
                return
            # an analysis that is there is better than none: only the error says that another one failed
            status = "completed" if known["analysis_status"] == "completed" else "failed"
            values = {"analysis_status": status, "analysis_error": problem, "updated_at": now}
            await save_report(connection, {**known, **values})
            if row["ended_at"] is not None:
                await self._control.announcer.release_report(connection, row["id"], now)

    async def _drop(self, job: Job) -> None:
        assert job.call_id is not None
        async with self._control.writing() as connection:
            if await finish_with(connection, job):
                await self._control.announcer.release_report(connection, job.call_id, utc_now())


def _agent_of(config: Record) -> AgentConfig:
    said = {key: config[key] for key in _MODEL_KEYS if config.get(key)}
    try:
        return AgentConfig.model_validate({"name": "-", **said})
    except ValidationError:  # of another version of the product
        return AgentConfig(name="-")


def _template(folder: Path) -> str:
    try:
        return prompt(PROMPT, folder)
    except ConfigError as error:
        shipped = next((path for path in _SHIPPED if path.is_dir()), None)
        if error.code != "prompt_not_found" or shipped is None:
            raise
        return prompt(PROMPT, shipped)


async def _still_wanted(connection: AsyncConnection, job: Job) -> Record | None:
    """Return the call, locked, with the job done; None where the result is not wanted any more."""
    assert job.call_id is not None
    # the call before the job: whoever ends a call and starts its job anew locks them in this order
    await lock_call(connection, job.call_id)
    if not await finish_with(connection, job):
        return None
    row = await call_of(connection, job.call_id)
    return None if row is None or row["purged_at"] is not None else row


def _columns(read: _Read, row: Record, call: CallToAnalyse, callback: Record | None, now: datetime) -> dict[str, Any]:
    said = read.given.value
    return {
        "summary": said.summary,
        "outcome": said.outcome.value,
        # what tools collected was confirmed on the line: it stands above what a model read
        "structured_data": {**said.details, **row["structured_data"]},
        "custom_data": dict(said.custom_data),
        "customer_name": said.customer_name,
        "customer_request": said.customer_request,
        "general_success": said.general_success,
        "final_score": said.final_score,
        "score_reason": said.score_reason,
        "scheduled_callback": said.callback and _told_callback(said.callback, call.timezone, callback),
        "analysis_status": "completed",
        "analysis_provider": read.given.label.provider,
        "analysis_model": read.given.label.model,
        "analysis_error": None,
        "analysis_completed_at": now,
        "updated_at": now,
        "notes": {"usage": read.usage, "left_out": read.left_out},
    }


def _told_callback(said: Callback, timezone: str, row: Record | None) -> dict[str, Any]:
    return {
        "id": row and row["id"],
        "scheduled_at": said.at and said.at.isoformat(),
        "timezone": timezone,
        "when_said": said.when_said,
        "reason": said.reason,
    }


def _callback_row(said: Analysis, row: Record, now: datetime) -> dict[str, Any] | None:
    """Return the callback to write, None where none was asked for, or there is no time or no number to call."""
    outbound = row["direction"] == "outbound"
    theirs, ours = ("dialed_number", "caller_number") if outbound else ("caller_number", "dialed_number")
    # the number is the line's: what somebody says on the phone makes nobody dial another one
    if said.callback is None or said.callback.at is None or not row[theirs] or row["ended_at"] is None:
        return None
    return {
        "id": f"cb_{hashlib.sha256(row['id'].encode()).hexdigest()[:32]}",
        "organization_id": row["organization_id"],
        "source_session_id": row["id"],
        "agent_id": row["agent_id"],
        "phone_number_id": row["metadata"].get("phone_number_id"),
        "to_number": row[theirs],
        "from_number": row[ours],
        "scheduled_at": said.callback.at,
        "status": callbacks.SCHEDULED,
        "reason": said.callback.reason,
        "summary": said.summary,
        "pipeline_config": row["pipeline_config"],
        "metadata": {"when_said": said.callback.when_said},
        "created_at": now,
        "updated_at": now,
    }
