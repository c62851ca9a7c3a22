"""Numbers: each finds its agent, its template fills in, and a forwarded call says who forwarded it."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path

import pytest
from livekit import api, rtc

from tests.e2e.rig import Rig
from tests.e2e.talk import ended_calls, find, greeted, heard_clip, reason


async def test_numbers_of_the_telephony_file_find_their_agents(rig: Rig, tmp_path: Path) -> None:
    """An agent with its number's template, a template alone, and a number that only places calls."""
    with_agent, alone, outbound = (rig.next_number() for _ in range(3))
    telephony = tmp_path / "telephony.yaml"
    telephony.write_text(
        json.dumps(
            {
                "numbers": [
                    {
                        "e164": with_agent,
                        "agentId": "front-desk",
                        "dispatchMetadataTemplate": {
                            "tenant": "acme",
                            "caller": "{{callerNumber}}",
                            "forwardedFromNumber": "{{forwardedFromNumber}}",
                            "firstMessage": "The agent's own words win.",
                        },
                    },
                    {
                        "e164": alone,
                        "dispatchMetadataTemplate": {
                            "systemPrompt": "You are the night line.",
                            "firstMessage": "You have reached the night line.",
                        },
                    },
                    {"e164": outbound, "direction": "outbound", "agentId": "front-desk"},
                ]
            }
        )
    )
    env = {"AGENT_WORKER_TELEPHONY_FILE": str(telephony)}
    numbers = [with_agent, alone, outbound]
    async with (
        rig.worker(rig.agent(), folder=tmp_path, env=env, numbers=numbers) as worker,
        rig.phone() as phone,
    ):
        first = await phone.dial(with_agent, headers={"Diversion": "<sip:+12015550177@pbx.example>;reason=no-answer"})
        await greeted(first)
        await first.hang_up()
        second = await phone.dial(alone, from_="anonymous")
        await greeted(second)
        await second.hang_up()
        third = await phone.dial(outbound)
        await third.wait_answered()
        await third.wait_ended(15)
        rows = {row["metadata"]["to"]: row for row in await ended_calls(rig, worker, 3)}

    assert find(first, "Good morning, this is the front desk.").missing_head == 0
    row = rows[with_agent]
    assert (row["agent_id"], row["metadata"]["tenant"]) == ("front-desk", "acme")
    assert row["metadata"]["caller"] == "+15559999"
    assert row["metadata"]["forwardedFromNumber"] == "+12015550177"
    assert row["provenance"]["firstMessage"] == "agent"
    assert row["provenance"]["metadata.tenant"] == "number"
    initiated = next(event for event in row["events"] if event["event_type"] == "call.initiated")
    assert initiated["payload"]["forwarded_from_number"] == "+12015550177"

    assert find(second, "You have reached the night line.").missing_head == 0
    assert rows[alone]["agent_id"] is None
    assert rows[alone]["pipeline_config"]["systemPrompt"] == "You are the night line."

    assert heard_clip(third, "not_in_service")
    assert reason(rows[outbound]) == "unknown_number"
    assert "outbound" in rows[outbound]["metadata"]["refused"]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (
            "Diversion",
            '"Front, Desk" <sip:+12015550178@pbx.example>;counter=1, <sip:+12015550177@pbx.example>;reason=x',
        ),
        (
            "History-Info",
            "<sip:+12015550177@pbx.example>;index=1, <sip:{dialed}@pbx.example?Reason=SIP%3Bcause%3D302>;index=1.1",
        ),
        ("X-Forwarded-From", "+12015550177"),
    ],
)
async def test_a_forwarded_call_says_who_forwarded_it(rig: Rig, tmp_path: Path, header: str, value: str) -> None:
    """Whatever header the carrier uses, the number that was called first is on the call."""
    if header == "X-Forwarded-From":
        header = "X-Telnyx-Forwarded-From"
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number, headers={header: value.replace("{dialed}", number)})
        await greeted(call)
        await call.hang_up()
        [row] = await ended_calls(rig, worker)

    assert row["metadata"]["forwardedFromNumber"] == "+12015550177"


async def test_the_operator_may_have_unknown_numbers_declined(rig: Rig, tmp_path: Path) -> None:
    """With the policy `reject` the line closes while it rings, and the call is on record."""
    unknown = rig.next_number()
    known = rig.agent(numbers=[rig.next_number()])
    env = {"AGENT_WORKER_UNKNOWN_NUMBER_POLICY": "reject"}
    async with rig.worker(known, folder=tmp_path, numbers=[unknown], env=env) as worker, rig.phone() as phone:
        call = await phone.dial(unknown)
        await call.wait_ended(15)
        [row] = await ended_calls(rig, worker)

    assert not call.answered.is_set()
    assert (row["status"], reason(row)) == ("failed", "unknown_number")


async def test_a_dispatch_rule_names_the_agent_and_configures_the_call(rig: Rig, tmp_path: Path) -> None:
    """Job metadata chooses the agent, overrides it, and adds to the call; one id for every call is not followed."""
    number = rig.next_number()
    metadata = {
        "agentId": "night-line",
        "pipelineConfig": {"firstMessage": "This is the night line, by dispatch."},
        "metadata": {"tenant": "acme"},
        "callId": str(uuid.uuid4()),
    }
    agents = [rig.agent(numbers=[number]), rig.agent(name="night-line")]
    async with (
        rig.worker(*agents, folder=tmp_path, metadata=json.dumps(metadata)) as worker,
        rig.phone() as phone,
    ):
        for _ in range(2):
            call = await phone.dial(number)
            await greeted(call)
            await call.hang_up()
        rows = await ended_calls(rig, worker, 2)

    assert find(call, "This is the night line, by dispatch.").missing_head == 0
    for row in rows:
        assert row["agent_id"] == "night-line"
        assert row["id"] != metadata["callId"]
        assert row["metadata"]["tenant"] == "acme"
        assert row["provenance"]["firstMessage"] == "per_call"
        assert "callId" in str(row["metadata"]["ignored_job_metadata"])


async def test_a_dispatch_request_gives_its_call_an_id(rig: Rig, tmp_path: Path) -> None:
    """An agent dispatched into a room by request holds the call under the id of the request."""
    call_id, room_name = str(uuid.uuid4()), f"desk-{uuid.uuid4().hex[:8]}"
    agent = rig.agent(numbers=[rig.next_number()])
    async with rig.worker(agent, folder=tmp_path) as worker:
        token = api.AccessToken(rig.stack.api_key, rig.stack.api_secret).with_identity("guest")
        room = rtc.Room()
        await room.connect(rig.stack.url, token.with_grants(api.VideoGrants(room_join=True, room=room_name)).to_jwt())
        spoken = asyncio.Event()
        room.on("track_subscribed", lambda *_: spoken.set())
        await rig.stack.lk.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(
                agent_name=worker.agent_name,
                room=room_name,
                metadata=json.dumps({"agentId": "front-desk", "callId": call_id, "metadata": {"lead": "l1"}}),
            )
        )
        async with asyncio.timeout(15):
            await spoken.wait()
        await room.disconnect()
        [row] = await ended_calls(rig, worker)

    assert row["id"] == call_id
    assert row["metadata"]["lead"] == "l1"
    assert row["agent_id"] == "front-desk"
