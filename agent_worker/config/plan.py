"""How a call is configured: the layers of its number, agent and dispatch, with the webhook's reply on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.forwarding import Forwarding, forwarded_from
from agent_worker.config.number_template import fill_tokens
from agent_worker.config.numbers import to_e164
from agent_worker.config.overrides import Overrides, is_config_key, read_overrides, sentence_of
from agent_worker.config.resolve import (
    Layer,
    LayerName,
    Resolved,
    agent_layer,
    default_layer,
    resolve,
    without_secrets,
)
from agent_worker.config.routing import AGENT_KEYS, IGNORED, Route, find_route
from agent_worker.config.system_variables import system_values
from agent_worker.config.texts import FIRST_MESSAGE, INVALID, render_texts
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, DisconnectionReason, PlanEvent
from agent_worker.domain.lifecycle_hook import LifecycleHook, LifecycleHooks
from agent_worker.settings import Settings

JUNK_METADATA = "_ignored"
"""Key under which a reader of job metadata notes that it could not be read at all."""

TEXT_KEYS = ("systemPrompt", "firstMessage", "system_prompt", "first_message")
_HIDDEN_KEYS = ("webhooks", "description", "toolSecrets")
_DISPATCH_KEYS = frozenset({*AGENT_KEYS, "pipelineConfig", "pipeline_config", "metadata", "callId", "call_id"})


@dataclass(frozen=True)
class Draft:
    """A call's configuration before a webhook is asked.

    Attributes:
        layers: lowest first, without `pre_call`.
        merged: the values in force without a webhook, their texts not rendered.
        tokens: what a number's template may name: `callerNumber`, `dialedNumber`, `forwardedFromNumber`.
        hook: the webhook to ask before the call is answered.
    """

    offer: CallOffer
    route: Route
    layers: tuple[Layer, ...]
    merged: Resolved
    ignored: tuple[str, ...]
    tokens: Mapping[str, str | None]
    forwarding: Forwarding
    hook: LifecycleHook | None


def draft(offer: CallOffer, catalog: AgentCatalog, settings: Settings) -> Draft | CallRefusal:
    """Return all that files, rows and the dispatch say of the call, or why nobody takes it."""
    route = find_route(offer, catalog, settings)
    if isinstance(route, CallRefusal):
        return route
    ours = route.number.config.e164 if route.number else offer.dialed_number
    forwarding = forwarded_from(offer.attributes, offer.job_metadata, ours)
    tokens = {
        "callerNumber": to_e164(offer.caller_number),
        "dialedNumber": to_e164(offer.dialed_number) or offer.dialed_number,
        "forwardedFromNumber": forwarding.number,
    }
    ignored = list(route.ignored)
    layers = [default_layer()]
    template = route.number.config.dispatch_metadata_template if route.number else None
    if template:
        # both texts are filled in later: as Liquid where variables are in play, which a filled-in text must not be
        layers.append(_template_layer(fill_tokens(template, tokens, verbatim=TEXT_KEYS), ignored))
    if route.agent is not None:
        layers.append(agent_layer(route.agent))
    layers.append(_dispatch_layer(offer, ignored))
    layers, merged = _fitting(layers, ignored)
    hooks = merged.values.get("webhooks")
    hook = LifecycleHooks.model_validate(hooks).pre_call if hooks else None
    return Draft(offer, route, tuple(layers), merged, tuple(ignored), tokens, forwarding, hook)


def finish(
    prepared: Draft,
    pre_call: Overrides | None,
    catalog: AgentCatalog,
    settings: Settings,
    *,
    now: datetime,
    events: tuple[PlanEvent, ...] = (),
) -> CallPlan | CallRefusal:
    """Return the plan: every layer merged, both texts rendered, and where each value comes from."""
    resolved = resolved_layers(prepared, pre_call)
    route, offer = prepared.route, prepared.offer
    name = route.agent.name if route.agent else _name_of(prepared)
    if not str(resolved.values.get("systemPrompt", "")).strip():
        return _nothing_to_say(prepared, resolved, settings, events)
    system = system_values(
        call_id=offer.call_id,
        direction=offer.direction.value,
        caller_number=offer.caller_number,
        dialed_number=offer.dialed_number,
        forwarded_from_number=prepared.forwarding.number,
        timezone=str(resolved.values["timezone"]),
        now=now,
    )
    texts, text_events = render_texts(resolved, system=system, tokens=prepared.tokens, includes=catalog.prompts)
    values = {**resolved.values, **texts}
    agent = AgentConfig.model_validate({**values, "name": name, "webhooks": {}})
    shown = {key: value for key, value in values.items() if key not in _HIDDEN_KEYS}
    shown["extractionFields"] = _extraction_fields(values)
    metadata = _metadata(prepared, values)
    provenance = dict(resolved.provenance)
    for event in text_events:
        if event.event_type == INVALID and event.payload["key"] == FIRST_MESSAGE:
            provenance[FIRST_MESSAGE] = "default"  # what was to be said cannot be filled in
    return CallPlan(
        organization_id=settings.organization_id,
        agent_id=route.agent_id,
        agent=agent,
        pipeline_config={**without_secrets(shown), "name": name, "kind": "cascade", "agentId": route.agent_id},
        provenance={
            **{key: origin for key, origin in provenance.items() if key.split(".")[0] not in _HIDDEN_KEYS},
            "name": "agent" if route.agent else "number",
            "kind": "default",
            "agentId": route.routed_by,
        },
        metadata=metadata,
        events=(*events, *text_events),
    )


def resolved_layers(prepared: Draft, pre_call: Overrides | None = None) -> Resolved:
    """Return the values in force before their texts are rendered."""
    if pre_call is None:
        return prepared.merged
    return resolve([*prepared.layers, Layer("pre_call", pre_call.values)])


def misfit(prepared: Draft, pre_call: Overrides) -> str | None:
    """Return what is wrong with a reply once it is merged with what is below it, None where it fits.

    Each layer is right by itself; together they may hold more than a configuration takes.
    """
    error = _misfit(resolved_layers(prepared, pre_call))
    return sentence_of(error) if error else None


def _fitting(layers: list[Layer], ignored: list[str]) -> tuple[list[Layer], Resolved]:
    """Return the layers, and them merged, without what makes no configuration together: the highest layer gives way."""
    layers = list(layers)
    while (error := _misfit(merged := resolve(layers))) is not None:
        key = str(error.errors(include_url=False, include_input=False)[0]["loc"][0])
        index = max(i for i, layer in enumerate(layers) if key in layer.values)
        ignored.append(f"{layers[index].name}: {sentence_of(error)}")
        kept = {name: value for name, value in layers[index].values.items() if name != key}
        layers[index] = Layer(layers[index].name, kept)
    return layers, merged


def _misfit(resolved: Resolved) -> ValidationError | None:
    try:
        AgentConfig.model_validate({**resolved.values, "name": "-"})
    except ValidationError as error:
        return error
    return None


def _template_layer(template: Mapping[str, Any], ignored: list[str]) -> Layer:
    return _layer("number", template, ignored, unknown_is_metadata=True)


def _dispatch_layer(offer: CallOffer, ignored: list[str]) -> Layer:
    """Return what a dispatch says: `pipelineConfig`, `metadata`; its other keys are metadata too."""
    job = offer.job_metadata
    if JUNK_METADATA in job:
        ignored.append(str(job[JUNK_METADATA]))
    raw: dict[str, Any] = {}
    for key in ("pipeline_config", "pipelineConfig"):
        pipeline = job.get(key, {})
        if isinstance(pipeline, Mapping):
            raw |= pipeline
        else:
            ignored.append(f"{key}: must be an object, is {type(pipeline).__name__}")
    layer = _layer("per_call", raw, ignored, unknown_is_metadata=False)
    free = {key: value for key, value in job.items() if key not in _DISPATCH_KEYS and key != JUNK_METADATA}
    for key in [key for key in free if is_config_key(key)]:
        ignored.append(f"{key}: belongs under pipelineConfig")
        del free[key]
    given = job.get("metadata", {})
    if not isinstance(given, Mapping):
        ignored.append(f"metadata: must be an object, is {type(given).__name__}")
        given = {}
    metadata = {**free, **(layer.values.get("metadata") or {}), **given}
    return Layer("per_call", {**layer.values, "metadata": metadata} if metadata else layer.values)


def _layer(name: LayerName, raw: Mapping[str, Any], ignored: list[str], *, unknown_is_metadata: bool) -> Layer:
    read = read_overrides(raw, name)
    ignored += [f"{name}: {sentence}" for sentence in read.wrong.values()]
    ignored += [f"{name}: {key} cannot be set here" for key in read.ignored]
    values = dict(read.values)
    if unknown_is_metadata:
        if read.unknown:
            values["metadata"] = {**read.unknown, **(values.get("metadata") or {})}
    else:
        ignored += [f"{name}: there is no key {key!r}" for key in read.unknown]
    return Layer(name, values)


def _extraction_fields(values: Mapping[str, Any]) -> list[Any]:
    """Return the agent's own fields, and those of its hook after the call under names it does not have."""
    own = list(values.get("extractionFields") or [])
    hook = (values.get("webhooks") or {}).get("postCall") or {}
    names = {field["name"] for field in own}
    return [*own, *(field for field in hook.get("extractionFields") or [] if field["name"] not in names)]


def _metadata(prepared: Draft, values: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {**(values.get("metadata") or {}), "routed_by": prepared.route.routed_by}
    if prepared.forwarding.number is not None:
        known["forwardedFromNumber"] = prepared.forwarding.number
    if values.get("webhookTags"):
        known["webhookTags"] = dict(values["webhookTags"])
    if prepared.route.number is not None:
        known["phone_number_id"] = prepared.route.number.id
    if prepared.ignored:
        known[IGNORED] = list(prepared.ignored)
    return known


def _name_of(prepared: Draft) -> str:
    number = prepared.route.number
    assert number is not None, "a route has an agent or a number"
    return number.config.label or number.config.e164


def _nothing_to_say(
    prepared: Draft, resolved: Resolved, settings: Settings, events: tuple[PlanEvent, ...]
) -> CallRefusal:
    where = "The agent has" if prepared.route.agent else "The number's dispatchMetadataTemplate has"
    return CallRefusal(
        organization_id=settings.organization_id,
        reason=DisconnectionReason.CONFIG_ERROR,
        sentence=AgentConfig(name="-").fallbacks.goodbye,
        detail=f"{where} no systemPrompt, and neither the dispatch nor the pre-call webhook gave one.",
        agent_id=prepared.route.agent_id,
        metadata=_metadata(prepared, resolved.values),
        events=events,
    )
