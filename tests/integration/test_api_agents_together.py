"""Agents over HTTP beside everything else: files, other changes at once, keys that may less, the next call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_catalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallPlan, CallRefusal, utc_now
from agent_worker.store.agents import load_agents, save_agent
from tests.integration.agents_over_http import HOOK, changed, made, wrong
from tests.integration.api_client import NEW_AGENT, served
from tests.integration.serving import NUMBER, OFFER
from tests.integration.test_store import databases


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
