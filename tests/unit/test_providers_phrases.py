"""A phrases file: what its notation expands to, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.errors import ProviderError
from agent_worker.providers.embedded.data_files import find_data_file
from agent_worker.providers.embedded.phrases import read_phrases, trim_dictionary, words_of


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "phrases.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_alternatives_options_and_slots_expand(tmp_path: Path) -> None:
    """Every combination is a sentence; an empty alternative leaves its words out."""
    path = written(tmp_path, "# shop\n<day> = monday | the weekend\n(Are you|) open on <day>?  # ask\n")
    assert sorted(read_phrases(path)) == [
        "are you open on monday",
        "are you open on the weekend",
        "open on monday",
        "open on the weekend",
    ]


def test_groups_nest(tmp_path: Path) -> None:
    """An alternative may hold alternatives."""
    assert sorted(read_phrases(written(tmp_path, "a (b (c|d)|e)\n"))) == ["a b c", "a b d", "a e"]


def test_apostrophes_belong_to_words_and_other_marks_do_not(tmp_path: Path) -> None:
    """`that's` is a word of the dictionary; commas are not."""
    assert read_phrases(written(tmp_path, "No, that's all.\n")) == ["no that's all"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("open on <day>\n", "phrases_slot_unknown"),
        ("# nothing\n", "phrases_empty"),
        ("(a|b) (a|b) (a|b) (a|b) (a|b) (a|b) (a|b) (a|b) (a|b) (a|b) (a|b)\n", "phrases_too_many"),
    ],
)
def test_a_wrong_phrases_file_is_one_clear_error(tmp_path: Path, text: str, code: str) -> None:
    """The error has the file, and a remedy."""
    path = written(tmp_path, text)
    with pytest.raises(ProviderError) as raised:
        read_phrases(path)
    assert raised.value.code == code
    assert raised.value.message.startswith(str(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file is the operator's mistake, not a trace."""
    with pytest.raises(ProviderError) as raised:
        read_phrases(tmp_path / "absent.txt")
    assert raised.value.code == "phrases_unreadable"


def test_the_dictionary_is_cut_to_the_vocabulary(tmp_path: Path) -> None:
    """All pronunciations of a word are kept, and words without one are told."""
    dictionary = written(tmp_path, "a AH\na(2) EY\nb B IY\nc S IY\n")
    assert trim_dictionary(dictionary, {"a", "c", "zzz"}) == (["a AH", "a(2) EY", "c S IY"], {"zzz"})


def test_the_shipped_phrases_cover_the_demo_but_not_by_heart() -> None:
    """Every word of the demo's caller is in the vocabulary."""
    from agent_worker.simulation.script import CALLER_LINES

    vocabulary = words_of(read_phrases(find_data_file("phrases", None)))
    spoken = {word.strip(".,?!").lower() for line in CALLER_LINES for word in line.split()}
    assert spoken <= vocabulary
    assert len(vocabulary) > 100
