"""What the API's bodies have in common: two casings, times, and the error shape (contract 1.0)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


class SnakeShape(BaseModel):
    """An answer in snake_case: calls, events, reports, transfers, callbacks. Unknown keys are an error of ours."""

    model_config = ConfigDict(extra="forbid")


class CamelShape(BaseModel):
    """An answer in camelCase: agents, tools, numbers, sessions, webhooks."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class RequestShape(BaseModel):
    """A request's body: camelCase, whatever the answer's casing; unknown keys are left out (contract 0)."""

    model_config = ConfigDict(
        extra="ignore", alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True
    )


def _integral(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time as `store.columns.wire_time` writes it."""

Integral = Annotated[int, BeforeValidator(_integral)]
"""An integer that clients may send as 8.0 (contract 0.1)."""


class Issue(BaseModel):
    """One thing that is wrong with a request: where, and what."""

    path: list[str | int]
    message: str


class ErrorBody(BaseModel):
    """Every error: `{"error", "code"}`; a validation error also lists `issues`."""

    error: str
    code: str
    issues: list[Issue] | None = None
    retryable: bool | None = None


_ERROR = {"$ref": "#/components/schemas/ErrorBody"}
"""Named, not handed over: the framework builds a validator for each model of each status, 1,000 in all."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return `responses=` of a route for these statuses, beside those that every route can answer."""
    always = (400, 401, 403, 429, 500, 503)
    return {status: {"content": {"application/json": {"schema": _ERROR}}} for status in sorted({*always, *statuses})}
