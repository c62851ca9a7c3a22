"""What can be wrong with an agent that its file alone does not show: addresses, secrets, templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent_worker.config.agent_files import AgentFile, CheckedAgent
from agent_worker.config.system_variables import SYSTEM_VARIABLES
from agent_worker.config.texts import variables_in_play
from agent_worker.config.yaml_file import Location
from agent_worker.domain.lifecycle_hook import AuthHeader, LifecycleHook, variable_of
from agent_worker.domain.tool_ref import WebhookSource
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import ConfigError, EgressError
from agent_worker.prompting.liquid import check_template

HOOKS = ("preCall", "status", "postCall", "analysis", "recording")


def outbound_problems(found: CheckedAgent, policy: AddressPolicy, env: Mapping[str, str]) -> Iterator[ConfigError]:
    """Yield what keeps the agent's webhooks from being called: a forbidden address, a secret that is not set."""
    for location, target in _targets(found):
        try:
            policy.check_url(target.url)
        except EgressError as error:
            yield found.problem(error.code, (*location, "url"), error.message, error.remedy)
        yield from _secret_problems(found, (*location, "secret"), target.secret, env)
        for index, header in enumerate(target.auth_headers):
            yield from _header_problems(found, (*location, "authHeaders", index), header, env)
    for name, secret in found.agent.tool_secrets.items():
        yield from _secret_problems(found, ("toolSecrets", name), secret, env)


def template_problems(found: CheckedAgent, prompts: Mapping[str, str]) -> Iterator[ConfigError]:
    """Yield what keeps the agent's texts from being filled in, where variables are in play."""
    agent = found.agent
    if not variables_in_play(agent.model_dump(mode="json", by_alias=True)):
        return
    declared = {variable.name for variable in agent.prompt_variables} | set(agent.variables or {})
    declared |= {f"system.{name}" for name in SYSTEM_VARIABLES}
    for key, text in (("systemPrompt", agent.system_prompt), ("firstMessage", agent.first_message)):
        place: Location = ("prompt",) if key == "systemPrompt" and agent.prompt else (key,)
        try:
            unknown = check_template(text, prompts, declared)
        except ConfigError as error:
            yield found.problem(error.code, place, f"{key}: {error.message}", error.remedy)
            continue
        for name in unknown:
            yield found.problem(
                "template_variable_undeclared",
                place,
                f"{key} has {{{{ {name} }}}}, which no variable declares.",
                f"Add {name} to promptVariables, or write {{{{ {name} | default: '…' }}}}.",
            )


def template_notes(found: AgentFile) -> Iterator[str]:
    """Yield what is legal and surprises: braces that are read out, variables an inbound call has no value for."""
    agent = found.agent
    if not variables_in_play(agent.model_dump(mode="json", by_alias=True)):
        if any(mark in text for text in (agent.system_prompt, agent.first_message) for mark in ("{{", "{%")):
            yield f"{found.file}: its texts have braces and no promptVariables, so they are taken as they stand."
        return
    given = set(agent.variables or {})
    without = [
        variable.name
        for variable in agent.prompt_variables
        if variable.default_value is None and variable.name not in given
    ]
    if without and agent.webhooks.pre_call is None:
        names = ", ".join(without)
        yield f"{found.file}: {names}: no defaultValue and no preCall webhook, so inbound calls have no value for it."


def _targets(found: CheckedAgent) -> Iterator[tuple[Location, LifecycleHook | WebhookSource]]:
    hooks = found.agent.webhooks
    for name, hook in zip(
        HOOKS, (hooks.pre_call, hooks.status, hooks.post_call, hooks.analysis, hooks.recording), strict=True
    ):
        if hook is not None:
            yield ("webhooks", name), hook
    for index, tool in enumerate(found.agent.tools):
        if isinstance(tool.source, WebhookSource):
            yield ("tools", index, "source"), tool.source


def _header_problems(
    found: CheckedAgent, location: Location, header: AuthHeader, env: Mapping[str, str]
) -> Iterator[ConfigError]:
    if header.value is None:
        yield found.problem("auth_header_empty", location, f"The header {header.name} has no value.")
    yield from _secret_problems(found, (*location, "value"), header.value, env)


def _secret_problems(
    found: CheckedAgent, location: Location, secret: str | None, env: Mapping[str, str]
) -> Iterator[ConfigError]:
    name = variable_of(secret)
    if name is not None and not env.get(name):
        yield found.problem(
            "secret_missing", location, f"The environment has no {name}.", f"Set {name}, or write the secret itself."
        )
