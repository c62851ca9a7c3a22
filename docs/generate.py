"""Writes the tables of docs/configuration.md from the models: `python -m docs.generate`, or `make docs`.

The page is written by hand but for its blocks, `<!-- name -->` to `<!-- end -->`: names, types, bounds and defaults are
the models', meanings their docstrings', examples those of docs/examples.yaml, and when a value takes effect follows
from what the product does with it. The tests refuse a page that is not what this writes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agent_worker.config.inactive import INACTIVE, inactive_keys
from agent_worker.config.overrides import AGENT_ONLY_KEYS, ALIASES, IDENTITY_KEYS, INNER_ALIASES, read_overrides
from agent_worker.config.resolve import Layer, LayerName, default_layer, resolve
from agent_worker.config.system_variables import SYSTEM_VARIABLES
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.number import SipConnection
from agent_worker.providers.registry import VENDORS
from agent_worker.settings import Settings
from docs.model_keys import AGENT_SECTIONS, EXAMPLES, Key, default_text, flow, keys, sentences, type_text

PAGE = Path(__file__).with_name("configuration.md")
SETTING_SECTIONS: Mapping[str, str] = {
    "LiveKit": "livekit_url livekit_api_key livekit_api_secret livekit_public_url agent_name sip_address",
    "Files": "agents_dir prompts_dir tools_dir telephony_file presets_file prices_file data_dir database_url",
    "Who answers": "default_agent unknown_number_policy unknown_number_message answer_budget_ms",
    "Transfers": "dial_allow transfers_per_hour refer_fallback move_participant",
    "Webhooks": "organization_id webhook_secret webhook_retention_days egress_allow",
    "Recordings": "recordings_url recording_link_seconds public_url",
    "Reports and retention": "analysis analysis_timeout_seconds retention_days recording_retention_days",
    "Capacity and stopping": "call_slots idle_processes drain_timeout_seconds lease_seconds",
    "Control plane on another host": "control_url control_token api_host api_port",
    "Limits of the API": "api_requests_per_minute api_wrong_keys_per_minute",
    "Health, metrics, traces and logs": "health_host health_port metrics_token otlp_endpoint log_level log_format",
}

AT_START = "start"
AGENT_EFFECT = "start · call"
NUMBER_EFFECT = "start · call"
PROVISION = "provision"
NOT_YET = "not yet"


def inactive_reason(key: Key) -> str | None:
    """Return why nothing follows from this key yet, None where something does: the product's own answer."""
    if key.file != "agent":
        return None
    said = key.document()
    values = {name: value for name, value in said.items() if name not in ("name", "numbers", "prompt")}
    plain = AgentConfig.model_validate({"name": "-", **values}).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    del plain["name"]
    resolved = resolve([default_layer(), Layer("agent", plain)])
    return next(iter(inactive_keys(resolved.values, resolved.provenance).values()), None)


def effect_of(key: Key) -> str:
    """Return when a change of this key takes effect."""
    if inactive_reason(key):
        return NOT_YET
    if key.file == "presets":
        return AT_START
    if key.file == "telephony":
        by_livekit = key.model is SipConnection or key.path in ("sipConnections", "numbers", "numbers[].e164")
        if by_livekit or key.path in ("numbers[].direction", "numbers[].sipConnection"):
            return PROVISION
        return NUMBER_EFFECT
    return AGENT_EFFECT


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(rows: list[Key]) -> str:
    lines = ["| key | type, bounds | default | example | takes effect | meaning |", "|---|---|---|---|---|---|"]
    told: set[tuple[str, str]] = set()
    for key in rows:
        of_type = type_text(key.field.annotation, list(key.field.metadata))
        shown = key.path.replace("(", " (") if "(" in key.path else key.path
        keys_as = f" Its keys are those of `{key.shared}`." if key.shared else ""
        reason = inactive_reason(key)
        above = key.path.rpartition(".")[0].removesuffix("[]")
        why = f" Not yet active: {reason}." if reason and (above, reason) not in told else ""
        if reason:
            told.add((key.path, reason))
        if reason and (above in INACTIVE or above.endswith(")")):
            told.add((above, reason))
        meaning = f"{key.meaning}{keys_as}{why}"
        lines.append(_row(f"`{shown}`", of_type, default_text(key.field), flow(key.example), effect_of(key), meaning))
    return "\n".join(lines)


def _groups(rows: list[Key]) -> str:
    """Return a line for each object the keys are in, which has no row of its own."""
    told: dict[str, str] = {}
    listed = {key.path for key in rows}
    for key in rows:
        for depth in range(1, len(key.trail)):
            path = key.path_of(depth).removesuffix(".")
            model = key.trail[depth][0]
            bare = path.removesuffix("[]").removesuffix(".<tag>")
            if bare not in listed and "(" not in bare:
                told.setdefault(path, sentences(model))
    return "".join(f"- `{path}`: {sentence}\n" for path, sentence in told.items())


def agent_block() -> str:
    """Return the sections of an agent's keys."""
    rows = keys("agent")
    parts = []
    for title, names in AGENT_SECTIONS.items():
        section = [key for key in rows if key.trail[0][1] in names.split()]
        groups = _groups(section)
        parts.append(f"### {title}\n\n{groups}{chr(10) if groups else ''}{_table(section)}")
    return "\n\n".join(parts)


def telephony_block() -> str:
    """Return the tables of `telephony.yaml`."""
    rows = keys("telephony")
    connections = [key for key in rows if key.path.startswith("sipConnections")]
    numbers = [key for key in rows if key.path.startswith("numbers")]
    return f"### SIP connections\n\n{_table(connections)}\n\n### Numbers\n\n{_table(numbers)}"


def presets_block() -> str:
    """Return the table of `presets.yaml`."""
    return _table(keys("presets"))


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return str(Settings.model_fields[name].validation_alias or f"AGENT_WORKER_{name.upper()}")


def settings_block() -> str:
    """Return the tables of the environment variables."""
    parts = []
    for title, names in SETTING_SECTIONS.items():
        lines = ["| variable | type, bounds | default | example | meaning |", "|---|---|---|---|---|"]
        for name in names.split():
            field = Settings.model_fields[name]
            meaning, default = _setting_texts(field)
            example = f"`{EXAMPLES['settings'][variable_of(name)]}`"
            of_type = type_text(field.annotation, list(field.metadata))
            lines.append(_row(f"`{variable_of(name)}`", of_type, default, example, meaning))
        parts.append(f"### {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _setting_texts(field: FieldInfo) -> tuple[str, str]:
    """Return meaning and default; a description tells a default that is not a plain value behind `default`."""
    said = field.description or ""
    found = re.fullmatch(r"(.*?)[;,] default:? (.*?)\.?", said)
    if found:
        return f"{found[1]}.", found[2]
    if field.default_factory is not None:
        raise ValueError(f"the default of {said!r} depends on the machine, and its description does not tell it")
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return said, "none" if value in ("", None) else f"`{value}`"


def vendors_block() -> str:
    """Return the table of the providers' variables."""
    lines = ["| provider | serves | key | address of a server of your own |", "|---|---|---|---|"]
    for vendor in VENDORS.values():
        layers = ", ".join(vendor.default_models)
        key = f"`{vendor.key}`" if vendor.key else "none needed"
        lines.append(_row(f"`{vendor.name}`", layers, key, f"`{vendor.base_url}`" if vendor.base_url else "none"))
    return "\n".join(lines)


def names_block() -> str:
    """Return the other names of keys, and the keys that only an agent has."""
    lines = ["| also accepted | is |", "|---|---|"]
    lines += [_row(f"`{name}`", f"`{key}`") for name, key in ALIASES.items()]
    lines += [_row(f"`{name}`", f"`{key}.{name}`") for name, key in INNER_ALIASES.items()]
    lines.append(_row("any key in snake_case: `first_message`", "the same in camelCase: `firstMessage`"))
    only = ", ".join(f"`{name}`" for name in sorted(AGENT_ONLY_KEYS - IDENTITY_KEYS))
    identity = ", ".join(f"`{name}`" for name in sorted(IDENTITY_KEYS))
    return (
        "\n".join(lines) + f"\n\nNobody but the agent itself sets {identity}.\nA dispatch, a request and a webhook's "
        f"reply cannot set {only} either;\na number's template can."
    )


def system_block() -> str:
    """Return the product's own template values."""
    lines = ["| value | what it is |", "|---|---|"]
    return "\n".join([*lines, *(_row(f"`system.{name}`", said) for name, said in SYSTEM_VARIABLES.items())])


def precedence_block() -> str:
    """Return the worked example: what each layer says, and what is then in force."""
    written: Mapping[LayerName, Mapping[str, Any]] = EXAMPLES["precedence"]  # type: ignore[assignment]
    layers = [default_layer(), *(Layer(name, read_overrides(said, name).values) for name, said in written.items())]
    resolved = resolve(layers)
    columns = ["number", "agent", "per_call", "pre_call"]
    shown = [key for key in sorted(resolved.provenance) if resolved.provenance[key] != "default"]
    for key in EXAMPLES["precedence_also"]:
        shown.append(key)
    lines = [f"| key | default | {' | '.join(columns)} | in force | from |", "|---|---|---|---|---|---|---|---|"]
    for key in sorted(shown):
        name, _, inner = key.partition(".")
        said = []
        for layer in layers:
            value: Any = layer.values.get(name, PydanticUndefined)
            if inner and isinstance(value, Mapping):
                value = value.get(inner, PydanticUndefined)
            said.append("" if value is PydanticUndefined else "`null`" if value is None else flow(value))
        value = resolved.values.get(name)
        value = value.get(inner) if inner and isinstance(value, Mapping) else value
        lines.append(_row(f"`{key}`", *said, "nothing" if value is None else flow(value), resolved.provenance[key]))
    return "\n".join(lines)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "agent keys": agent_block,
    "telephony keys": telephony_block,
    "presets keys": presets_block,
    "settings": settings_block,
    "provider variables": vendors_block,
    "other names": names_block,
    "system values": system_block,
    "precedence": precedence_block,
}


def written(page: str) -> str:
    """Return the page with its blocks as the models are now.

    Raises:
        KeyError: the page has a block nobody writes, or a key has no example.
    """
    return re.sub(
        r"<!-- ([a-z ]+) -->\n.*?<!-- end -->",
        lambda found: f"<!-- {found[1]} -->\n\n{BLOCKS[found[1]]()}\n\n<!-- end -->",
        page,
        flags=re.DOTALL,
    )


def main() -> int:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} is up to date.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
