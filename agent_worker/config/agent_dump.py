"""One agent -> the text of its YAML file, which reads back as the same agent."""

from __future__ import annotations

import re
from typing import Any

import yaml

from agent_worker.domain.agent import AgentConfig

# Plain, these are or begin a number, a time, a truth value or nothing, in one version of YAML or another.
_NOT_PLAIN = re.compile(
    r"[-+.]?[0-9].*|[-+]?\.(inf|nan)|~|null|true|false|yes|no|on|off|y|n", re.IGNORECASE | re.DOTALL
)

# Readers take these for the end of a line and give back "\n" for some of them; in double quotes they are escaped.
_ODD_BREAKS = re.compile("[\r\x85\u2028\u2029]")

_UNFOLDED = 10**9


def dump_agent(agent: AgentConfig) -> str:
    """Return the agent as a file: the keys it was given and no others, in the order of the documentation.

    Secrets stand in it as they stand in the configuration. Where the agent has both a prompt's name and its text,
    as after the prompt was read, the file has the text: it says the same in every installation.
    """
    content = agent.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if content.get("prompt") and content.get("systemPrompt"):
        del content["prompt"]
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=_UNFOLDED
    )
    return text


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    """Writes lists indented under their key, every value in full, and text so that it stays text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Repeat a value rather than refer to it."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent the lists in a group of keys as well."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if _ODD_BREAKS.search(text) or _NOT_PLAIN.fullmatch(text):
        style = '"'
    elif "\n" in text:
        style = "|"  # the emitter falls back to quotes where a block would lose something
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
