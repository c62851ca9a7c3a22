"""A tool as an agent's configuration names it: who runs it, and how (contract 4)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from agent_worker.domain.config_model import ConfigModel, at_most_bytes
from agent_worker.domain.lifecycle_hook import AuthHeader, Headers, Secret
from agent_worker.domain.speech import Clip

ToolConfig = Annotated[dict[str, Any], AfterValidator(at_most_bytes(65_536))]
JsonSchema = Annotated[dict[str, Any], AfterValidator(at_most_bytes(65_536))]


class InlineSource(ConfigModel):
    """Run by whoever placed the call; nobody does on a phone, so it is kept and never offered.

    Attributes:
        kind: run by whoever placed the call.
    """

    kind: Literal["inline"]


class BuiltinSource(ConfigModel):
    """A function of the `tools/` folder.

    Attributes:
        kind: a function of the `tools/` folder.
        name: the function's name.
        config: what the function reads as `control.config`.
    """

    kind: Literal["builtin"]
    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")
    config: ToolConfig = Field(default_factory=dict)


class WebhookSource(ConfigModel):
    """An HTTP endpoint of the operator's.

    Attributes:
        kind: an HTTP endpoint of yours.
        url: https, or http for a host in `AGENT_WORKER_EGRESS_ALLOW`.
        method: how the request is sent.
        secret: signs the request instead of the organization's secret; `env:NAME` takes it from the environment.
        secret_ref: name a hosted platform gives the secret; kept for clients that send it back.
        headers: sent with the request.
        auth_headers: headers whose values are secrets.
        timeout_ms: longest wait for the answer, ms.
        response_mode: `sync` = the model waits for the answer; `async` = it goes on at once.
        async_ack: with `response_mode: async`, what the model is told at once.
    """

    kind: Literal["webhook"]
    url: str = Field(min_length=8, max_length=2_048, pattern=r"^https?://")
    method: Literal["POST"] = "POST"
    secret: Secret | None = None
    secret_ref: str | None = Field(None, max_length=200)
    headers: Headers = Field(default_factory=dict)
    auth_headers: list[AuthHeader] = Field(default_factory=list, max_length=20)
    timeout_ms: int | None = Field(None, ge=100, le=4_000)
    response_mode: Literal["sync", "async"] | None = None
    async_ack: str | None = Field(None, max_length=2_000)


class IntegrationSource(ConfigModel):
    """An application of a hosted platform; kept for clients that send it, never offered.

    Attributes:
        kind: an application of a hosted platform.
        installation_id: which installation of the application.
        app_key: which application.
        action_key: which of its actions.
        config: the action's own configuration.
    """

    kind: Literal["integration"]
    installation_id: str = Field(max_length=200)
    app_key: str = Field(max_length=200)
    action_key: str = Field(max_length=200)
    config: ToolConfig = Field(default_factory=dict)


ToolSource = Annotated[InlineSource | BuiltinSource | WebhookSource | IntegrationSource, Field(discriminator="kind")]


class ToolSoundOverride(ConfigModel):
    """One tool's departure from the agent's sound while tools work.

    Attributes:
        enabled: whether this tool has a sound.
        clip: another of the built-in clips.
        sound_id: another sound of your own.
        volume: another linear gain.
    """

    enabled: bool
    clip: Clip | None = None
    sound_id: str | None = Field(None, max_length=200)
    volume: float | None = Field(None, ge=0, le=16)


class ToolSimulation(ConfigModel):
    """What the tool does in a simulated call.

    Attributes:
        mode: `live` = it runs; `mock` = it answers `response`.
        response: what it answers then, any JSON.
    """

    mode: Literal["live", "mock"]
    response: Any = None


class ToolRef(ConfigModel):
    """One tool of an agent.

    Attributes:
        name: what the model calls it; without a `source`, the function of this name in `tools/`.
        config: what the function reads as `control.config`; short for `source.config`.
        description: what the model reads instead of the function's own.
        parameters: JSON Schema (draft 7) of the arguments; a function of `tools/` has its own.
        execution_mode: older name for `source.kind`, without the rest of a source.
        source: who runs it; none = the function in `tools/` with the tool's name.
        pre_tool_speech: whether something is said before it runs.
        tool_sound: another sound while this tool works.
        simulation: what it does in a simulated call.
    """

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")
    config: ToolConfig = Field(default_factory=dict)
    description: str | None = Field(None, max_length=1_024)
    parameters: JsonSchema = Field(default_factory=dict)
    execution_mode: Literal["inline", "webhook", "builtin", "integration"] | None = None
    source: ToolSource | None = None
    pre_tool_speech: Literal["auto", "always", "never"] = "auto"
    tool_sound: ToolSoundOverride | None = None
    simulation: ToolSimulation | None = None

    @property
    def function(self) -> str | None:
        """Name of the function in `tools/` that runs it, None where something else does."""
        if self.source is None:
            return self.name if self.execution_mode in (None, "builtin") else None
        return self.source.name if isinstance(self.source, BuiltinSource) else None

    @property
    def function_config(self) -> dict[str, Any]:
        """What the function reads as `control.config`."""
        return self.source.config if isinstance(self.source, BuiltinSource) else self.config
