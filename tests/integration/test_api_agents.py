"""Agents over HTTP: what the official client does with them, what it leaves out, and what calls make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spekoai import SpekoApiError
from spekoai.models import AgentRow, AgentUpdateParams

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.agent import AgentConfig
from agent_worker.store.audit import last_entries
from tests.integration.agents_over_http import HOOK, changed, made, stored, wrong
from tests.integration.api_client import NEW_AGENT, served
from tests.integration.serving import NUMBER
from tests.integration.test_store import databases

SECRETS = ("a-secret-of-the-hook", "of-the-header", "a-secret-of-tools", "a-secret-of-the-tool")


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
