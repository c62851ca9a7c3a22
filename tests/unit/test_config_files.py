"""Agent files: what is read from them, and how their mistakes are told."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.agent_files import read_agent_file
from agent_worker.config.problems import ConfigErrors
from agent_worker.config.yaml_file import PATTERNS, FileKind, read_tree
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.number import TelephonyConfig
from tests.agent_files import GOOD, problems, write

KIND = FileKind("some", "thing", "a: …")
TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=8)


def test_a_file_becomes_an_agent_with_plain_values(tmp_path: Path) -> None:
    """Numbers come out in E.164, names alone are tools, and nothing of the YAML reader's types is left."""
    agent = read_agent_file(write(tmp_path, GOOD)).agent

    assert agent.numbers == ["+12015550123"]
    assert [tool.name for tool in agent.tools] == ["end_call", "transfer_call"]
    assert agent.idle_re_prompts.delay_ms == 5_000
    assert type(agent.tools[1].config["destinations"]) is list
    assert type(agent.tools[1].config["destinations"][0]) is dict


def test_an_unknown_key_names_line_and_nearest_key(tmp_path: Path) -> None:
    """A typo is told with its file, its line and the key that was meant."""
    path = write(tmp_path, "name: desk\nsystemPrompt: Be kind.\nfirstMesage: Hello.\n")

    assert problems(path) == ["desk.yaml:3: There is no key 'firstMesage'. Did you mean 'firstMessage'?"]


@pytest.mark.parametrize("count", [100, 101, 20_000])
def test_of_very_many_mistakes_the_first_are_told(tmp_path: Path, count: int) -> None:
    """A hundred of them and how many more there are, at once, in the order of the file."""
    wrong = "".join(f"wrong_key_{index}: 1\n" for index in range(count))
    path = write(tmp_path, f"name: desk\nsystemPrompt: x\n{wrong}")
    started = time.monotonic()

    told = problems(path)

    assert time.monotonic() - started < 5
    assert told[99].startswith("desk.yaml:102: There is no key 'wrong_key_99'.")
    more = {100: [], 101: ["1 more mistake is"], 20_000: ["19900 more mistakes are"]}[count]
    assert told[100:] == [f"desk.yaml:102: {line} not listed. Mend these first." for line in more]


def test_of_very_many_wrong_numbers_the_first_are_told(tmp_path: Path) -> None:
    """Also what only the whole file shows to be wrong."""
    path = write(tmp_path, "name: desk\nsystemPrompt: x\nnumbers:\n" + '  - "+12015550123"\n' * 150)

    told = problems(path)

    assert len(told) == 101
    assert told[-1] == "desk.yaml:104: 49 more mistakes are not listed. Mend these first."


def test_an_unknown_key_of_a_group_names_the_groups_keys(tmp_path: Path) -> None:
    """In a group the nearest key is looked for in that group."""
    path = write(tmp_path, "name: desk\nsystemPrompt: x\nidleRePrompts:\n  enabled: true\n  delayMS: 5\n  wait: 3\n")

    told = problems(path)

    assert told[0] == "desk.yaml:5: There is no key 'idleRePrompts.delayMS'. Did you mean 'delayMs'?"
    assert told[1].startswith("desk.yaml:6: There is no key 'idleRePrompts.wait'. Valid here: ")


def test_a_key_in_the_wrong_place_names_its_group(tmp_path: Path) -> None:
    """A key that exists elsewhere is sent there."""
    path = write(tmp_path, "name: desk\nsystemPrompt: x\ntemperature: 0.2\n")

    assert problems(path) == ["desk.yaml:3: There is no key 'temperature'. It belongs under 'llmOptions'."]


def test_wrong_values_are_all_told_at_once(tmp_path: Path) -> None:
    """Each wrong value has its line, what is expected and what stands there."""
    path = write(
        tmp_path,
        "name: desk\nsystemPrompt: x\nidleRePrompts:\n  delayMs: soon\nrecord: perhaps\n"
        "intent:\n  language: English\nturnHandling:\n  turnDetection: magic\nttsOptions: fast\n"
        "maxDurationSeconds: 20\n",
    )

    assert problems(path) == [
        "desk.yaml:4: idleRePrompts.delayMs must be a whole number, is 'soon'.",
        "desk.yaml:5: record must be true or false, is 'perhaps'.",
        "desk.yaml:7: intent.language must be a language such as en or en-US, is 'English'.",
        "desk.yaml:9: turnHandling.turnDetection must be one of 'audio', 'vad' or 'stt', is 'magic'.",
        "desk.yaml:10: ttsOptions must be a group of keys, is 'fast'.",
        "desk.yaml:11: maxDurationSeconds must be at least 30, is 20.",
    ]


def test_a_number_without_quotes_is_told_to_be_quoted(tmp_path: Path) -> None:
    """YAML reads +1201… as an integer; the remedy is the quoted number."""
    path = write(tmp_path, "name: desk\nsystemPrompt: x\nnumbers:\n  - +12015550123\n")

    assert problems(path) == ['desk.yaml:4: numbers[0] must be text, is 12015550123. Put it in quotes: "+12015550123".']


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "desk.yaml: The file holds no agent."),
        ("- a\n- b\n", "desk.yaml: The file holds no agent."),
        ("name: desk\nname: other\n", "desk.yaml:2: The same key stands here twice."),
        ("name: [desk\nrecord: true\n", "This is not YAML"),
        ("name: desk\nsystemPrompt: x\nnumbers: ['12']\n", "desk.yaml:3: '12' is not a phone number."),
        ("name: desk\nsystemPrompt: x\nprompt: y\n", "desk.yaml:3: Both prompt and systemPrompt are given."),
        ("name: desk\n", "desk.yaml:1: The agent has no instructions."),
        ("systemPrompt: x\n", "desk.yaml:1: The key 'name' is missing."),
        (
            "name: d\nsystemPrompt: x\ntools: [end_call, end_call]\n",
            "desk.yaml:3: The tool 'end_call' is listed",
        ),
        (
            "name: d\nsystemPrompt: x\nturnHandling:\n  endpointing: {minDelay: 2, maxDelay: 1}\n",
            "desk.yaml:4: turnHandling.endpointing.minDelay is longer than maxDelay.",
        ),
        (
            "name: d\nsystemPrompt: x\npromptVariables: [{name: a}, {name: b}, {name: a}]\n",
            "desk.yaml:3: The variable 'a' is declared twice.",
        ),
        (
            "name: d\nsystemPrompt: x\nnumbers: ['+12015550123', '001 201 555 0123']\n",
            "desk.yaml:3: +12015550123 stands here twice.",
        ),
    ],
)
def test_other_mistakes(tmp_path: Path, text: str, told: str) -> None:
    """Each mistake is one sentence at its place."""
    found = problems(write(tmp_path, text))

    assert len(found) == 1
    assert told in found[0]


BASE = "name: d\nsystemPrompt: x\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "webhooks:\n  preCall:\n    url: ftp://hooks.example\n",
            "desk.yaml:5: webhooks.preCall.url must start with https://, is 'ftp://hooks.example'.",
        ),
        (
            "tools:\n  - name: book\n    source:\n      kind: webhook\n      url: x://y/z/a\n",
            "desk.yaml:7: tools[0].source.url must start with https://, is 'x://y/z/a'.",
        ),
        (
            "tools:\n  - name: book\n    source:\n      kind: builtin\n      name: x\n      nmae: y\n",
            "desk.yaml:8: There is no key 'tools[0].source.nmae'. Did you mean 'name'?",
        ),
        (
            "tools:\n  - name: book\n    source: {kind: webhok}\n",
            "desk.yaml:5: tools[0].source must have 'kind' one of 'inline', 'builtin', 'webhook', 'integration'.",
        ),
        (
            "tools:\n  - name: book\n    source: {url: https://a.example}\n",
            "desk.yaml:5: tools[0].source must say its 'kind'.",
        ),
        ("tools: [9to5]\n", "desk.yaml:3: tools[0] must be letters, digits and underscores, at most 64, and no"),
        (
            "backgroundAudio:\n  ambient:\n    clip: crowded-room\n    soundId: s\n",
            "desk.yaml:4: backgroundAudio.ambient must have exactly one of clip and soundId.",
        ),
        (
            "timezone: Mars/Base\n",
            "desk.yaml:3: timezone must be an IANA time zone such as Europe/Berlin, is 'Mars/Base'.",
        ),
        (
            "variables:\n  2nd: x\n",
            "desk.yaml:4: variables: the key '2nd' must be letters, digits and underscores, at most 64, and no digit first.",
        ),
        ("variables:\n  year: 2030\n", 'desk.yaml:4: variables.year must be text, is 2030. Put it in quotes: "2030".'),
        ("promptVariables: [{name: system}]\n", "desk.yaml:3: promptVariables cannot name a variable 'system'"),
        ("sttOptions:\n  providerOptions: {a: " + "x" * 3_000 + "}\n", "must be at most 2048 bytes as JSON, is 3009."),
        (
            "system_prompt: y\n",
            "desk.yaml:3: 'system_prompt' and 'systemPrompt' are the same key. Keep 'systemPrompt'.",
        ),
        (
            "webhooks:\n  status:\n    url: https://a.example\n    onFailure: reject\n",
            "desk.yaml:6: webhooks.status has onFailure, which only preCall uses.",
        ),
        (
            "webhooks:\n  preCall:\n    url: https://a.example\n"
            "    extractionFields: [{name: a, type: string, description: b}]\n",
            "desk.yaml:6: webhooks.preCall has extractionFields, which only postCall uses.",
        ),
        ("maxDurationSeconds: [1]\n", "desk.yaml:3: maxDurationSeconds must be a whole number, is a list."),
        ("llmOptions:\n  temperature: .nan\n", "desk.yaml:4: llmOptions.temperature must be at most 2.0, is nan."),
    ],
)
def test_mistakes_deep_in_a_file(tmp_path: Path, text: str, told: str) -> None:
    """Variants, dictionaries and rules across keys are told like everything else, in plain words."""
    [found] = problems(write(tmp_path, BASE + text))

    assert told in found
    assert "Value error" not in found


def test_a_secret_that_is_wrong_is_not_repeated(tmp_path: Path) -> None:
    """What an operator's log keeps is where the mistake is, not the secret."""
    text = (
        "webhooks:\n  preCall:\n    url: https://a.example\n    secret: tiny\n    authHeaders: [{name: X, value: 12345}]\n"
        "toolSecrets:\n  key: 54321\n"
    )

    found = "\n".join(problems(write(tmp_path, BASE + text)))

    assert "desk.yaml:6: webhooks.preCall.secret must have at least 6 characters.\n" in found
    assert not any(secret in found for secret in ("tiny", "12345", "54321"))


def test_every_pattern_of_the_models_is_told_in_words() -> None:
    """No operator reads a regular expression."""
    schemas = [model.model_json_schema() for model in (AgentConfig, TelephonyConfig)]
    patterns = set(re.findall(r"'pattern': ('[^']*'|\"[^\"]*\")", str(schemas)))

    assert {ast.literal_eval(pattern) for pattern in patterns} <= set(PATTERNS)
    assert len(patterns) >= 6


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2030-01-02", "2030-01-02"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", 1_000),
        ("1e3", 1_000.0),
        ("~", None),
        ("", None),
        ("True", True),
        ("'True'", "True"),
        ("!!str 12", "12"),
        ("[a, 1, {b: .5}]", ["a", 1, {"b": 0.5}]),
        ("9" * 5_000, "9" * 5_000),
    ],
)
def test_plain_words_are_what_yaml_1_2_says(tmp_path: Path, written: str, read: object) -> None:
    """A time of day stays a time of day, and `on` a word."""
    tree = read_tree(write(tmp_path, f"a: {written}\n"), KIND)

    assert tree["a"] == read
    assert type(tree["a"]) is type(read)


def test_anchors_and_merges_are_read(tmp_path: Path) -> None:
    """A key of its own wins over a merged one; the first of several merged groups wins."""
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 3\nagain: *x\n"

    tree = read_tree(write(tmp_path, text), KIND)

    assert tree["z"] == {"a": 3, "b": 1, "c": 2}
    assert tree["again"] == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [*a]\n", "desk.yaml:1: This holds itself."),
        ("a: " + "[" * 60 + "]" * 60, "desk.yaml:1: This is nested more than 50 deep."),
        ("a: " + "[" * 400_000, "desk.yaml"),
        (
            "a: &a [0,0,0,0,0,0,0,0,0,0]\n"
            + "".join(f"{k}: &{k} [{', '.join(['*' + p] * 10)}]\n" for p, k in zip("abcdefg", "bcdefgh", strict=True)),
            "The file holds more than 200000 values.",
        ),
        (
            "a: !!python/object:os.system x\n",
            "desk.yaml:1: The tag tag:yaml.org,2002:python/object:os.system means nothing",
        ),
        ("a: *b\n", "desk.yaml:1: There is no anchor &b before this."),
        ("? [a, b]\n: c\n", "desk.yaml:1: A key must be one word."),
        ("a: 1\n---\nb: 2\n", "desk.yaml:2: A second document begins here."),
        ("a: \x00\n", "This is not YAML"),
        ("a: 1\n\tb: 2\n", "desk.yaml:2: This is not YAML"),
        ("a:\n  b: 1\n  b: 2\n", "desk.yaml:3: The same key stands here twice."),
        ("x: " + "y" * 1_000_000, "The file is larger than 1000000 bytes."),
    ],
)
def test_yaml_that_would_do_harm_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    """Whatever the file holds, an operator reads where it is wrong."""
    with pytest.raises(ConfigErrors) as caught:
        read_tree(write(tmp_path, text), KIND)

    [problem] = caught.value.problems
    assert told in str(problem)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=10,
    )
)
def test_json_is_read_as_it_is(value: object) -> None:
    """JSON is YAML, so a file may be written by a program."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "desk.yaml"
        path.write_text(json.dumps({"value": value}, ensure_ascii=False), encoding="utf-8")
        assert read_tree(path, KIND).content == {"value": value}


def test_without_the_c_library_the_same_is_read(tmp_path: Path, root: Path) -> None:
    """A PyYAML built without libyaml is slower, and finds the same values and lines."""
    path = write(tmp_path, GOOD)
    code = (
        "import sys; sys.modules['yaml._yaml'] = None\n"
        "from pathlib import Path\nimport yaml\n"
        "from agent_worker.config.agent_files import read_agent_file\n"
        "found = read_agent_file(Path(sys.argv[1]))\n"
        "print(yaml.__with_libyaml__, found.agent.model_dump_json(), found.tree.line_of(('tools', 1, 'config')))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=root, capture_output=True, text=True, check=True
    )

    assert shown.stdout == f"False {read_agent_file(path).agent.model_dump_json()} 10\n"


def test_a_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told as such."""
    path = tmp_path / "desk.yaml"
    path.write_bytes(b"name: \xff\xfe\n")

    assert problems(path) == ["desk.yaml: The file is not UTF-8 text."]
