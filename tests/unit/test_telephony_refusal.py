"""What LiveKit's server API answers when it does not do what was asked, told in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from livekit import api

from agent_worker.errors import TelephonyError
from agent_worker.telephony import provision as provisioning
from agent_worker.telephony.desired import Desired
from agent_worker.telephony.provision import provision, read_existing

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[api.LiveKitAPI]:
    """A client of something at an HTTP port that answers every POST this way."""
    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with api.LiveKitAPI(f"ws://127.0.0.1:{port}", "key", "a-secret-of-thirty-two-characters") as client:
            yield client
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "code", "sentence", "retryable"),
    [
        (401, {"code": "unauthenticated", "msg": "invalid token"}, "livekit_key_refused", "refuses the key", False),
        (403, {"code": "permission_denied", "msg": "no"}, "livekit_key_refused", "refuses the key", False),
        (
            500,
            {"code": "internal", "msg": "sip not connected (redis required)"},
            "livekit_without_sip",
            "no redis",
            False,
        ),
        (404, {"code": "bad_route", "msg": "no handler"}, "livekit_not_there", "not a LiveKit server", False),
        (404, None, "livekit_not_there", "not a LiveKit server", False),
        (200, None, "livekit_not_there", "not a LiveKit server", False),
        (
            503,
            {"code": "unavailable", "msg": "later"},
            "livekit_refuses",
            "to list trunks and rules and refuses: later",
            True,
        ),
    ],
)
async def test_a_refusal_is_a_sentence_with_a_remedy(
    status: int, body: dict[str, str] | None, code: str, sentence: str, retryable: bool
) -> None:
    """Whatever answers, an operator learns what to look at."""

    async def answer(_: web.Request) -> web.Response:
        if body is None:
            return web.Response(status=status, text="<html>Welcome</html>", content_type="text/html")
        return web.json_response(body, status=status)

    async with server(answer) as client:
        with pytest.raises(TelephonyError, match=sentence) as caught:
            await read_existing(client)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


async def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request has a deadline."""
    monkeypatch.setattr(provisioning, "CALL_SECONDS", 0.1)

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with server(silent) as client:
        with pytest.raises(TelephonyError, match="did not answer in time") as caught:
            await read_existing(client)
    assert caught.value.retryable


async def test_a_run_that_breaks_off_says_what_was_done() -> None:
    """The trunk is made, the rule refused: the outcome has both, and no exception."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("CreateSIPInboundTrunk"):
            return web.Response(body=api.SIPInboundTrunkInfo(sip_trunk_id="ST_1").SerializeToString())
        if request.path.endswith("CreateSIPDispatchRule"):
            return web.json_response({"code": "invalid_argument", "msg": "no such thing."}, status=400)
        return web.Response(body=b"")

    wanted = Desired("desk", {"carrier": api.SIPInboundTrunkInfo(numbers=["+12015550123"])}, {})
    told: list[str] = []
    async with server(answer) as client:
        outcome = await provision(client, wanted, tell=lambda change: told.append(change.kind))

    assert told == ["inbound trunk"]
    assert outcome.done == 1
    assert [change.kind for change in outcome.changes] == ["inbound trunk", "dispatch rule"]
    assert not outcome.ok
    assert str(outcome.error) == "LiveKit was asked to create the dispatch rule 'desk' and refuses: no such thing."
