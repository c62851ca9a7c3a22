"""The rules of the scripted model: what was heard, or a tool's answer, decides what is said or done.

```yaml
fallback: Sorry, could you say that again?
rules:
  - hears: [close|open, saturday]     # every pattern must be found in the caller's last words
    say: On Saturday we close at five.
  - hears: sales
    call: transfer_call
    with: {destination: sales}
  - result_of: transfer_call
    say: "{result}"                   # the tool's answer, in its own words
  - begins: accept_transfer           # nobody has said anything yet, and this tool is offered
    say: Somebody would like to talk to you. Will you take the call?
```
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from agent_worker.errors import ProviderError

RULE_KEYS = frozenset({"hears", "result_of", "begins", "matches", "say", "call", "with"})
DEFAULT_FALLBACK = "Sorry, I did not understand that. Could you say it another way?"


@dataclass(frozen=True)
class Reply:
    """What the model answers: words, or a tool to run with these arguments, or both."""

    text: str = ""
    tool: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One rule; the first that applies decides.

    Attributes:
        hears: patterns that must all be found in what the caller said last.
        result_of: instead of `hears`: the tool that has just answered.
        begins: instead of `hears`: the tool that is offered in a conversation in which nobody has said anything yet.
        matches: pattern the tool's answer must have, None = any.
    """

    hears: tuple[re.Pattern[str], ...] = ()
    result_of: str | None = None
    begins: str | None = None
    matches: re.Pattern[str] | None = None
    say: str = ""
    call: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def reply_to_words(self, words: str, tools: frozenset[str]) -> Reply | None:
        """Return the reply where the rule applies to these words and its tool is offered."""
        if self.begins is not None:
            return Reply(self.say, self.call, self.arguments) if not words and self.begins in tools else None
        if not self.hears or (self.call is not None and self.call not in tools):
            return None
        slots: dict[str, str] = {}
        for pattern in self.hears:
            match = pattern.search(words)
            if match is None:
                return None
            slots.update({key: value for key, value in match.groupdict().items() if value})
        arguments = {key: _fill(value, slots) for key, value in self.arguments.items()}
        return Reply(_fill(self.say, slots), self.call, arguments)

    def reply_to_result(self, tool: str, result: str) -> Reply | None:
        """Return the reply where the rule applies to this answer of this tool."""
        if self.result_of != tool or (self.matches and not self.matches.search(result)):
            return None
        return Reply(_fill(self.say, {"result": result}))


@dataclass(frozen=True)
class RuleBook:
    """All rules of one file, in order."""

    rules: tuple[Rule, ...]
    fallback: str = DEFAULT_FALLBACK

    def answer_words(self, words: str, tools: frozenset[str]) -> Reply:
        """Return what to answer to the caller's last words."""
        for rule in self.rules:
            if reply := rule.reply_to_words(words, tools):
                return reply
        return Reply(self.fallback)

    def answer_result(self, tool: str, result: str) -> Reply:
        """Return what to say after a tool; its own words where no rule knows better."""
        for rule in self.rules:
            if reply := rule.reply_to_result(tool, result):
                return reply
        return Reply(result)


def read_rules(path: Path) -> RuleBook:
    """Return the rules of a file.

    Raises:
        ProviderError: the file cannot be read, is not YAML, or a rule in it is wrong.
    """
    try:
        document = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ProviderError(
            "rules_unreadable", f"{path}: {error}", remedy="Check the path and the YAML syntax."
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("rules"), list):
        raise ProviderError("rules_wrong", f"{path} has no list `rules`.", remedy="See the shipped front-desk rules.")
    rules = [_read_rule(path, number, entry) for number, entry in enumerate(document["rules"], start=1)]
    return RuleBook(tuple(rules), str(document.get("fallback") or DEFAULT_FALLBACK))


def _read_rule(path: Path, number: int, entry: object) -> Rule:
    if not isinstance(entry, dict) or (unknown := set(entry) - RULE_KEYS):
        what = f"unknown keys {sorted(unknown)}" if isinstance(entry, dict) else "not a mapping"
        raise _wrong(path, number, what)
    hears = entry.get("hears")
    if sum(entry.get(key) is not None for key in ("hears", "result_of", "begins")) != 1:
        raise _wrong(path, number, "needs one of `hears`, `result_of` and `begins`")
    if not entry.get("say") and not entry.get("call"):
        raise _wrong(path, number, "says nothing and calls no tool")
    patterns = [hears] if isinstance(hears, str) else hears or []
    try:
        return Rule(
            hears=tuple(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE) for pattern in patterns),
            result_of=entry.get("result_of"),
            begins=entry.get("begins"),
            matches=re.compile(entry["matches"], re.IGNORECASE) if entry.get("matches") else None,
            say=str(entry.get("say") or ""),
            call=entry.get("call"),
            arguments=dict(entry.get("with") or {}),
        )
    except (re.error, TypeError, ValueError) as error:
        raise _wrong(path, number, str(error)) from error


def _fill(value: Any, slots: Mapping[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    return re.sub(r"\{(\w+)\}", lambda match: slots.get(match[1], ""), value)


def _wrong(path: Path, number: int, what: str) -> ProviderError:
    return ProviderError(
        "rules_wrong",
        f"{path}: rule {number}: {what}.",
        remedy=f"A rule has some of: {', '.join(sorted(RULE_KEYS))}.",
    )
