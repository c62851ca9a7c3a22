"""An agent's own webhooks: what is told or asked during a call, and how the request is signed (contract 5.1)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent_worker.domain.config_model import ConfigModel

DEFAULT_PRE_CALL_TIMEOUT_MS = 4_000

FROM_ENVIRONMENT = "env:"
"""How a value begins that stands in the environment: `env:CRM_SECRET`."""

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]
HeaderValue = Annotated[str, Field(max_length=4_096, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]
Headers = Annotated[dict[HeaderName, HeaderValue], Field(max_length=50)]
Secret = Annotated[str, Field(min_length=6, max_length=4_096)]
"""A secret, or `env:NAME`: the environment variable that holds it."""


def variable_of(written: str | None) -> str | None:
    """Return the environment variable that `env:NAME` names, None where the value stands there itself."""
    if written is None or not written.startswith(FROM_ENVIRONMENT):
        return None
    return written.removeprefix(FROM_ENVIRONMENT).strip()


class AuthHeader(ConfigModel):
    """A header whose value is a secret.

    Attributes:
        name: the header's name.
        value: its value; `env:NAME` takes it from the environment.
    """

    name: HeaderName
    value: HeaderValue | None = None


class ExtractionField(ConfigModel):
    """One thing the analysis after a call reads from its transcript (contract 7.3).

    Attributes:
        name: key of the value in the report's `custom_data`.
        type: kind of value.
        description: tells the analysing model what to look for.
        options: with `type: enum`, the values to choose from.
    """

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")
    type: Literal["string", "number", "boolean", "enum"]
    description: str = Field(min_length=1, max_length=10_000)
    options: list[Annotated[str, Field(min_length=1, max_length=120)]] | None = Field(None, min_length=1, max_length=50)


class LifecycleHook(ConfigModel):
    """Where one kind of webhook goes.

    Attributes:
        url: https, or http for a host the operator has allowed (`AGENT_WORKER_EGRESS_ALLOW`).
        secret: signs instead of the organization's secret; `env:NAME` takes it from the environment.
        headers: sent with the request; `webhook-*` are ours.
        auth_headers: headers whose values are secrets.
        timeout_ms: longest wait for the answer, ms; none = 4,000 before a call, 8,000 otherwise.
        response_mode: kept for clients that send it.
        async_ack: kept for clients that send it.
        extraction_fields: after a call only: as the agent's own, which win where a name is in both.
        on_failure: before a call only: what becomes of the call when the webhook does not answer well.
    """

    url: str = Field(min_length=8, max_length=2_048, pattern=r"^https?://")
    secret: Secret | None = None
    headers: Headers = Field(default_factory=dict)
    auth_headers: list[AuthHeader] = Field(default_factory=list, max_length=20)
    timeout_ms: int | None = Field(None, ge=100, le=8_000)
    response_mode: Literal["sync", "async"] | None = None
    async_ack: str | None = Field(None, max_length=2_000)
    extraction_fields: list[ExtractionField] = Field(default_factory=list, max_length=100)
    on_failure: Literal["continue", "reject"] = "continue"


class LifecycleHooks(ConfigModel):
    """The webhooks of an agent, each for one kind of message.

    Attributes:
        pre_call: asked while the phone rings; what it answers is the highest layer of the configuration.
        status: told of what happens to the call as it happens.
        post_call: told of the call's report.
        analysis: told of the analysis once it is there.
        recording: told where the recording is once it is there.
    """

    pre_call: LifecycleHook | None = None
    status: LifecycleHook | None = None
    post_call: LifecycleHook | None = None
    analysis: LifecycleHook | None = None
    recording: LifecycleHook | None = None
