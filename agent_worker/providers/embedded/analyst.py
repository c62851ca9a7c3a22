"""Fills in the form about a call by rules, where no model does: the same transcript gets the same form.

It reads what a model reads, the transcript and the schema, and nothing else. What it finds is what a caller said in so
many words; it does not understand anybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_worker.providers.structured import Answer, Question
from agent_worker.providers.vendor import ProviderLabel

_NAME = re.compile(r"\b(?:my name is|my name's|this is|i am called) ([a-z][\w'-]+(?: [A-Z][\w'-]+)?)", re.IGNORECASE)
_CALLBACK = re.compile(r"\b(?:call|ring|phone) (?:me|us) (?:back|again|later)\b|\bcall ?back\b", re.IGNORECASE)
_WHEN = re.compile(
    r"\b(?:in (?:half )?an? \w+|in \w+ (?:minutes|hours|days|weeks)|(?:the day after )?tomorrow|today|tonight|next \w+"
    r"|(?:this )?(?:morning|afternoon|evening)|(?:on )?\w+day)\b[^.,;?!]*",
    re.IGNORECASE,
)
_THANKS = re.compile(r"\b(?:thanks|thank you|great|perfect)\b", re.IGNORECASE)
_ANNOYED = re.compile(r"\b(?:useless|ridiculous|terrible|annoying|complain\w*|not helpful)\b", re.IGNORECASE)
_LOST = re.compile(r"\b(?:did not catch|didn't catch|did not understand|say that again)\b", re.IGNORECASE)
_QUESTION = re.compile(r"\?|\b(?:what|when|how|where|could|can|would like|want|need)\b", re.IGNORECASE)
_GREETING = re.compile(r"^(?:hello|hi|hey|good (?:morning|afternoon|evening))\b[\s,.!]*", re.IGNORECASE)
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")


@dataclass(frozen=True)
class ScriptedAnalyst:
    """Answers the question of a call's analysis."""

    label: ProviderLabel

    async def ask(self, question: Question) -> Answer:
        """Return the filled-in form."""
        said = _conversation(question.material)
        form = _form(said, question.schema)
        text = json.dumps(form, ensure_ascii=False)
        read = len(question.instructions.split()) + len(question.material.split())
        return Answer(text, input_tokens=read, output_tokens=len(text.split()))


def _conversation(material: str) -> list[tuple[str, str]]:
    turns = []
    for line in material.splitlines()[1:-1]:
        entry = json.loads(line)
        if "said" in entry:
            turns.append((str(entry["who"]), str(entry["said"])))
    return turns


def _form(turns: Sequence[tuple[str, str]], schema: Mapping[str, Any]) -> dict[str, Any]:
    keys = schema["properties"]
    person = next((who for who, _ in turns if who not in ("agent", "system")), "caller")
    words = [said for who, said in turns if who == person]
    answers = [said for who, said in turns if who == "agent"]
    request = _request(words)
    callback = _callback(words)
    misunderstood = sum(bool(_LOST.search(said)) for said in answers)
    annoyed = any(map(_ANNOYED.search, words))
    success = bool(words) and misunderstood * 2 <= len(words) and not annoyed
    score = max(1, 6 + 2 * success + any(map(_THANKS.search, words)) - misunderstood - 3 * annoyed)
    name = next((found[1] for said in words if (found := _NAME.search(said))), None)
    form: dict[str, Any] = {
        "summary": _summary(person, request, answers, callback["requested"]),
        "outcome": _outcome(keys["outcome"]["enum"], callback),
        "customer_name": name,
        "customer_request": request,
        "general_success": success,
        "final_score": score,
        "score_reason": f"The agent misunderstood {misunderstood} of {len(words)} turns of the {person}.",
        "details": [],
        "callback": callback,
    }
    if "fields" in keys:
        everything = " ".join(words)
        fields = keys["fields"]["properties"]
        form["fields"] = {key: _field(key, field, everything, name) for key, field in fields.items()}
    return form


def _request(words: Sequence[str]) -> str | None:
    plain = [_GREETING.sub("", said) for said in words]
    return next((said[:1].upper() + said[1:] for said in plain if _QUESTION.search(said)), None)


def _summary(person: str, request: str | None, answers: Sequence[str], callback: bool) -> str:
    asked = f'The {person} said: "{request}"' if request else f"The {person} asked for nothing in particular."
    told = f'The agent said last: "{answers[-1]}"' if answers else "The agent said nothing."
    again = f" The {person} asked to be called back." if callback else ""
    return f"{asked} {told}{again}"


def _callback(words: Sequence[str]) -> dict[str, Any]:
    asked = next((said for said in words if _CALLBACK.search(said)), None)
    if asked is None:
        return {"requested": False, "when_said": None, "local_time": None, "reason": None}
    when = _WHEN.search(asked)
    return {"requested": True, "when_said": when and when[0].strip(), "local_time": None, "reason": asked}


def _outcome(choices: Sequence[str], callback: Mapping[str, Any]) -> str:
    wanted = "callback_scheduled" if callback["requested"] and callback["when_said"] else "completed"
    return wanted if wanted in choices else choices[0]


def _field(key: str, field: Mapping[str, Any], words: str, name: str | None) -> Any:
    kind = field["type"][0]
    if "enum" in field:
        return next((option for option in field["enum"] if option and option.casefold() in words.casefold()), None)
    if kind == "number":
        found = _NUMBER.search(words)
        return float(found[0]) if found else None
    if kind == "boolean":
        spoken = key.replace("_", " ").casefold()
        return True if spoken in words.casefold() else None
    return name if "name" in key.casefold() else None
