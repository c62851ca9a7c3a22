"""Liquid templates: what is said, what is missing, what is refused, and that a value is never a template."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.errors import ConfigError
from agent_worker.prompting.liquid import MISSING, check_template, missing_variables_error, render

PROMPTS = {
    "house-rules": "Be kind to {{ who }}. It is {{ system.time }}.",
    "again": "{% render 'again' %}",
    "there": "{% include 'back' %}",
    "back": "{% render 'there' %}",
    "wrong": "fine\n{{ name | upcas }}",
    "secret": "The vault is open.",
}
SYSTEM = {"system": {"now": "2026-03-02T09:30:00+01:00", "time": "09:30", "call_id": "c1"}}


def said(text: str, **values: Any) -> str:
    return render(text, values, PROMPTS).text


def missing(text: str, **values: Any) -> tuple[str, ...]:
    return render(text, values, PROMPTS).missing


def refused(text: str, **values: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        render(text, values, PROMPTS)
    return error.value


def test_names_are_replaced_by_values() -> None:
    """Variables, nested values, conditions, loops, filters."""
    text = "Hi {{ name | upcase }}{% if vip == 'yes' %}!{% elsif vip %}?{% endif %} {{ system.time }}{% for a in b %}{{ a }}{% endfor %}"
    assert said(text, name="Maya", vip="yes", b=["1", "2"], **SYSTEM) == "Hi MAYA! 09:3012"
    assert said("{% if vip == 'yes' %}a{% elsif vip == 'no' %}b{% else %}c{% endif %}", vip="no") == "b"


def test_a_text_without_braces_is_left_as_it_is() -> None:
    """Neither looked at nor changed."""
    assert render("50 % off } { \r\n", {}, {}) == ("50 % off } { \r\n", ())


@pytest.mark.parametrize(
    ("text", "output", "names"),
    [
        ("Hi {{ name }}, {{ name }}", "Hi , ", ("name",)),
        ("{{ b }}{{ a }}", "", ("a", "b")),
        ("{{ system.foo }}{{ x.y[0].z }}", "", ("system.foo", "x.y[0].z")),
        ("{{ name | default: 'friend' }}", "friend", ()),
        ("{{ name | default: '' }}", "", ()),
        ("{{ name | upcase | default: 'friend' }}", "friend", ()),
        ("{{ name | default: other }}", "", ("other",)),
        ("{{ name | default: other | default: 'x' }}", "x", ()),
        ("{{ name | upcase }}", "", ("name",)),
        ("{{ name | append: '!' | default: 'x' }}", "!", ("name",)),
        ("{{ 'Hi ' | append: name }}", "Hi ", ("name",)),
        ("{{ list | size }}", "0", ("list",)),
        ("{{ list | split: ',' | first | default: 'none' }}", "none", ()),
        ("{{ count | plus: 1 }}", "1", ("count",)),
        ("{{ name | date: '%A' }}", "", ("name",)),
        ("{% if name %}a{% else %}b{% endif %}", "b", ()),
        ("{% if name == 'x' or other contains 'y' or z > 3 or z <= 3 %}a{% else %}b{% endif %}", "b", ()),
        ("{% unless name %}a{% endunless %}{% case name %}{% when 'x' %}b{% else %}c{% endcase %}", "ac", ()),
        ("{% for x in list %}{{ x }}{% else %}none{% endfor %}", "none", ()),
        ("{% if a %}{{ b }}{% endif %}", "", ()),
        ("{% assign x = name %}{{ x }}", "", ("name",)),
        ("{% assign n = list | size %}{% if n > 0 %}some{% endif %}", "", ()),
        ("{% capture x %}Dear {{ name }}{% endcapture %}{{ x }}", "Dear ", ("name",)),
        ("{% liquid echo name %}{% cycle other, 'x' %}", "", ("name", "other")),
        ("{% render 'house-rules', who: name %}", "Be kind to . It is .", ("name", "system.time")),
        ("{{ partial }}{{ now }}{{ today }}{{ template }}", "", ("now", "partial", "template", "today")),
    ],
)
def test_a_name_without_a_value_is_empty_and_reported_where_it_is_said(
    text: str, output: str, names: tuple[str, ...]
) -> None:
    """Not in a condition, not with a default, each once."""
    assert render(text, {}, PROMPTS) == (output, names)


def test_a_value_that_is_none_is_known_to_be_empty() -> None:
    """An anonymous caller has no number, and that is no mistake of the operator's."""
    assert render("<{{ callerNumber }}>", {"callerNumber": None}, {}) == ("<>", ())
    assert said("{{ callerNumber | default: 'withheld' }}", callerNumber=None) == "withheld"


def test_any_name_a_variable_may_have_can_be_used() -> None:
    """Also those that mean something to the library or to Python."""
    for name in ("partial", "now", "today", "self", "template", "forloop", "context", "args", "class", "values"):
        assert render(f"{{{{ {name} }}}}", {name: "yes"}, {}).text == "yes"


EVIL = [
    "{{ system.call_id }}",
    "{% render 'secret' %}",
    "{% include 'secret' %}",
    "{{ name }}",
    "{% raw %}",
    "{% if",
    "}}{{ system.call_id }}{{",
    "%}{% render 'secret' %}{%",
    "<b>&amp;</b>",
    "secret",
]


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize(
    "text",
    [
        "{{ name }}",
        "{{ name | append: '' }}",
        "{{ nobody | default: name }}",
        "{% assign x = name %}{{ x }}",
        "{% capture x %}{{ name }}{% endcapture %}{{ x }}",
        "{% for x in list %}{{ x }}{% endfor %}",
        "{{ nested.deep }}",
        "{% liquid echo name %}",
        "{% if name %}{{ name }}{% endif %}",
    ],
)
def test_a_value_is_data(text: str, value: str) -> None:
    """Braces in a value are said, not followed, and nothing in it is escaped, on whatever way it comes out."""
    values = {"name": value, "list": [value], "nested": {"deep": value}, **SYSTEM}
    assert render(text, values, PROMPTS) == (value, ())


@given(st.text(st.characters(codec="utf-8")))
def test_every_text_comes_out_as_it_went_in(value: str) -> None:
    """Line ends, control characters and braces included."""
    assert render("a{{ name }}z", {"name": value}, {}).text == f"a{value}z"


def test_a_value_cannot_choose_a_prompt() -> None:
    """The name of what is taken in stands in quotes: the operator's word, and `check` has seen it."""
    for text in ("{% include name %}", "{% render name %}", "{% include system.call_id %}"):
        error = refused(text, name="secret", **SYSTEM)
        assert error.code == "template_invalid"
        assert "vault" not in str(error)


def test_half_a_character_does_not_end_the_call() -> None:
    """JSON can carry half of a surrogate pair, which nothing behind a prompt can send on."""
    assert said("{{ name }}", name="a\ud800b").encode() == b"a?b"


def test_prompts_are_taken_in() -> None:
    """`render` sees the call's values and what it is given; `include` sees the template's own as well."""
    assert said("{% render 'house-rules', who: 'all' %}", **SYSTEM) == "Be kind to all. It is 09:30."
    assert said("{% assign who = 'us' %}{% include 'house-rules' %}", **SYSTEM) == "Be kind to us. It is 09:30."
    assert said("{% render 'house-rules' with x as who %}", x="all", **SYSTEM) == "Be kind to all. It is 09:30."


def test_an_unknown_prompt_is_an_error_with_the_nearest_name() -> None:
    """Nothing is looked for on a disk."""
    error = refused("a\n{% render 'hous-rules' %}")
    assert error.code == "template_invalid"
    assert "line 2" in str(error)
    assert "Did you mean 'house-rules'?" in str(error)
    assert "no prompt '../../etc/passwd'" in str(refused("{% include '../../etc/passwd' %}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one\ntwo {{ name | upcas }}", ("line 2", "no filter 'upcas'", "Did you mean 'upcase'?")),
        ("{% if %}x{% endif %}", ("line 1",)),
        ("{% if a %}x", ("endif",)),
        ("{% nonsense %}", ("line 1", "nonsense")),
        ("a\nb\n{{ name", ("line 3", "not closed with }}")),
        ("{{ {{ name }} }}", ("not closed",)),
        ("{% raw %}{{ name }}", ("not closed", "endraw")),
        ("{% tablerow x in y %}{% endtablerow %}", ("tablerow",)),
        ("x {% render 'wrong' %}", ("line 2", "prompt 'wrong'", "upcas")),
        ("{% render 'again' %}", ("deep",)),
        ("{% render 'there' %}", ("prompt 'there'",)),
        ("{{ a" + "[" * 1_500 + " }}", ("nested",)),
        ("{% if a %}" * 40 + "{% endif %}" * 40, ("nested",)),
    ],
)
def test_a_wrong_template_is_told_with_its_line(text: str, words: tuple[str, ...]) -> None:
    """The sentence says where and what; a mistake in a prompt that is taken in names the prompt."""
    error = refused(text)
    assert error.code == "template_invalid"
    assert all(word in str(error) for word in words), str(error)
    assert error.line is None  # a line of the text is no line of the agent's file


def test_a_value_is_not_in_the_error_it_causes() -> None:
    """What a caller said or a webhook sent is nobody's business in an error."""
    for text in ("{{ a | base64_decode }}", "{{ a | truncate: b }}", "{{ 3 | divided_by: b }}", "{{ a | slice: b }}"):
        error = refused(text, a="private!", b="private!")
        assert "private" not in str(error)
        assert "filter" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 99_990 + "{{ a }}{{ a }}",
        "{% for i in (1..1001) %}{{ i }}{% endfor %}",
        "{% for i in (1..40) %}{% for j in (1..40) %}{{ j }}{% endfor %}{% endfor %}",
        "{% for i in (1..600) %}{% endfor %}" * 2,
        "{% for i in (1..99999999999) offset: 99999999990 %}{{ i }}{% endfor %}",
        "{% assign r = (1..99999999999) %}{% for i in r offset: 99999999990 %}{{ i }}{% endfor %}",
        "{% for i in (1..many) %}{{ i }}{% endfor %}",
        "{{ (1..9999999) | join: ',' }}",
        "{{ big | replace: 'y', big }}",
        "{{ list | join: big }}",
        "{{ big | split: '' }}",
        "{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | append: a %}" * 40,
        "{{ 9 " + "| times: 999999999999999999 " * 60 + "}}",
        "{% capture a %}" + "{{ big }}" * 20 + "{% endcapture %}",
        "{{ big }}" * 20,
        "{% render 'house-rules' %}" * 300,
    ],
)
def test_a_template_that_does_too_much_is_stopped_at_once(text: str) -> None:
    """Loops, text, lists, numbers and prompts taken in are bounded, whatever the values are."""
    started = time.process_time()
    error = refused(text, big="y" * 20_000, list=["1"] * 5_000, many="999999999999", **SYSTEM)
    assert error.code == "template_too_large"
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "text",
    [
        "{{" * 50_000,
        "{%" * 50_000,
        "{{" + " " * 99_000,
        "{{" + " " * 99_000 + "}}",
        "{{ a" + " |" * 49_000,
        '{{ "' + "a" * 99_000,
        "{% raw %}" * 11_000,
        "{% comment %}" * 7_000,
        "{% doc %}" * 11_000,
        "{{}}" * 24_000,
        ("{{" + " " * 95 + "}}") * 1_000,
        "{%}" * 33_000,
        "{% " + "a" * 1_900 + " " * 90 + "%}",
    ],
)
def test_a_text_full_of_braces_takes_no_time(text: str) -> None:
    """The library alone takes minutes over some of these."""
    started = time.process_time()
    try:
        render(text, {}, {})
    except ConfigError as error:
        assert error.code in ("template_invalid", "template_too_large")
    assert time.process_time() - started < 3


@given(
    st.lists(st.sampled_from(["{{", "}}", "{%", "%}", " ", "a", "'", "|", "if", "endif", "raw", "[", ".", "1", ":"]))
)
def test_no_text_breaks_anything_but_the_rules(pieces: list[str]) -> None:
    """Whatever is written, the answer is a text or a `ConfigError`; and `check` says the same."""
    text = "".join(pieces)
    try:
        render(text, {"a": "b"}, {})
    except ConfigError:
        return
    try:
        check_template(text, {}, ["a"])
    except ConfigError as error:
        assert "filter" in str(error)  # `check` knows every filter's name, also where none is applied


@pytest.mark.parametrize(
    ("value", "output"), [("4", "more"), (" 3.5 ", "more"), ("3", "equal"), ("-1", "less"), ("many", ""), ("", "")]
)
def test_a_variable_is_compared_with_a_number_as_one(value: str, output: str) -> None:
    """Variables are text; one that is no number is neither more nor less."""
    text = "{% if visits > 3 %}more{% elsif visits == 3 %}equal{% elsif visits < 3 %}less{% endif %}"
    assert said(text, visits=value) == output
    assert said("{% assign three = 3 %}" + text.replace("3 %", "three %"), visits=value) == output


def test_now_is_the_agents_time() -> None:
    """The `date` filter tells the time of the agent's zone, not of the host's."""
    assert said("{{ 'now' | date: '%A %H:%M' }}", **SYSTEM) == "Monday 09:30"


def test_the_error_for_missing_variables_names_every_one() -> None:
    """The code is the contract's, the names are sorted."""
    error = missing_variables_error(["b", "a"])
    assert error.code == MISSING == "MISSING_TEMPLATE_VARIABLES"
    assert "a, b" in str(error)


@pytest.mark.parametrize(
    ("text", "declared", "names"),
    [
        ("{{ a }} {{ b }}", ["a"], ["b"]),
        ("{% if false %}{{ c }}{% else %}{{ b }}{% endif %}{{ b }}", [], ["b", "c"]),
        ("{{ a | default: 'x' }}{{ b | upcase | default: c }}", [], ["c"]),
        ("{% if a %}{% elsif b == c %}{% endif %}{% for x in d %}{{ x }}{{ forloop.index }}{% endfor %}", [], []),
        ("{% assign x = a %}{% assign y = b | append: c %}{{ x }}", [], ["a"]),
        ("{% capture x %}{{ a }}{% endcapture %}{{ x }}{{ y }}", [], ["a", "y"]),
        ("{{ system.now }}{{ system.nonsense }}", [], []),
        ("{{ system.now }}{{ system.nonsense }}", ["system.now"], ["system.nonsense"]),
        ("{{ a.b }}{{ a.size }}", ["a"], ["a.b"]),
        ("{{ a | append: b }}{% liquid echo c %}{% cycle d, 'x' %}", ["a"], ["b", "c", "d"]),
        ("{% render 'house-rules' %}", [], ["who"]),
        ("{% render 'house-rules', who: 'all' %}", [], []),
        ("{% render 'house-rules', who: a %}", [], ["a"]),
        ("{% assign who = 'us' %}{% render 'house-rules' %}", [], ["who"]),
        ("{% assign who = 'us' %}{% include 'house-rules' %}", [], []),
        ("{% raw %}{{ a }}{% endraw %}{% comment %}{{ b }}{% endcomment %}", [], []),
        ("no braces", [], []),
    ],
)
def test_undeclared_names_are_found_by_reading(text: str, declared: list[str], names: list[str]) -> None:
    """In every branch, in what is taken in, and behind another name."""
    assert check_template(text, PROMPTS, declared) == names


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{% if false %}{{ a | upcas }}{% endif %}", "upcase"),
        ("{% if false %}{% render 'hous-rules' %}{% endif %}", "house-rules"),
        ("{% if false %}{% render 'again' %}{% endif %}", "itself"),
        ("{% if false %}{% render 'there' %}{% endif %}", "itself"),
        ("{% if false %}{% render 'wrong' %}{% endif %}", "'wrong'"),
    ],
)
def test_check_finds_what_a_call_may_never_reach(text: str, word: str) -> None:
    """A mistake in a branch that is not taken today is told before the call that takes it."""
    assert render(text, {}, PROMPTS).text == ""
    with pytest.raises(ConfigError, match=word):
        check_template(text, PROMPTS, [])


NAMES = st.sampled_from(["a", "b", "c"])
PIECES = st.recursive(
    st.one_of(
        NAMES.map(lambda name: f"{{{{ {name} }}}}"),
        NAMES.map(lambda name: f"{{{{ {name} | default: 'x' }}}}"),
        st.tuples(NAMES, NAMES).map(lambda pair: f"{{% assign {pair[0]}2 = {pair[1]} %}}{{{{ {pair[0]}2 }}}}"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.tuples(NAMES, inner).map(lambda pair: f"{{% if {pair[0]} %}}{pair[1]}{{% else %}}{pair[1]}{{% endif %}}"),
    ),
)


@given(PIECES, st.sets(NAMES))
def test_what_check_lets_pass_misses_nothing(text: str, declared: set[str]) -> None:
    """A call that has a value for every declared name misses none but those `check` named."""
    undeclared = check_template(text, {}, declared)
    assert set(render(text, dict.fromkeys(declared, "v"), {}).missing) <= set(undeclared)
    assert not declared & set(undeclared)


def test_the_library_is_loaded_with_the_first_template() -> None:
    """An agent without templates does not pay for it."""
    program = (
        "import sys; from agent_worker.prompting.liquid import render, preload; render('Hello.', {}, {});"
        "early = 'liquid' in sys.modules; preload(); print(early, 'liquid' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
