"""`GET /v1/usage`: what calls consumed and what that cost, from this deployment's own records (contract 1.8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from agent_worker.api.backend import Backend
from agent_worker.api.bodies import invalid
from agent_worker.api.call_query import ListRoute, Time
from agent_worker.api.known_calls import Reader
from agent_worker.api.shapes import CamelShape, Moment, errors
from agent_worker.config.agent_body import Remark
from agent_worker.control.usage_days import UsageDays
from agent_worker.domain.call import utc_now
from agent_worker.store.columns import wire_time
from agent_worker.store.usage import Talked, Used

LONGEST = timedelta(days=366)
_MICRO = 1_000_000

_LINE: dict[str, Any] = {
    "provider": "deepgram",
    "type": "stt",
    "metric": "stt_seconds",
    "keySource": "BYOK",
    "chargeKind": "byok",
    "quantity": 5120.4,
    "cost": 0.367,
    "quantityWithoutCost": 0.0,
}


class UsageLine(CamelShape):
    """How much of one metric of one provider was used."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINE]})

    provider: str
    type: Literal["stt", "llm", "tts"] | None
    metric: str
    key_source: Literal["BYOK", "MANAGED"]
    charge_kind: Literal["byok"] = Field(description="The operator's own keys: nothing is charged here.")
    quantity: float
    cost: float = Field(description="US dollars, by the operator's price file.")
    quantity_without_cost: float = Field(description="As much of the quantity as has no price, or is free.")


class UsageSummary(CamelShape):
    """What the calls that began in a stretch of time consumed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "totalSessions": 212,
                    "totalMinutes": 318.5,
                    "totalCost": 1.91,
                    "minutesCost": None,
                    "minutesBilledSeconds": None,
                    "addOnCost": None,
                    "breakdown": [_LINE],
                    "balanceUsd": 0.0,
                    "currency": "USD",
                    "from": "2026-03-01T00:00:00.000000Z",
                    "to": "2026-03-08T10:12:00.000000Z",
                }
            ]
        }
    )

    total_sessions: int
    total_minutes: float
    total_cost: float
    minutes_cost: None = Field(description="There is no rate by the minute here.")
    minutes_billed_seconds: None
    add_on_cost: None
    breakdown: list[UsageLine]
    balance_usd: float = Field(description="There is no balance here: always 0.")
    currency: Literal["USD"]
    from_: Moment = Field(alias="from")
    to: Moment


def _whole_day(value: object) -> object:
    # a date alone means its whole day
    return f"{value}T23:59:59.999999Z" if isinstance(value, str) and len(value) == len("2026-03-01") else value


class UsageQuery(BaseModel):
    """From when to when."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    from_: Time | None = Field(None, alias="from", description="Default: the first of this month, in UTC.")
    to: Annotated[Time, BeforeValidator(_whole_day)] | None = Field(
        None, description="Default: now. A date alone means its whole day."
    )


def usage_routes(backend: Backend) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["usage"], route_class=ListRoute)
    usage = UsageDays()

    @router.get("/usage", responses=errors())
    async def get_usage(principal: Reader, query: Annotated[UsageQuery, Query()]) -> UsageSummary:
        """Sum up what calls consumed; days before yesterday are summed every ten minutes."""
        now = utc_now()
        until = query.to or now
        since = query.from_ or min(until, now).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if not since <= until or until - since > LONGEST:
            raise invalid([Remark(("from",), f"It must be before `to`, at most {LONGEST.days} days.")])
        async with backend.control.reading() as connection:
            talked, used = await usage.between(connection, backend.organization_id, since, until)
        return _summary(
            [part for part in talked if principal.may_see(part.agent_id)],
            [part for part in used if principal.may_see(part.agent_id)],
            since,
            until,
        )

    return router


def _summary(talked: Sequence[Talked], used: Sequence[Used], since: datetime, until: datetime) -> UsageSummary:
    groups: dict[tuple[str, str, str], list[Used]] = defaultdict(list)
    for part in used:
        groups[part.provider, part.metric, part.key_source].append(part)
    breakdown = [
        {
            "provider": provider,
            "type": metric[:3] if metric[:3] in ("stt", "llm", "tts") else None,
            "metric": metric,
            "keySource": key_source,
            "chargeKind": "byok",
            "quantity": round(sum(part.quantity for part in parts), 6),
            "cost": sum(part.micro_usd for part in parts) / _MICRO,
            "quantityWithoutCost": round(sum(part.without_cost for part in parts), 6),
        }
        for (provider, metric, key_source), parts in sorted(groups.items())
    ]
    return UsageSummary.model_validate(
        {
            "totalSessions": sum(part.calls for part in talked),
            "totalMinutes": round(sum(part.seconds for part in talked) / 60, 4),
            "totalCost": sum(part.micro_usd for part in used) / _MICRO,
            "minutesCost": None,
            "minutesBilledSeconds": None,
            "addOnCost": None,
            "breakdown": breakdown,
            "balanceUsd": 0.0,
            "currency": "USD",
            "from": wire_time(since),
            "to": wire_time(until),
        }
    )
