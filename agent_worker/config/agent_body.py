"""An agent as requests write it: what a change keeps, what is wrong with it, and what of it nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from agent_worker.config.agent_checks import outbound_problems, template_problems
from agent_worker.config.agent_files import contradictions
from agent_worker.config.inactive import inactive_keys
from agent_worker.config.kept_secrets import named_in_environment, with_kept_secrets, with_kept_source
from agent_worker.config.numbers import E164
from agent_worker.config.resolve import agent_layer, default_layer, resolve
from agent_worker.config.tool_configs import tool_config_problems
from agent_worker.config.yaml_file import Location, expectation, remedy_for_unknown
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.dialling import DialPolicy
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import ConfigError
from agent_worker.prompting import prompt, read_prompts

MOST_TOLD = 20
"""Issues, and warnings, of one request that are told."""

MOST_CHARS = 100
"""Of a key that is told."""

REQUIRED = ("name", "systemPrompt", "intent")
"""What every agent has (contract 1.3): a change cannot clear it."""

_NEVER_NULL = (*REQUIRED, "firstMessage")
"""Of a new agent: the contract takes `""` for no first message, and null from a change only."""

READ_ONLY = frozenset({"id", "organizationId", "createdAt", "updatedAt", "source", "warnings", "toolSecretNames"})
"""What only answers have: a client that sends a row back means nothing by it."""

FROM_FILES_ONLY = "env:NAME is for files; over HTTP the secret itself is written."

_UNTOUCHED_BY_NULL = "extractionFields"
"""The official client: null leaves the schema as it is, `[]` clears it."""

_FREE = frozenset({"metadata", "variables", "providerOptions", "parameters", "config", "simulation"})
"""Objects of the operator's own, in which null is a value."""


@dataclass(frozen=True)
class Remark:
    """What is to be said of one place in a request; never with the value that stands there."""

    path: Location
    message: str


@dataclass(frozen=True)
class Rules:
    """What a configuration is held against besides its schema.

    Attributes:
        policy: where the agent's URLs may lead.
        prompts_dir: where the files are that `prompt` names and templates include.
        env: the environment, which secrets of rows that no request wrote may name.
        tool_configs: what tools may be configured with, by their function's name.
        dialling: whom calls may be transferred to.
    """

    policy: AddressPolicy
    prompts_dir: Path
    env: Mapping[str, str]
    tool_configs: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    dialling: DialPolicy = field(default_factory=DialPolicy)


@dataclass(frozen=True)
class CheckedBody:
    """What became of a request.

    Attributes:
        agent: the whole agent after it; None where there are issues.
        issues: what is wrong.
        warnings: what was left out, and what is kept and changes nothing yet.
    """

    agent: AgentConfig | None
    issues: list[Remark] = field(default_factory=list)
    warnings: list[Remark] = field(default_factory=list)


def new_agent(body: Mapping[str, Any], rules: Rules) -> CheckedBody:
    """Return the agent that a request makes; it must name itself, say what it is told, and in which language."""
    body = {key: value for key, value in body.items() if key not in READ_ONLY}
    missing = [Remark((key,), "is required") for key in REQUIRED if key not in body]
    if "prompt" in body:
        missing = [remark for remark in missing if remark.path != ("systemPrompt",)]
    intent = body.get("intent")
    if isinstance(intent, Mapping) and intent.get("language") is None:
        missing.append(Remark(("intent", "language"), "is required"))
    said = {key: value for key, value in body.items() if value is not None or key in _NEVER_NULL}
    checked = _checked({**said, **with_kept_secrets(said)}, said, rules)
    return CheckedBody(None, [*missing, *checked.issues], checked.warnings) if missing else checked


def changed_agent(stored: AgentConfig, body: Mapping[str, Any], rules: Rules) -> CheckedBody:
    """Return the agent after a change: a key that is supplied is replaced, null clears it, others stay.

    Webhooks, tools and tool secrets are replaced one by one, and a secret that is not supplied stays.
    """
    body = {key: value for key, value in body.items() if key not in READ_ONLY}
    if stored.prompt is not None and body.get("prompt") == stored.prompt and "systemPrompt" in body:
        # an answer has both: the file's name and its text
        unchanged = _text_of(stored.prompt, rules.prompts_dir) == body["systemPrompt"]
        body.pop("systemPrompt" if unchanged else "prompt")
    values = stored.model_dump(mode="json", by_alias=True, exclude_unset=True)
    replaced = with_kept_secrets(body, values)
    for key, value in body.items():
        if value is not None or key in REQUIRED:
            values[key] = replaced.get(key, value)
        elif key == "firstMessage":
            values[key] = ""  # as in a request and a webhook's reply: the caller speaks first
        elif key != _UNTOUCHED_BY_NULL:
            values.pop(key, None)
    if "systemPrompt" in body and "prompt" not in body:
        values.pop("prompt", None)
    elif body.get("prompt") is not None and "systemPrompt" not in body:
        values.pop("systemPrompt", None)
    return _checked(values, body, rules)


def with_tool(stored: AgentConfig, body: Mapping[str, Any], rules: Rules, *, name: str | None) -> CheckedBody:
    """Return the agent with one tool more, or with one tool changed; remarks are on the tool alone.

    Args:
        name: the tool to change, None for a new one.
    """
    values = stored.model_dump(mode="json", by_alias=True, exclude_unset=True)
    tools: list[Any] = list(values.get("tools", []))
    known = [tool["name"] for tool in tools]
    index = known.index(name) if name is not None else len(tools)
    body = {key: value for key, value in body.items() if key not in _TOOL_READ_ONLY}
    before = dict(tools[index]) if name is not None else {}
    if "source" in body:
        before = {key: value for key, value in before.items() if key not in ("config", "executionMode")}
    tools[index:] = [{**before, **with_kept_source(before, body)}, *tools[index + 1 :]]

    def is_its(path: Location) -> bool:
        return path[:2] == ("tools", index) or path == ("tools",)

    checked = _checked({**values, "tools": tools}, {"tools": [*[{}] * index, body]}, rules, is_its)
    warnings = [remark for remark in checked.warnings if is_its(remark.path)]
    return CheckedBody(checked.agent, _inside(checked.issues), _inside(warnings))


def _inside(remarks: Sequence[Remark]) -> list[Remark]:
    return [Remark(remark.path[2:], remark.message) for remark in remarks]


_TOOL_READ_ONLY = frozenset({"id", "agentId", "createdAt", "updatedAt", "warnings"})


def not_active(agent: AgentConfig) -> list[Remark]:
    """Return what the agent says and nothing follows from yet."""
    resolved = resolve([default_layer(), agent_layer(agent)])
    found = inactive_keys(resolved.values, resolved.provenance).items()
    return [Remark(_placed(key, agent), f"is kept and not active yet: {reason}") for key, reason in found]


def _placed(dotted: str, agent: AgentConfig) -> Location:
    first, *rest = dotted.split(".")
    if first != "tools" or not rest:
        return (first, *rest)
    names = [tool.name for tool in agent.tools]
    return (first, names.index(rest[0]), *rest[1:])


def _checked(
    values: Mapping[str, Any],
    supplied: Mapping[str, Any],
    rules: Rules,
    concerns: Callable[[Location], bool] | None = None,
) -> CheckedBody:
    """Return the configuration, held against everything.

    Args:
        supplied: what the request says of it.
        concerns: whether a place is of the request; what an earlier request or another policy let in is no reason to
            refuse this one.
    """
    issues = [Remark(path, FROM_FILES_ONLY) for path in named_in_environment(supplied)]
    values = {key: value if value is None or key in _FREE else _without_nulls(value) for key, value in values.items()}
    agent, unknown, wrong = _held_against_the_schema(values)
    if agent is None or issues:
        return CheckedBody(None, [*issues, *wrong][:MOST_TOLD], unknown)
    request = _Request(agent)
    found = [*_number_problems(request), *contradictions(request), *outbound_problems(request, rules.policy, rules.env)]
    found += tool_config_problems(request, rules.tool_configs, rules.dialling)
    warned, prompted = [], _with_text(request, rules.prompts_dir)
    if isinstance(prompted, _At):
        found.append(prompted)
    else:
        told = list(template_problems(_Request(prompted), read_prompts(rules.prompts_dir)))
        warned = [problem for problem in told if problem.code == "template_variable_undeclared"]
        found += [problem for problem in told if problem not in warned]
    concerned = concerns or (lambda path: not path or path[0] in supplied)
    issues = [remark for remark in map(_remark, found) if concerned(remark.path)]
    return CheckedBody(
        None if issues else agent,
        issues[:MOST_TOLD],
        [*unknown, *(_remark(problem) for problem in warned), *not_active(agent)][: 2 * MOST_TOLD],
    )


def _held_against_the_schema(values: Mapping[str, Any]) -> tuple[AgentConfig | None, list[Remark], list[Remark]]:
    """Return the configuration, what the schema does not know, and what it does not allow."""
    try:
        return AgentConfig.model_validate(values, by_alias=True, by_name=False), [], []
    except ValidationError as error:
        unknown = [detail for detail in _details(error) if detail["type"] == "extra_forbidden"]
    try:
        # again without them: an object with a key too many is held against the rest of its rules only now
        agent = AgentConfig.model_validate(values, extra="ignore", by_alias=True, by_name=False)
        return agent, _unknown(values, unknown), []
    except ValidationError as error:
        return None, _unknown(values, unknown), _wrong(values, _details(error))


def _details(error: ValidationError) -> list[Any]:
    return [*error.errors(include_url=False, include_input=False)]


def _unknown(values: Mapping[str, Any], details: list[Any]) -> list[Remark]:
    found = []
    for detail in details[:MOST_TOLD]:
        remedy = remedy_for_unknown(AgentConfig, (*detail["loc"][:-1], str(detail["loc"][-1])[:MOST_CHARS]))
        found.append(Remark(_as_written(values, detail["loc"]), f"is no key and was left out. {remedy}".strip()))
    return found


def _wrong(values: Mapping[str, Any], details: list[Any]) -> list[Remark]:
    return [
        Remark(
            _as_written(values, detail["loc"]),
            "is required" if detail["type"] == "missing" else expectation(detail),
        )
        for detail in details[:MOST_TOLD]
    ]


def _as_written(values: Any, location: Location) -> Location:
    """Return a place as the request has it: without the names of variants, its keys cut short."""
    path: list[str | int] = []
    for position, part in enumerate(location):
        inside = isinstance(values, list) if isinstance(part, int) else isinstance(values, Mapping) and part in values
        if inside or position == len(location) - 1:
            path.append(part if isinstance(part, int) else str(part)[:MOST_CHARS])
            values = values[part] if inside else None
    return tuple(path)


class _At(ConfigError):
    """A mistake at a place of a request."""

    def __init__(self, code: str, location: Location, message: str, remedy: str) -> None:
        super().__init__(code, message, remedy=remedy)
        self.location = location


@dataclass(frozen=True)
class _Request:
    agent: AgentConfig

    def problem(self, code: str, location: Location, message: str, remedy: str = "") -> ConfigError:
        return _At(code, location, message, remedy)


def _remark(problem: ConfigError) -> Remark:
    assert isinstance(problem, _At)
    return Remark(problem.location, str(problem))


def _number_problems(request: _Request) -> Iterator[ConfigError]:
    for index, number in enumerate(request.agent.numbers):
        if not E164.match(number):
            yield request.problem("number_invalid", ("numbers", index), "must be E.164, such as +12015550123.")


def _with_text(request: _Request, prompts_dir: Path) -> AgentConfig | _At:
    name = request.agent.prompt
    if not name:
        return request.agent
    text = _text_of(name, prompts_dir)
    if text is None:
        message = "is no prompt that can be used here."
        return _At("prompt_unusable", ("prompt",), message, f"Write {name[:MOST_CHARS]}.md, or systemPrompt.")
    return request.agent.model_copy(update={"system_prompt": text})


def _text_of(name: str, prompts_dir: Path) -> str | None:
    try:
        return prompt(name, prompts_dir)
    except ConfigError:
        return None


def _without_nulls(value: Any) -> Any:
    """Return the value without what is null in objects of ours: on the wire null is what is not said."""
    if isinstance(value, Mapping):
        return {
            key: inner if key in _FREE else _without_nulls(inner) for key, inner in value.items() if inner is not None
        }
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
