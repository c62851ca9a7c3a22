"""Agents over HTTP: what the official client does with them, what it leaves out, and what calls make of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from spekoai import SpekoApiError
from spekoai.models import AgentRow, AgentUpdateParams

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_catalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallPlan, CallRefusal, utc_now
from agent_worker.store.agents import load_agents, save_agent
from agent_worker.store.audit import last_entries
from tests.integration.api_client import NEW_AGENT, Served, served
from tests.integration.serving import NUMBER, OFFER
from tests.integration.test_store import databases

HOOK = {
    "url": "https://crm.example.com/status",
    "secret": "a-secret-of-the-hook",
    "headers": {"x-tenant": "a"},
    "authHeaders": [{"name": "Authorization", "value": "Bearer of-the-header"}],
    "timeoutMs": 3000,
}
SECRETS = ("a-secret-of-the-hook", "of-the-header", "a-secret-of-tools", "a-secret-of-the-tool")


async def made(there: Served, **changes: Any) -> dict[str, Any]:
    """Make an agent; returns its row."""
    answer = await there.http.post("/v1/agents", json={**NEW_AGENT, **changes})
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def changed(there: Served, agent_id: str, **changes: Any) -> dict[str, Any]:
    """Change an agent; returns its row."""
    answer = await there.http.patch(f"/v1/agents/{agent_id}", json=changes)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def stored(there: Served, agent_id: str) -> AgentConfig:
    """Return an agent as the database has it."""
    control = EmbeddedControlPlane(there.settings)
    async with control.reading() as connection:
        agents = await load_agents(connection, there.settings.organization_id)
    await control.aclose()
    return agents[agent_id]


def wrong(answer: httpx.Response) -> dict[str, str]:
    """Return the issues of an answer that says the request is wrong: dotted path -> message."""
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "VALIDATION_ERROR"
    return {".".join(map(str, issue["path"])): issue["message"] for issue in answer.json()["issues"]}


@databases
async def test_the_synchronous_client_makes_changes_and_deletes_an_agent(kind: str, tmp_path: Path) -> None:
    """Every method of the client, with its own models in between."""
    async with served(tmp_path, kind) as there:
        agent = await there.sync(
            lambda speko: speko.agents.create(
                {
                    "name": "Support",
                    "system_prompt": "You help.",
                    "voice": "sophia",
                    "intent": {"language": "en", "optimize_for": "latency"},
                    "llm_options": {"temperature": 0.3},
                    "background_audio": {"ambient": {"clip": "office-ambience", "volume": 5}},
                    "webhooks": {"post_call": {"url": "https://crm.example.com/x", "secret": "a-secret"}},
                    "extraction_fields": [{"name": "mood", "type": "enum", "description": "d", "options": ["a"]}],
                }
            )
        )
        assert agent.id.startswith("agent_")
        assert (agent.name, agent.voice, agent.intent.optimize_for) == ("Support", "sophia", "latency")
        assert agent.background_audio is not None
        assert agent.webhooks is not None
        assert agent.webhooks.post_call is not None
        assert agent.webhooks.post_call.secret_ref
        assert await there.sync(lambda speko: speko.agents.get(agent.id)) == agent
        assert [row.id for row in await there.sync(lambda speko: speko.agents.list())] == ["desk", agent.id]
        change = AgentUpdateParams(voice=None, name="Sales", llm_options=None)
        after = await there.sync(lambda speko: speko.agents.update(agent.id, change))
        assert (after.name, after.voice, after.llm_options, after.system_prompt) == ("Sales", None, None, "You help.")
        assert after.updated_at > agent.updated_at
        assert after.created_at == agent.created_at
        assert await there.sync(lambda speko: speko.agents.delete(agent.id)) is True
        with pytest.raises(SpekoApiError) as gone:
            await there.sync(lambda speko: speko.agents.get(agent.id))
        assert (gone.value.status, gone.value.code) == (404, "NOT_FOUND")


async def test_the_asynchronous_client_does_the_same(tmp_path: Path) -> None:
    """Create, get, list, update and delete."""
    async with served(tmp_path) as there:
        params = {"name": "A", "system_prompt": "x", "intent": {"language": "de"}}
        agent = await there.later(lambda speko: speko.agents.create(params))
        after = await there.later(lambda speko: speko.agents.update(agent.id, {"voice": "zoe"}))
        assert (await there.later(lambda speko: speko.agents.get(agent.id))) == after
        assert [row.id for row in await there.later(lambda speko: speko.agents.list())] == ["desk", agent.id]
        assert await there.later(lambda speko: speko.agents.delete(agent.id)) is True


async def test_a_row_has_the_clients_keys_and_ours(tmp_path: Path) -> None:
    """No key of the client's row is missing; keys the client drops come back as they were sent."""
    ours: dict[str, Any] = {
        "firstMessage": "",
        "turnHandling": {"greetFirst": False, "endpointing": {"minDelay": 0.4}},
        "idleRePrompts": {"enabled": True, "delayMs": 5000, "maxPrompts": 3, "messages": ["Still there?"]},
        "runMode": "s2s",
        "promptVariables": [{"name": "clinic", "defaultValue": "Harbour"}],
        "extractionFields": [{"name": "mood", "type": "string", "description": "How they feel."}],
        "ttsOptions": {"speed": 1.2},
        "maxDurationSeconds": 600,
        "metadata": {"team": None, "x": [1, {"y": None}]},
        "webhookTags": {"tenant": "a"},
    }
    async with served(tmp_path) as there:
        row = await made(there, **ours)
        assert {key: row[key] for key in ours} == ours
        wire = {field.alias or name for name, field in AgentRow.model_fields.items()}
        assert wire <= row.keys()
        again = (await there.http.get(f"/v1/agents/{row['id']}")).json()
        listed = (await there.http.get("/v1/agents")).json()[-1]
        assert again == row
        assert listed == {key: value for key, value in row.items() if key != "warnings"}
        assert (row["source"], row["organizationId"]) == ("database", there.settings.organization_id)


async def test_a_row_that_is_sent_back_changes_nothing(tmp_path: Path) -> None:
    """A client that reads, changes one key and sends all of it loses no secret."""
    async with served(tmp_path) as there:
        hooks = {"preCall": {**HOOK, "onFailure": "reject"}, "status": HOOK}
        row = await made(there, webhooks=hooks, toolSecrets={"crm": "a-secret-of-tools"}, voice="a", variables={})
        before = await stored(there, row["id"])
        after = await changed(there, row["id"], **{**row, "voice": "b"})
        assert {**after, "updatedAt": "", "voice": ""} == {**row, "updatedAt": "", "voice": ""}
        kept = await stored(there, row["id"])
        assert kept.webhooks == before.webhooks
        assert kept.tool_secrets == before.tool_secrets
        assert kept.voice == "b"


async def test_secrets_go_in_and_never_come_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an answer nor the log nor the audit has one; `secretRef` stands there, always."""
    async with served(tmp_path) as there:
        tool = {
            "name": "look_up",
            "description": "d",
            "parameters": {},
            "source": {"kind": "webhook", "url": "https://crm.example.com/t", "secret": "a-secret-of-the-tool"},
        }
        plain = {"url": "https://crm.example.com/pre"}
        row = await made(
            there,
            webhooks={"status": HOOK, "preCall": plain},
            toolSecrets={"crm": "a-secret-of-tools"},
            tools=[tool],
        )
        answers = [
            row,
            await changed(there, row["id"], toolSecrets={"crm": "a-secret-of-tools"}, webhooks={"status": HOOK}),
        ]
        for path in ("/v1/agents", f"/v1/agents/{row['id']}", f"/v1/agents/{row['id']}/tools"):
            answers.append((await there.http.get(path)).json())
        control = EmbeddedControlPlane(there.settings)
        async with control.reading() as connection:
            entries = await last_entries(connection, there.settings.organization_id, limit=10)
        await control.aclose()
    told = (
        json.dumps([answers, entries], default=str) + caplog.text + str([record.__dict__ for record in caplog.records])
    )
    assert [secret for secret in SECRETS if secret in told] == []
    hooks = row["webhooks"]
    assert (hooks["preCall"]["secretRef"], bool(hooks["status"]["secretRef"])) == ("organization", True)
    assert hooks["status"]["authHeaders"] == [
        {"name": "Authorization", "secretRef": "webhooks.status.authHeaders.Authorization"}
    ]
    assert row["toolSecretNames"] == ["crm"]
    assert [entry["action"] for entry in entries] == ["agent.update", "agent.create"]


async def test_a_change_keeps_what_it_does_not_say(tmp_path: Path) -> None:
    """One hook changes and the others stay; a secret is kept, replaced or, with null, taken away."""
    async with served(tmp_path) as there:
        row = await made(
            there, webhooks={"status": HOOK, "analysis": HOOK}, toolSecrets={"a": "a-secret", "b": "b-secret"}
        )
        moved = {"url": "https://crm.example.com/new", "authHeaders": [{"name": "authorization"}]}
        await changed(there, row["id"], webhooks={"status": moved}, toolSecrets={"a": None, "c": "c-secret"})
        agent = await stored(there, row["id"])
        status, analysis = agent.webhooks.status, agent.webhooks.analysis
        assert status is not None
        assert analysis is not None
        assert (status.url, status.secret, status.headers) == (moved["url"], HOOK["secret"], {})
        assert [header.value for header in status.auth_headers] == ["Bearer of-the-header"]
        assert analysis.url == HOOK["url"]
        assert agent.tool_secrets == {"b": "b-secret", "c": "c-secret"}
        await changed(there, row["id"], webhooks={"analysis": None, "status": {**moved, "secret": None}})
        agent = await stored(there, row["id"])
        assert agent.webhooks.analysis is None
        assert agent.webhooks.status is not None
        assert agent.webhooks.status.secret is None
        unknown = {"webhooks": {"status": {**moved, "authHeaders": [{"name": "x-new"}]}}}
        answer = await there.http.patch(f"/v1/agents/{row['id']}", json=unknown)
        assert list(wrong(answer)) == ["webhooks.status.authHeaders.0"]


async def test_null_clears_what_can_be_cleared(tmp_path: Path) -> None:
    """Required keys cannot be; a first message becomes the caller's; the client's null leaves extraction fields."""
    async with served(tmp_path) as there:
        fields = [{"name": "mood", "type": "string", "description": "d"}]
        row = await made(there, voice="a", timezone="Europe/Berlin", extractionFields=fields, firstMessage="Hello.")
        after = await changed(
            there, row["id"], voice=None, timezone=None, extractionFields=None, firstMessage=None, ttsOptions=None
        )
        assert (after["voice"], after["timezone"], after["firstMessage"]) == (None, "UTC", "")
        assert [field["name"] for field in after["extractionFields"]] == ["mood"]
        assert (await changed(there, row["id"], extractionFields=[]))["extractionFields"] == []
        for key in ("name", "systemPrompt", "intent"):
            answer = await there.http.patch(f"/v1/agents/{row['id']}", json={key: None})
            assert list(wrong(answer)) == [key]
        assert list(wrong(await there.http.post("/v1/agents", json={**NEW_AGENT, "firstMessage": None}))) == [
            "firstMessage"
        ]
        assert (await made(there, voice=None, llmOptions=None, webhooks=None))["llmOptions"] is None


WRONG: list[tuple[dict[str, Any], Any]] = [
    ({}, {"name", "systemPrompt", "intent"}),
    ({**NEW_AGENT, "intent": {}}, {"intent.language"}),
    ({**NEW_AGENT, "intent": {"language": "english"}}, {"intent.language"}),
    ({**NEW_AGENT, "name": ""}, {"name"}),
    ({**NEW_AGENT, "systemPrompt": "  "}, {""}),
    ({**NEW_AGENT, "llmOptions": {"temperature": 9}}, {"llmOptions.temperature"}),
    ({**NEW_AGENT, "tools": [{"name": "t", "source": {"kind": "webhook", "url": "x"}}]}, {"tools.0.source.url"}),
    ({**NEW_AGENT, "tools": ["a", "a"]}, {"tools.1"}),
    ({**NEW_AGENT, "webhooks": {"status": {"url": "https://10.0.0.1/x"}}}, {"webhooks.status.url"}),
    (
        {**NEW_AGENT, "webhooks": {"status": {"url": "https://a.example", "secret": "env:HOME"}}},
        {"webhooks.status.secret"},
    ),
    ({**NEW_AGENT, "toolSecrets": {"a": "env:OPENAI_API_KEY"}}, {"toolSecrets.a"}),
    ({**NEW_AGENT, "promptVariables": [{"name": "a"}], "firstMessage": "{% if %}"}, {"firstMessage"}),
    ({**NEW_AGENT, "prompt": "nobody"}, {"prompt"}),
    ({**NEW_AGENT, "prompt": "../../etc/passwd", "systemPrompt": ""}, {"prompt"}),
    ({**NEW_AGENT, "numbers": ["2015550123"]}, {"numbers.0"}),
    ({**NEW_AGENT, "numbers": [NUMBER]}, {"numbers.0"}),
]


async def test_what_is_wrong_is_told_by_its_place(tmp_path: Path) -> None:
    """400 with a path for each mistake, never with the value; nothing is made."""
    async with served(tmp_path) as there:
        for body, places in WRONG:
            issues = wrong(await there.http.post("/v1/agents", json=body))
            assert places <= issues.keys(), body
            assert "OPENAI" not in str(issues)
        assert len((await there.http.get("/v1/agents")).json()) == 1


async def test_a_typo_is_left_out_and_told(tmp_path: Path) -> None:
    """As on the hosted platform an unknown key is no mistake; here the answer says so, with the nearest valid key."""
    async with served(tmp_path) as there:
        row = await made(there, systemPromt="x", first_message="y", llmOptions={"temprature": 1})
        told = {".".join(map(str, warning["path"])): warning["message"] for warning in row["warnings"]}
        assert told.keys() == {"systemPromt", "first_message", "llmOptions.temprature"}
        assert "'systemPrompt'" in told["systemPromt"]
        assert "'temperature'" in told["llmOptions.temprature"]
        assert row["firstMessage"] == AgentConfig(name="-").first_message
        kept = (await made(there, backgroundAudio={"ambient": {"clip": "office-ambience"}}))["warnings"]
        assert [warning["path"] for warning in kept] == [["backgroundAudio", "ambient"]]


async def test_agents_that_are_files_are_seen_and_not_touched(tmp_path: Path) -> None:
    """They stand in the list and can be read; a change answers where to make it."""
    async with served(tmp_path) as there:
        row = (await there.http.get("/v1/agents/desk")).json()
        assert (row["source"], row["systemPrompt"], row["numbers"]) == ("file", "You help.", [NUMBER])
        assert row["createdAt"] == row["updatedAt"] > "2026"
        for method in ("PATCH", "DELETE"):
            answer = await there.http.request(method, "/v1/agents/desk", json={"voice": "x"})
            assert (answer.status_code, answer.json()["code"]) == (409, "AGENT_IS_A_FILE")
            assert "desk.yaml" in answer.json()["error"]


@databases
async def test_the_only_agent_cannot_be_deleted(kind: str, tmp_path: Path) -> None:
    """409 `LAST_AGENT`; also when the last two are deleted at once, one of them stays."""
    (folder := tmp_path / "none").mkdir()
    async with served(tmp_path, kind, agents_dir=folder) as there:
        first, second = (await made(there))["id"], (await made(there))["id"]
        answers = await asyncio.gather(*(there.http.delete(f"/v1/agents/{made}") for made in (first, second)))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert [answer.json()["code"] for answer in answers if answer.status_code == 409] == ["LAST_AGENT"]
        assert len((await there.http.get("/v1/agents")).json()) == 1


@databases
async def test_two_changes_at_once_lose_nothing(kind: str, tmp_path: Path) -> None:
    """Each reads and writes in one transaction, so that neither overwrites the other's key."""
    async with served(tmp_path, kind) as there:
        row = await made(there)
        changes: list[dict[str, Any]] = [
            {"voice": "zoe"},
            {"timezone": "Europe/Berlin"},
            {"ttsOptions": {"speed": 1.1}},
            {"description": "d"},
            {"metadata": {"a": 1}},
            {"webhooks": {"status": HOOK}},
            {"webhooks": {"analysis": HOOK}},
            {"toolSecrets": {"a": "a-secret"}},
            {"toolSecrets": {"b": "b-secret"}},
        ]
        answers = await asyncio.gather(
            *(there.http.patch(f"/v1/agents/{row['id']}", json=change) for change in changes)
        )
        assert [answer.status_code for answer in answers] == [200] * len(changes)
        after = (await there.http.get(f"/v1/agents/{row['id']}")).json()
        assert (after["voice"], after["timezone"], after["description"]) == ("zoe", "Europe/Berlin", "d")
        assert (after["ttsOptions"], after["metadata"]) == ({"speed": 1.1}, {"a": 1})
        assert after["webhooks"]["status"]
        assert after["webhooks"]["analysis"]
        assert after["toolSecretNames"] == ["a", "b"]


@databases
async def test_the_next_call_is_planned_with_what_came_over_http(kind: str, tmp_path: Path) -> None:
    """Made, changed and deleted: once the answer is there, a worker of this host plans calls with it."""
    async with served(tmp_path, kind) as there:
        worker = EmbeddedControlPlane(there.settings, make_catalog(there.settings))

        async def planned() -> CallPlan | CallRefusal:
            offer = OFFER.model_copy(update={"dialed_number": "+12015550177"})
            return await worker.open_call(offer, budget_seconds=4)

        row = await made(there, voice="maya", numbers=["+12015550177"])
        plan = await planned()
        assert isinstance(plan, CallPlan)
        assert (plan.agent_id, plan.agent.voice) == (row["id"], "maya")
        await changed(there, row["id"], voice="zoe", maxDurationSeconds=120)
        plan = await planned()
        assert isinstance(plan, CallPlan)
        assert (plan.agent.voice, plan.agent.max_duration_seconds) == ("zoe", 120)
        assert (await there.http.delete(f"/v1/agents/{row['id']}")).json() == {"deleted": True}
        assert isinstance(await planned(), CallRefusal)
        await worker.aclose()


async def test_a_prompt_file_and_a_text_give_way_to_each_other(tmp_path: Path) -> None:
    """A row whose prompt is a file shows its text; the text of a change takes its place, and back."""
    async with served(tmp_path) as there:
        (there.settings.prompts_dir / "sales.md").write_text("You sell boats.")
        answer = await there.http.post(
            "/v1/agents", json={"name": "A", "prompt": "sales", "intent": {"language": "en"}}
        )
        row = answer.json()
        assert (answer.status_code, row["systemPrompt"], row["prompt"]) == (201, "You sell boats.", "sales")
        after = await changed(there, row["id"], systemPrompt="You sell cars.")
        assert (after["systemPrompt"], after["prompt"]) == ("You sell cars.", None)
        after = await changed(there, row["id"], prompt="sales")
        assert (after["systemPrompt"], after["prompt"]) == ("You sell boats.", "sales")


async def test_a_key_sees_and_changes_what_it_may(tmp_path: Path) -> None:
    """A read key changes nothing; one that is limited to some agents finds no others and makes none."""
    async with served(tmp_path) as there:
        mine, other = (await made(there))["id"], (await made(there))["id"]
        async with await there.with_key(scope="operate") as operator:
            assert (await operator.get(f"/v1/agents/{mine}")).status_code == 200
            for method, path in (
                ("POST", "/v1/agents"),
                ("PATCH", f"/v1/agents/{mine}"),
                ("DELETE", f"/v1/agents/{mine}"),
            ):
                assert (await operator.request(method, path, json=NEW_AGENT)).status_code == 403
        async with await there.with_key(agent_ids=[mine]) as limited:
            assert [row["id"] for row in (await limited.get("/v1/agents")).json()] == [mine]
            assert (await limited.patch(f"/v1/agents/{mine}", json={"voice": "x"})).status_code == 200
            for method in ("GET", "PATCH", "DELETE"):
                for hidden in (other, "desk"):
                    answer = await limited.request(method, f"/v1/agents/{hidden}", json={})
                    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
            assert (await limited.post("/v1/agents", json=NEW_AGENT)).status_code == 403
        assert len((await there.http.get("/v1/agents")).json()) == 3


async def test_an_agent_of_another_organization_is_not_found(tmp_path: Path) -> None:
    """404, and it stays as it is."""
    async with served(tmp_path) as there:
        control = EmbeddedControlPlane(there.settings)
        async with control.writing() as connection:
            foreign = await save_agent(connection, "other", AgentConfig(name="x"), agent_id=None, now=utc_now())
        for method in ("GET", "PATCH", "DELETE"):
            assert (await there.http.request(method, f"/v1/agents/{foreign}", json={"voice": "x"})).status_code == 404
        async with control.reading() as connection:
            assert (await load_agents(connection, "other"))[foreign] == AgentConfig(name="x")
        await control.aclose()


async def test_a_row_an_earlier_policy_let_in_can_still_be_changed(tmp_path: Path) -> None:
    """What a change does not say is no reason to refuse it."""
    async with served(tmp_path) as there:
        agent = AgentConfig.model_validate(
            {
                "name": "A",
                "systemPrompt": "x",
                "webhooks": {"status": {"url": "http://10.0.0.1/x", "secret": "env:NO_SUCH"}},
            }
        )
        control = EmbeddedControlPlane(there.settings)
        async with control.writing() as connection:
            agent_id = await save_agent(connection, "org_local", agent, agent_id=None, now=utc_now())
        await control.aclose()
        row = await changed(there, agent_id, voice="zoe")
        assert row["webhooks"]["status"]["secretRef"] == "env:NO_SUCH"
        answer = await there.http.patch(
            f"/v1/agents/{agent_id}", json={"webhooks": {"status": {"url": "http://10.0.0.1/y"}}}
        )
        assert "webhooks.status.url" in wrong(answer)


async def test_the_example_of_the_docs_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    """What stands there can be copied: it makes an agent with two tools and a number that leads to it."""
    page = (root / "docs" / "agents.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    async with served(tmp_path) as there:
        monkeypatch.setenv("API_KEY", there.key)
        monkeypatch.setenv("API_URL", there.url)
        await asyncio.to_thread(exec, compile(code, "docs/agents.md", "exec"), {})
        row = (await there.http.get("/v1/agents")).json()[-1]
        tools = (await there.http.get(f"/v1/agents/{row['id']}/tools")).json()
        numbers = (await there.http.get("/v1/phone-numbers")).json()
    assert [tool["name"] for tool in tools] == ["take_message", "end_call"]
    assert [number["e164"] for number in numbers if number["agentId"] == row["id"]] == ["+12015550177"]
    assert capsys.readouterr().out.startswith("action_required ['No SIP connection is described")
