"""The scripted model: which rule answers, and how the answer is streamed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from livekit.agents import function_tool, llm

from agent_worker.errors import ProviderError
from agent_worker.providers.embedded.data_files import find_data_file
from agent_worker.providers.embedded.rules import Reply, RuleBook, read_rules
from agent_worker.providers.embedded.scripted import ScriptedLLM, decide

TOOLS = frozenset({"transfer_call", "end_call"})


@pytest.fixture
def book() -> RuleBook:
    return read_rules(find_data_file("rules", "front-desk"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("heard", "begins"),
    [
        ("what time do you close on saturday", "On Saturday we are open"),
        ("when do you open", "From Monday to Friday"),
        ("are you open on sunday", "On Sunday we are closed"),
        ("how much is a full service for my bicycle", "A full service is"),
        ("xyzzy", "Sorry, I did not catch that"),
        ("", "Sorry, I did not catch that"),
    ],
)
def test_the_front_desk_answers_what_it_is_asked(book: RuleBook, heard: str, begins: str) -> None:
    """Intents are found by keywords, so a word missed elsewhere does not matter."""
    assert book.answer_words(heard, TOOLS).text.startswith(begins)


def test_a_word_inside_another_is_not_heard(book: RuleBook) -> None:
    """`this` is not `hi`: patterns match whole words."""
    assert book.answer_words("this", TOOLS).text == book.fallback


def test_a_tool_runs_only_where_it_is_offered(book: RuleBook) -> None:
    """Without transfer_call the rule that needs it is passed over."""
    heard = "could you put me through to sales"
    assert book.answer_words(heard, TOOLS) == Reply("", "transfer_call", {"destination": "sales"})
    assert book.answer_words(heard, frozenset()).tool is None


def test_words_of_the_caller_reach_reply_and_tool(tmp_path: Path) -> None:
    """A named group of a pattern fills its slot in the text and in the arguments."""
    rules = read_rules(
        written(
            tmp_path,
            "rules:\n  - hears: 'my name is (?P<name>\\w+)'\n    say: Hello {name}.\n"
            "    call: take_message\n    with: {name: '{name}', urgent: true}\n",
        )
    )
    reply = rules.answer_words("my name is ada", frozenset({"take_message"}))
    assert reply == Reply("Hello ada.", "take_message", {"name": "ada", "urgent": True})


def test_a_tools_answer_decides_what_is_said(tmp_path: Path) -> None:
    """`matches` tells answers of one tool apart; without a rule its own words are said."""
    rules = read_rules(
        written(
            tmp_path,
            "rules:\n  - result_of: book\n    matches: full\n    say: No room.\n"
            "  - result_of: book\n    say: 'Done: {result}'\n",
        )
    )
    assert rules.answer_result("book", "all FULL today").text == "No room."
    assert rules.answer_result("book", "at nine").text == "Done: at nine"
    assert rules.answer_result("other", "as it is").text == "as it is"


@pytest.mark.parametrize(
    "text",
    [
        "rules: 7",
        "[",
        "rules:\n  - say: nothing heard\n",
        "rules:\n  - hears: a\n",
        "rules:\n  - hears: a\n    says: b\n",
        "rules:\n  - hears: '('\n    say: b\n",
        "rules:\n  - hears: a\n    result_of: t\n    say: b\n",
        "rules:\n  - just text\n",
    ],
)
def test_a_wrong_rules_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    """Whatever is wrong, the error names the file and says what a rule has."""
    path = written(tmp_path, text)
    with pytest.raises(ProviderError) as raised:
        read_rules(path)
    assert str(path) in raised.value.message
    assert raised.value.remedy


def test_a_file_that_is_not_there_names_those_that_are() -> None:
    """A typo in `embedded:<model>` is answered with what ships."""
    with pytest.raises(ProviderError) as raised:
        find_data_file("rules", "fornt-desk")
    assert "front-desk" in raised.value.remedy


def test_the_last_turn_is_what_is_answered(book: RuleBook) -> None:
    """A turn in two pieces counts as one; what was said before the agent's last reply does not."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="when do you close on sunday")
    context.add_message(role="assistant", content="On Sunday we are closed.")
    context.add_message(role="user", content="and what do you close at")
    context.add_message(role="user", content="on saturday")
    assert decide(book, context, TOOLS).text.startswith("On Saturday")


def test_a_tools_result_comes_before_the_words_that_asked_for_it(book: RuleBook) -> None:
    """After a tool has run its answer is the last thing in the conversation."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="put me through to sales")
    context.insert(llm.FunctionCall(call_id="c", name="transfer_call", arguments="{}"))
    context.insert(llm.FunctionCallOutput(call_id="c", name="transfer_call", output="nobody", is_error=False))
    assert "simulated line" in decide(book, context, TOOLS).text


@function_tool
async def transfer_call(destination: str) -> str:
    """Put the caller through."""
    return destination


async def test_replies_are_streamed_word_by_word_with_their_usage(book: RuleBook) -> None:
    """A consumer sees tokens that add up to the reply, then the counts."""
    model = ScriptedLLM(book, model="front-desk")
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="when do you open on sunday")
    async with model.chat(chat_ctx=context, tools=[]) as stream:
        chunks = [chunk async for chunk in stream]
    tokens = [chunk.delta.content for chunk in chunks if chunk.delta and chunk.delta.content]
    assert tokens == ["On ", "Sunday ", "we ", "are ", "closed."]
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 5
    assert (model.provider, model.model) == ("scripted", "front-desk")


async def test_a_tool_call_is_streamed_with_json_arguments(book: RuleBook) -> None:
    """The call names the offered tool; `tool_choice` none forbids it."""
    model = ScriptedLLM(book, model="front-desk")
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="please connect me to sales")
    async with model.chat(chat_ctx=context, tools=[transfer_call]) as stream:
        chunks = [chunk async for chunk in stream]
    calls = [call for chunk in chunks if chunk.delta for call in chunk.delta.tool_calls]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("transfer_call", {"destination": "sales"})]
    async with model.chat(chat_ctx=context, tools=[transfer_call], tool_choice="none") as stream:
        assert not [chunk async for chunk in stream if chunk.delta and chunk.delta.tool_calls]


def test_a_conversation_that_begins_with_us_is_opened_by_what_it_is_for(book: RuleBook) -> None:
    """Where somebody can be asked, they are; where a caller has said nothing that was understood, nobody is."""
    asking = frozenset({"accept_transfer", "decline_transfer"})
    assert book.answer_words("", asking).text.endswith("Will you take the call?")
    assert book.answer_words("yes please", asking).tool == "accept_transfer"
    assert book.answer_words("no thanks", asking).tool == "decline_transfer"
    assert book.answer_words("yes please", TOOLS).tool is None


def test_a_rule_is_of_one_kind(tmp_path: Path) -> None:
    """What begins a conversation hears nothing."""
    rules = written(tmp_path, "rules: [{begins: end_call, hears: hello, say: Hello.}]")
    with pytest.raises(ProviderError) as error:
        read_rules(rules)
    assert "one of" in error.value.message
