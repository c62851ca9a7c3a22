"""A tool as the API answers it (contract 4.1): as its agent's configuration has it, and no secret."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from agent_worker.api.agent_rows import AuthHeaderRow, RemarkRow, header_rows, remark_rows, secret_ref
from agent_worker.api.shapes import CamelShape, Moment
from agent_worker.config.agent_body import Remark
from agent_worker.domain.tool_ref import (
    BuiltinSource,
    InlineSource,
    IntegrationSource,
    ToolRef,
    ToolSimulation,
    ToolSoundOverride,
    WebhookSource,
)
from agent_worker.store.agents import StoredAgent
from agent_worker.store.tool_times import times_of

_NAMESPACE = uuid.UUID("6f0f0a53-3c52-5c1b-9b7a-0d7d1f0c2a44")


class WebhookSourceRow(CamelShape):
    """An HTTP endpoint of the operator's; `secretRef` stands for the secret that signs."""

    kind: Literal["webhook"]
    url: str
    method: Literal["POST"]
    secret_ref: str
    headers: dict[str, str] | None
    auth_headers: list[AuthHeaderRow] | None
    timeout_ms: int | None
    response_mode: Literal["sync", "async"] | None
    async_ack: str | None


SourceRow = Annotated[InlineSource | WebhookSourceRow | BuiltinSource | IntegrationSource, Field(discriminator="kind")]


class ToolRow(CamelShape):
    """One tool of an agent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "tool_0f3c5d3a9f2e5b7f8a1d2c3b4a596877",
                    "agentId": "agent_2f9c1f0e6f1d4b3e9f1b7a3f0c8d5e21",
                    "name": "transfer_call",
                    "description": "Send the caller to a person.",
                    "parameters": {},
                    "source": {
                        "kind": "builtin",
                        "name": "transfer_call",
                        "config": {"destinations": [{"label": "Front desk", "to": "+12015551234"}]},
                    },
                    "preToolSpeech": "auto",
                    "toolSound": None,
                    "simulation": None,
                    "createdAt": "2026-03-02T09:30:00.000000Z",
                    "updatedAt": "2026-03-02T09:30:00.000000Z",
                    "warnings": [],
                }
            ]
        }
    )

    id: str
    agent_id: str
    name: str
    description: str
    parameters: dict[str, Any]
    source: SourceRow
    pre_tool_speech: Literal["auto", "always", "never"]
    tool_sound: ToolSoundOverride | None
    simulation: ToolSimulation | None
    created_at: Moment
    updated_at: Moment
    warnings: list[RemarkRow] = Field(
        default_factory=list, description="Where one tool is read or changed; a list of tools does without."
    )


def tool_id(agent_id: str, name: str) -> str:
    """Return the id of an agent's tool: a tool's name is its own as long as it is there."""
    return f"tool_{uuid.uuid5(_NAMESPACE, f'{agent_id}/{name}').hex}"


def tool_row(
    agent: StoredAgent, tool: ToolRef, functions: Mapping[str, str], warnings: Iterable[Remark] | None = None
) -> ToolRow:
    """Return a tool as the API shows it.

    Args:
        functions: what a model reads of the functions in `tools/`, by name.
        warnings: None where they are not told.
    """
    made, changed = times_of(agent, tool.name)
    function = tool.function
    return ToolRow(
        id=tool_id(agent.id, tool.name),
        agent_id=agent.id,
        name=tool.name,
        description=tool.description or functions.get(function or "", ""),
        parameters=tool.parameters,
        source=_source(tool),
        pre_tool_speech=tool.pre_tool_speech,
        tool_sound=tool.tool_sound,
        simulation=tool.simulation,
        created_at=made,
        updated_at=changed,
        **({} if warnings is None else {"warnings": remark_rows(warnings)}),
    )


def _source(tool: ToolRef) -> InlineSource | BuiltinSource | WebhookSourceRow | IntegrationSource:
    if tool.function is not None:
        return BuiltinSource(kind="builtin", name=tool.function, config=tool.function_config)
    source = tool.source
    if isinstance(source, WebhookSource):
        return _webhook(f"tools.{tool.name}", source)
    if isinstance(source, IntegrationSource):
        return IntegrationSource(**{**source.model_dump(), "config": source.config})
    return InlineSource(kind="inline")  # also what says only how it is run, and not where


def _webhook(place: str, source: WebhookSource) -> WebhookSourceRow:
    return WebhookSourceRow(
        kind="webhook",
        url=source.url,
        method=source.method,
        secret_ref=secret_ref(source.secret, f"{place}.secret"),
        headers=source.headers or None,
        auth_headers=header_rows(source.auth_headers, place),
        timeout_ms=source.timeout_ms,
        response_mode=source.response_mode,
        async_ack=source.async_ack,
    )
