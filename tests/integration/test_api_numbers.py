"""Phone numbers over HTTP: what the official client does with them, and what calls make of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from spekoai import SpekoApiError
from spekoai.models import PhoneNumberRow

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_catalog
from agent_worker.domain.call import CallPlan, CallRefusal
from tests.integration.api_client import Served, served
from tests.integration.serving import NUMBER, OFFER
from tests.integration.test_api_agents import changed, made, wrong
from tests.integration.test_store import databases

FIRST, SECOND = "+12015550177", "+12015550178"
TELEPHONY = {
    "sipConnections": [{"name": "carrier", "address": "sip.carrier.example", "allowedAddresses": ["203.0.113.0/24"]}],
    "numbers": [{"e164": "+12015550150", "agentId": "desk", "sipConnection": "carrier"}],
}


def telephony(folder: Path) -> Path:
    """Write a file of numbers; returns its path."""
    file = folder / "telephony.yaml"
    file.write_text(json.dumps(TELEPHONY))  # JSON is YAML
    return file


async def imported(there: Served, **number: Any) -> dict[str, Any]:
    """Import a number; returns its row."""
    answer = await there.http.post("/v1/phone-numbers/import", json={"e164": FIRST, **number})
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()
    return row


@databases
async def test_the_synchronous_client_has_every_method(kind: str, tmp_path: Path) -> None:
    """Import, list, get, update, link, unlink and delete."""
    async with served(tmp_path, kind, telephony_file=telephony(tmp_path)) as there:
        agent = (await made(there))["id"]
        row = await there.sync(
            lambda speko: speko.phone_numbers.import_sip_trunk(
                {
                    "e164": FIRST,
                    "sip_connection_installation_id": "carrier",
                    "sip_provider_name": "Carrier",
                    "direction": "both",
                    "agent_id": agent,
                    "label": "Main",
                    "dispatch_metadata_template": {"line": "main"},
                }
            )
        )
        assert (row.e164, row.source, row.agent_id, row.label, row.direction) == (
            FIRST,
            "sip_trunk",
            agent,
            "Main",
            "both",
        )
        assert (row.sip_connection_installation_id, row.sip_provider_name) == ("carrier", "Carrier")
        assert (row.setup_status.status, row.setup_status.issues) == ("ready", [])
        assert await there.sync(lambda speko: speko.phone_numbers.get(row.id)) == row
        listed = await there.sync(lambda speko: speko.phone_numbers.list())
        assert [number.e164 for number in listed] == ["+12015550150", NUMBER, FIRST]
        change = {"label": None, "dispatch_metadata_template": None, "direction": "inbound"}
        after = await there.sync(lambda speko: speko.phone_numbers.update(row.id, change))
        assert (after.label, after.dispatch_metadata_template, after.direction) == (None, None, "inbound")
        assert (after.agent_id, after.sip_provider_name, after.created_at) == (agent, "Carrier", row.created_at)
        unlinked = await there.sync(lambda speko: speko.agents.detach_phone_number(row.id))
        assert (unlinked.agent_id, unlinked.setup_status.status) == (None, "action_required")
        linked = await there.sync(lambda speko: speko.agents.attach_phone_number("desk", row.id))
        assert (linked.agent_id, linked.setup_status.status) == ("desk", "ready")
        assert await there.sync(lambda speko: speko.phone_numbers.delete(row.id)) is True
        with pytest.raises(SpekoApiError) as gone:
            await there.sync(lambda speko: speko.phone_numbers.get(row.id))
        assert (gone.value.status, gone.value.code) == (404, "NOT_FOUND")


async def test_the_asynchronous_client_does_the_same(tmp_path: Path) -> None:
    """Every method once."""
    async with served(tmp_path, telephony_file=telephony(tmp_path)) as there:
        row = await there.later(lambda speko: speko.phone_numbers.import_sip_trunk({"e164": FIRST, "agent_id": "desk"}))
        assert await there.later(lambda speko: speko.phone_numbers.get(row.id)) == row
        assert row in await there.later(lambda speko: speko.phone_numbers.list())
        after = await there.later(lambda speko: speko.phone_numbers.update(row.id, {"label": "x"}))
        assert after.label == "x"
        assert (await there.later(lambda speko: speko.agents.detach_phone_number(row.id))).agent_id is None
        assert (await there.later(lambda speko: speko.agents.attach_phone_number("desk", row.id))).agent_id == "desk"
        assert await there.later(lambda speko: speko.phone_numbers.delete(row.id)) is True


async def test_a_row_has_the_clients_keys(tmp_path: Path) -> None:
    """None is missing; what only a hosted platform has is null, false or never."""
    async with served(tmp_path) as there:
        row = await imported(there, agentId="desk", sipTrunkId="ST_outbound")
        wire = {field.alias or name for name, field in PhoneNumberRow.model_fields.items()}
        assert row.keys() - wire == {"configuredIn"}
        assert wire - row.keys() == set()
        assert (row["nextChargeAt"], row["smsAutomationEnabled"]) == ("9999-12-31T23:59:59.999999Z", False)
        assert (row["sipTrunkId"], row["organizationId"]) == ("ST_outbound", there.settings.organization_id)


DIRECTIONS: list[tuple[dict[str, Any], Any]] = [
    ({}, "outbound"),
    ({"agentId": "desk"}, "both"),
    ({"dispatchMetadataTemplate": {"systemPrompt": "x"}}, "both"),
    ({"direction": "outbound", "agentId": "desk"}, "outbound"),
]


async def test_what_a_number_does_where_nothing_is_said(tmp_path: Path) -> None:
    """It takes calls only where somebody answers."""
    async with served(tmp_path) as there:
        for last, (number, direction) in enumerate(DIRECTIONS):
            assert (await imported(there, e164=f"{FIRST}{last}", **number))["direction"] == direction


WRONG: list[tuple[dict[str, Any], Any]] = [
    ({"e164": "2015550123"}, "e164"),
    ({"e164": "+0123456789"}, "e164"),
    ({"e164": None}, "e164"),
    ({"direction": "sideways"}, "direction"),
    ({"direction": "inbound"}, "direction"),
    ({"direction": "both", "dispatchMetadataTemplate": {}}, "direction"),
    ({"agentId": "nobody"}, "agentId"),
    ({"label": "x" * 121}, "label"),
    ({"sipConnectionInstallationId": "carier", "agentId": "desk"}, "sipConnectionInstallationId"),
    ({"dispatchMetadataTemplate": "x"}, "dispatchMetadataTemplate"),
    ({"dispatchMetadataTemplate": {"tool_secrets": {"a": "env:HOME"}}}, "dispatchMetadataTemplate"),
    ({"dispatchMetadataTemplate": {"a": "x" * 70_000}}, "dispatchMetadataTemplate"),
]


async def test_what_is_wrong_is_told_by_its_place(tmp_path: Path) -> None:
    """Who takes calls needs somebody who answers; nothing is imported."""
    async with served(tmp_path, telephony_file=telephony(tmp_path)) as there:
        for number, place in WRONG:
            answer = await there.http.post("/v1/phone-numbers/import", json={"e164": FIRST, **number})
            assert place in wrong(answer), number
        assert len((await there.http.get("/v1/phone-numbers")).json()) == 2


async def test_a_change_keeps_somebody_who_answers(tmp_path: Path) -> None:
    """A direction or a template that leaves nobody is wrong; unlinking is not, as the client does it."""
    async with served(tmp_path) as there:
        path = f"/v1/phone-numbers/{(await imported(there))['id']}"
        assert list(wrong(await there.http.patch(path, json={"direction": "both"}))) == ["direction"]
        assert list(wrong(await there.http.patch(path, json={"direction": None}))) == ["direction"]
        assert list(wrong(await there.http.patch(path, json={"agentId": "nobody"}))) == ["agentId"]
        taking = {"direction": "both", "dispatchMetadataTemplate": {"systemPrompt": "x"}}
        assert (await there.http.patch(path, json=taking)).status_code == 200
        left = wrong(await there.http.patch(path, json={"dispatchMetadataTemplate": None}))
        assert list(left) == ["dispatchMetadataTemplate"]
        linked = await there.http.patch(path, json={"dispatchMetadataTemplate": None, "agentId": "desk"})
        assert linked.json()["dispatchMetadataTemplate"] is None
        assert (await there.http.patch(path, json={"agentId": None})).json()["setupStatus"]["agentReady"] is False
        messages = await there.http.patch(path, json={"smsAutomationEnabled": True})
        assert (messages.status_code, messages.json()["code"]) == (501, "NOT_SUPPORTED")


@databases
async def test_a_number_is_there_once(kind: str, tmp_path: Path) -> None:
    """409, whether it is a row, a file's or an agent's; also when it is imported twice at once."""
    async with served(tmp_path, kind) as there:
        await made(there, numbers=[SECOND])
        same = [there.http.post("/v1/phone-numbers/import", json={"e164": FIRST}) for _ in range(4)]
        assert sorted(answer.status_code for answer in await asyncio.gather(*same)) == [200, 409, 409, 409]
        for taken in (FIRST, SECOND, NUMBER):
            answer = await there.http.post("/v1/phone-numbers/import", json={"e164": taken})
            assert (answer.status_code, answer.json()["code"]) == (409, "NUMBER_EXISTS")


async def test_numbers_of_files_and_agents_are_seen_and_not_touched(tmp_path: Path) -> None:
    """Each says where it stands, and a change answers where to make it."""
    async with served(tmp_path, telephony_file=telephony(tmp_path)) as there:
        agent = (await made(there, numbers=[SECOND]))["id"]
        rows = {row["e164"]: row for row in (await there.http.get("/v1/phone-numbers")).json()}
        assert {e164: row["configuredIn"] for e164, row in rows.items()} == {
            "+12015550150": "file",
            NUMBER: "file",
            SECOND: "agent",
        }
        assert rows[SECOND]["agentId"] == agent
        for e164, code in (
            ("+12015550150", "NUMBER_IS_A_FILE"),
            (NUMBER, "NUMBER_IS_A_FILE"),
            (SECOND, "NUMBER_OF_AN_AGENT"),
        ):
            path = f"/v1/phone-numbers/{rows[e164]['id']}"
            assert (await there.http.get(path)).json() == rows[e164]
            for method in ("PATCH", "DELETE"):
                answer = await there.http.request(method, path, json={"label": "x"})
                assert (answer.status_code, answer.json()["code"]) == (409, code)


async def test_how_far_a_number_is_set_up(tmp_path: Path) -> None:
    """What is missing is told with its remedy, and goes away when it is there."""
    async with served(tmp_path) as there:
        row = await imported(there, agentId="desk")
        assert row["setupStatus"]["status"] == "action_required"
        assert "telephony.yaml" in row["setupStatus"]["issues"][0]
        assert row["setupStatus"]["inboundReady"] is False
    (tmp_path / "with").mkdir()
    async with served(tmp_path / "with", telephony_file=telephony(tmp_path)) as there:
        agent = (await made(there))["id"]
        row = await imported(there, agentId=agent)
        ready = {key: value for key, value in row["setupStatus"].items() if key.endswith("Ready")}
        assert set(ready.values()) == {True}
        assert (await there.http.delete(f"/v1/agents/{agent}")).status_code == 200
        after = (await there.http.get(f"/v1/phone-numbers/{row['id']}")).json()
        assert (after["agentId"], after["setupStatus"]["inboundReady"]) == (None, False)
        assert "link an agent" in str(after["setupStatus"]["issues"])


async def test_a_templates_secrets_are_masked_and_kept(tmp_path: Path) -> None:
    """A client that reads a template, changes one key and sends all of it loses none."""
    template = {"systemPrompt": "x", "toolSecrets": {"crm": "a-secret-of-tools"}, "metadata": {"a": 1}}
    async with served(tmp_path) as there:
        row = await imported(there, dispatchMetadataTemplate=template)
        assert "a-secret-of-tools" not in json.dumps(row)
        change = {"dispatchMetadataTemplate": {**row["dispatchMetadataTemplate"], "systemPrompt": "y"}}
        after = await there.http.patch(f"/v1/phone-numbers/{row['id']}", json=change)
        assert "a-secret-of-tools" not in after.text
        worker = EmbeddedControlPlane(there.settings, make_catalog(there.settings))
        plan = await worker.open_call(OFFER.model_copy(update={"dialed_number": FIRST}), budget_seconds=4)
        await worker.aclose()
    assert isinstance(plan, CallPlan)
    assert (plan.agent.system_prompt, plan.agent.tool_secrets) == ("y", {"crm": "a-secret-of-tools"})


@databases
async def test_the_next_call_goes_where_the_number_says(kind: str, tmp_path: Path) -> None:
    """Imported, linked to another agent, unlinked and released."""
    async with served(tmp_path, kind) as there:
        worker = EmbeddedControlPlane(there.settings, make_catalog(there.settings))

        async def taken_by() -> str | None:
            plan = await worker.open_call(OFFER.model_copy(update={"dialed_number": FIRST}), budget_seconds=4)
            return None if isinstance(plan, CallRefusal) else plan.agent_id

        agent = (await made(there))["id"]
        assert await taken_by() is None
        row = await imported(there, agentId=agent, dispatchMetadataTemplate={"line": "a"})
        assert await taken_by() == agent
        await there.http.patch(f"/v1/phone-numbers/{row['id']}", json={"agentId": "desk"})
        assert await taken_by() == "desk"
        await there.http.patch(f"/v1/phone-numbers/{row['id']}", json={"direction": "outbound"})
        assert await taken_by() is None
        await there.http.patch(f"/v1/phone-numbers/{row['id']}", json={"direction": "both"})
        assert await taken_by() == "desk"
        assert (await there.http.delete(f"/v1/phone-numbers/{row['id']}")).json() == {"released": True}
        assert await taken_by() is None
        await worker.aclose()


async def test_an_agent_that_lists_a_row_is_linked_to_it(tmp_path: Path) -> None:
    """The row shows who answers."""
    async with served(tmp_path) as there:
        row = await imported(there)
        agent = await made(there)
        await changed(there, agent["id"], numbers=[FIRST])
        after = (await there.http.get(f"/v1/phone-numbers/{row['id']}")).json()
        assert after["agentId"] == agent["id"]


async def test_a_key_sees_the_numbers_of_its_agents(tmp_path: Path) -> None:
    """One that is limited finds no others, links to no others, and imports none; a read key changes nothing."""
    async with served(tmp_path) as there:
        mine, other = (await made(there))["id"], (await made(there))["id"]
        first = await imported(there, agentId=mine)
        second = await imported(there, e164=SECOND, agentId=other)
        async with await there.with_key(agent_ids=[mine]) as limited:
            assert [row["id"] for row in (await limited.get("/v1/phone-numbers")).json()] == [first["id"]]
            for method in ("GET", "PATCH", "DELETE"):
                answer = await limited.request(method, f"/v1/phone-numbers/{second['id']}", json={})
                assert answer.status_code == 404
            path = f"/v1/phone-numbers/{first['id']}"
            assert list(wrong(await limited.patch(path, json={"agentId": other}))) == ["agentId"]
            assert (await limited.post("/v1/phone-numbers/import", json={"e164": "+12015550179"})).status_code == 403
            assert (await limited.patch(path, json={"agentId": None})).json()["agentId"] is None
            assert (await limited.get(path)).status_code == 404
        async with await there.with_key(scope="read") as reader:
            assert len((await reader.get("/v1/phone-numbers")).json()) == 3
            assert (await reader.patch(path, json={"label": "x"})).status_code == 403
