"""An agent as the API answers it (contract 3.1): the client's keys, ours beside them, and no secret."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from agent_worker.api.shapes import CamelShape, Moment
from agent_worker.config.agent_body import Remark
from agent_worker.config.agent_files import AgentFile
from agent_worker.domain.agent import AgentConfig, EndCall, PromptVariable, Telephony
from agent_worker.domain.lifecycle_hook import (
    FROM_ENVIRONMENT,
    AuthHeader,
    ExtractionField,
    LifecycleHook,
    LifecycleHooks,
)
from agent_worker.domain.speech import (
    AudioOutput,
    BackgroundAudio,
    LlmOptions,
    SpeechNormalization,
    StackPreferences,
    SttOptions,
    TtsOptions,
)
from agent_worker.domain.turns import IdleRePrompts, SpokenFallbacks, TurnHandling
from agent_worker.store.agents import StoredAgent
from agent_worker.store.columns import wire_time

ORGANIZATIONS_SECRET = "organization"
"""What stands for the secret of a webhook that has none of its own."""


class RemarkRow(CamelShape):
    """What is to be said of one key."""

    path: list[str | int]
    message: str


class IntentRow(CamelShape):
    """What the calls need; `optimizeFor` is null where the client has no word for it, as for `balanced`."""

    language: str
    optimize_for: Literal["latency", "quality", "cost"] | None
    region: str | None


class AuthHeaderRow(CamelShape):
    """A header whose value is kept."""

    name: str
    secret_ref: str


class HookRow(CamelShape):
    """A webhook of the agent; `secretRef` stands for the secret that signs."""

    url: str
    secret_ref: str
    headers: dict[str, str] | None
    auth_headers: list[AuthHeaderRow] | None
    timeout_ms: int | None
    response_mode: Literal["sync", "async"] | None
    async_ack: str | None
    extraction_fields: list[ExtractionField] | None
    on_failure: Literal["continue", "reject"] | None = Field(description="Of preCall only.")


class HooksRow(CamelShape):
    """The webhooks of the agent."""

    pre_call: HookRow | None
    status: HookRow | None
    post_call: HookRow | None
    analysis: HookRow | None
    recording: HookRow | None


EXAMPLE: dict[str, Any] = {
    "id": "agent_2f9c1f0e6f1d4b3e9f1b7a3f0c8d5e21",
    "organizationId": "org_local",
    "name": "Front desk",
    "systemPrompt": "You answer the phone of a dental practice.",
    "voice": None,
    "intent": {"language": "en", "optimizeFor": "latency", "region": None},
    "llmOptions": {"temperature": 0.4},
    "stackPreferences": None,
    "sttOptions": None,
    "backgroundAudio": None,
    "audioOutput": None,
    "speechNormalization": None,
    "webhooks": None,
    "extractionFields": [],
    "promptVariables": None,
    "createdAt": "2026-03-02T09:30:00.000000Z",
    "updatedAt": "2026-03-02T09:30:00.000000Z",
    "description": None,
    "prompt": None,
    "firstMessage": "Hello, how can I help you?",
    "timezone": "UTC",
    "runMode": "cascade",
    "ttsOptions": None,
    "turnHandling": None,
    "idleRePrompts": None,
    "fallbacks": None,
    "endCall": None,
    "telephony": None,
    "numbers": [],
    "maxDurationSeconds": 3600,
    "record": True,
    "variables": None,
    "webhookTags": {},
    "metadata": {},
    "toolSecretNames": [],
    "source": "database",
    "warnings": [],
}


class AgentRow(CamelShape):
    """One agent. Objects hold what it says and are null where it says nothing; other values are those in force."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    organization_id: str
    name: str
    system_prompt: str
    voice: str | None
    intent: IntentRow
    llm_options: LlmOptions | None
    stack_preferences: StackPreferences | None
    stt_options: SttOptions | None
    background_audio: BackgroundAudio | None
    audio_output: AudioOutput | None
    speech_normalization: SpeechNormalization | None
    webhooks: HooksRow | None
    extraction_fields: list[ExtractionField]
    prompt_variables: list[PromptVariable] | None
    created_at: Moment
    updated_at: Moment
    description: str | None
    prompt: str | None
    first_message: str
    timezone: str
    run_mode: Literal["cascade", "s2s"]
    tts_options: TtsOptions | None
    turn_handling: TurnHandling | None
    idle_re_prompts: IdleRePrompts | None
    fallbacks: SpokenFallbacks | None
    end_call: EndCall | None
    telephony: Telephony | None
    numbers: list[str]
    max_duration_seconds: int
    record: bool
    variables: dict[str, str] | None
    webhook_tags: dict[str, str]
    metadata: dict[str, Any]
    tool_secret_names: list[str]
    source: Literal["file", "database"]
    warnings: list[RemarkRow] = Field(
        default_factory=list, description="Where one agent is read or changed; a list of agents does without."
    )


_OBJECTS = (
    "llm_options", "stack_preferences", "stt_options", "background_audio", "audio_output", "speech_normalization",
    "tts_options", "turn_handling", "idle_re_prompts", "fallbacks", "end_call", "telephony",
)  # fmt: skip
_VALUES = (
    "name", "system_prompt", "voice", "extraction_fields", "description", "prompt", "first_message", "timezone",
    "run_mode", "numbers", "max_duration_seconds", "record", "variables", "webhook_tags", "metadata",
)  # fmt: skip


def of_file(name: str, agent: AgentConfig, file: AgentFile | None) -> StoredAgent:
    """Return an agent that is a file as if it were a row: it was made and changed when its file was last."""
    changed = changed_at(Path(file.file) if file else None)
    return StoredAgent(name, agent, changed, changed)


def changed_at(path: Path | None) -> datetime:
    """Return when a file was changed last; long ago where there is none any more."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime if path else 0, UTC)
    except OSError:
        return datetime.fromtimestamp(0, UTC)


def row_of(
    found: StoredAgent,
    organization_id: str,
    source: Literal["file", "database"],
    warnings: Iterable[Remark] | None = None,
) -> AgentRow:
    """Return an agent as the API shows it.

    Args:
        warnings: None where they are not told.
    """
    agent = found.agent
    values: dict[str, Any] = {name: getattr(agent, name) for name in _VALUES}
    values |= {name: getattr(agent, name) if name in agent.model_fields_set else None for name in _OBJECTS}
    if warnings is not None:
        values["warnings"] = remark_rows(warnings)
    return AgentRow(
        id=found.id,
        organization_id=organization_id,
        intent=_intent(agent),
        webhooks=_hooks(agent.webhooks),
        prompt_variables=agent.prompt_variables or None,
        tool_secret_names=sorted(agent.tool_secrets),
        created_at=wire_time(found.created_at) or "",
        updated_at=wire_time(found.updated_at) or "",
        source=source,
        **values,
    )


def remark_rows(remarks: Iterable[Remark]) -> list[RemarkRow]:
    """Return remarks as the API shows them."""
    return [RemarkRow(path=list(remark.path), message=remark.message) for remark in remarks]


def _intent(agent: AgentConfig) -> IntentRow:
    intent = agent.intent
    known = intent.optimize_for if intent.optimize_for in ("latency", "quality", "cost") else None
    region = intent.region if "region" in intent.model_fields_set else None
    return IntentRow(language=intent.language, optimize_for=known, region=region)


def _hooks(hooks: LifecycleHooks) -> HooksRow | None:
    found = {name: getattr(hooks, name) for name in LifecycleHooks.model_fields}
    if not any(found.values()):
        return None
    return HooksRow(**{name: hook and _hook(f"webhooks.{to_camel(name)}", hook) for name, hook in found.items()})


def _hook(place: str, hook: LifecycleHook) -> HookRow:
    return HookRow(
        url=hook.url,
        secret_ref=secret_ref(hook.secret, f"{place}.secret"),
        headers=hook.headers or None,
        auth_headers=header_rows(hook.auth_headers, place),
        timeout_ms=hook.timeout_ms,
        response_mode=hook.response_mode,
        async_ack=hook.async_ack,
        extraction_fields=hook.extraction_fields or None,
        on_failure=hook.on_failure if place == "webhooks.preCall" else None,
    )


def secret_ref(secret: str | None, place: str) -> str:
    """Return what stands for a secret: where it is kept, the variable that holds it, or whose it is."""
    if secret is None:
        return ORGANIZATIONS_SECRET
    return secret if secret.startswith(FROM_ENVIRONMENT) else place


def header_rows(headers: Iterable[AuthHeader], place: str) -> list[AuthHeaderRow] | None:
    """Return headers without their values, None for none."""
    rows = [
        AuthHeaderRow(name=header.name, secret_ref=secret_ref(header.value, f"{place}.authHeaders.{header.name}"))
        for header in headers
    ]
    return rows or None
