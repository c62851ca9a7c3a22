"""The embedded recogniser's closed vocabulary: phrases become a language model and a dictionary.

A phrases file has one phrase a line; `(a|b|)` are alternatives, the empty one makes them optional; `<name>`
stands for what a line `<name> = a | b` says; `#` begins a comment.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent_worker.errors import ProviderError

MAX_SENTENCES_PER_LINE = 2_000
MAX_SENTENCES = 20_000
DISCOUNT_MASS = 0.5
_GROUP = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"<([a-z][a-z0-9-]*)>")
_DEFINITION = re.compile(r"^<([a-z][a-z0-9-]*)>\s*=\s*(.+)$")


def read_phrases(path: Path) -> list[str]:
    """Return every sentence the file describes, in lower case.

    Raises:
        ProviderError: the file cannot be read, names an undefined slot or describes too many sentences.
    """
    try:
        lines = path.read_text(encoding="utf-8").lower().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderError(
            "phrases_unreadable", f"{path}: {error}", remedy="Check the path and that it is UTF-8 text."
        ) from error
    slots: dict[str, str] = {}
    sentences: list[str] = []
    for number, raw in enumerate(lines, start=1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if definition := _DEFINITION.match(line):
            slots[definition[1]] = definition[2]
            continue
        sentences.extend(dict.fromkeys(_expand(_fill(line, slots, path, number), path, number)))
        if len(sentences) > MAX_SENTENCES:
            raise _too_many(path, number, MAX_SENTENCES)
    if not sentences:
        raise ProviderError("phrases_empty", f"{path} has no phrase.", remedy="Write one phrase a line.")
    return sentences


def words_of(sentences: Iterable[str]) -> set[str]:
    """Return the vocabulary."""
    return {word for sentence in sentences for word in sentence.split()}


def trim_dictionary(dictionary: Path, words: set[str]) -> tuple[list[str], set[str]]:
    """Return the dictionary's lines for these words, and the words it does not have."""
    kept: list[str] = []
    found: set[str] = set()
    with dictionary.open(encoding="utf-8") as lines:
        for line in lines:
            word = line.split(" ", 1)[0].partition("(")[0]
            if word in words:
                kept.append(line.rstrip("\n"))
                found.add(word)
    return kept, words - found


def write_language_model(sentences: list[str], known: set[str], path: Path) -> None:
    """Write a trigram model of the sentences that have only known words."""
    from pocketsphinx.lm import ArpaBoLM

    usable = [sentence for sentence in sentences if words_of([sentence]) <= known]
    model = ArpaBoLM(text="\n".join(usable), add_start=True, discount_mass=DISCOUNT_MASS)
    model.compute()
    with path.open("w", encoding="utf-8") as file:
        model.write(file)


def _fill(line: str, slots: dict[str, str], path: Path, number: int) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in slots:
            raise ProviderError(
                "phrases_slot_unknown",
                f"{path}:{number}: <{match[1]}> is not defined above this line.",
                remedy=f"Add a line `<{match[1]}> = one | another`.",
            )
        return f"({slots[match[1]]})"

    for _ in range(4):  # slots may name slots, but not for ever
        line, count = _SLOT.subn(value, line)
        if not count:
            break
    return line


def _expand(line: str, path: Path, number: int) -> Iterator[str]:
    for count, sentence in enumerate(_alternatives(line), start=1):
        if count > MAX_SENTENCES_PER_LINE:
            raise _too_many(path, number, MAX_SENTENCES_PER_LINE)
        if words := re.sub(r"[^a-z' -]", " ", sentence).split():
            yield " ".join(words)


def _alternatives(line: str) -> Iterator[str]:
    """Yield what the innermost groups of the line expand to, group by group."""
    groups = list(_GROUP.finditer(line))
    if not groups:
        yield line
        return
    fixed = _GROUP.split(line)[::2]
    choices = [group[1].split("|") for group in groups]
    for chosen in itertools.product(*choices):
        parts = itertools.chain.from_iterable(itertools.zip_longest(fixed, chosen, fillvalue=""))
        yield from _alternatives(" ".join(parts))


def _too_many(path: Path, number: int, limit: int) -> ProviderError:
    return ProviderError(
        "phrases_too_many",
        f"{path}:{number}: more than {limit} sentences.",
        remedy="Split the line, or use fewer alternatives.",
    )
