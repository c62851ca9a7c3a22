"""The demo's own `serve`, on loopback: the application operators run, asked over HTTP as they would ask it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from agent_worker.api.server import address_of, listening, make_server
from agent_worker.app import create_app
from agent_worker.control.api_keys import make_first_key
from agent_worker.settings import Settings

EVENTS = ["call.report", "call.analysis", "call.recording"]
SETTLE_SECONDS = 20.0
"""How long analysis, recording and webhooks of the call may take after it."""

POLL_SECONDS = 0.1
Record = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What the API says of one call.

    Attributes:
        recording_url: a link that works without a key, None where nothing was recorded.
        recording: what the link leads to.
        deliveries: of webhooks, the oldest first.
    """

    call: Record
    events: list[Record]
    report: Record
    recording_url: str | None
    recording: bytes
    deliveries: list[Record]


class OwnApi:
    """Asks the API with a key of its own.

    Attributes:
        url: where it is.
    """

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self.url = url

    async def subscribe(self, url: str) -> None:
        """Have the calls that follow told there.

        Raises:
            httpx.HTTPError: the API does not answer, or refuses.
        """
        asked = {"name": "demo", "url": url, "events": EVENTS}
        (await self._client.post("/v1/webhooks", json=asked)).raise_for_status()

    async def told(self, call_id: str) -> Told | None:
        """Return what there is of a call once all that follows it is done; None where it has no report.

        Raises:
            httpx.HTTPError: the API does not answer, or refuses.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while not await self._is_settled(call_id):  # noqa: ASYNC110 - asked over HTTP, as anybody would
                    await asyncio.sleep(POLL_SECONDS)
        report = await self._client.get(f"/v1/calls/{call_id}/report")
        if report.status_code == httpx.codes.NOT_FOUND:
            return None
        report.raise_for_status()
        url, recording = await self._recording(call_id)
        return Told(
            call=await self._get(f"/v1/calls/{call_id}"),
            events=(await self._get(f"/v1/calls/{call_id}/events"))["events"],
            report=report.json(),
            recording_url=url,
            recording=recording,
            deliveries=(await self._deliveries(call_id))[::-1],
        )

    async def _is_settled(self, call_id: str) -> bool:
        answer = await self._client.get(f"/v1/calls/{call_id}")
        if answer.status_code != httpx.codes.OK:
            return False
        call = answer.json()
        report = call["report"] or {}
        deliveries = await self._deliveries(call_id)
        return (
            report.get("analysis_status", "heuristic") != "heuristic"
            and call["recording_status"] not in ("pending", "uploading")
            and {delivery["event"] for delivery in deliveries} >= set(EVENTS)
            and not any(delivery["status"] in ("pending", "delivering") for delivery in deliveries)
        )

    async def _recording(self, call_id: str) -> tuple[str | None, bytes]:
        answer = await self._client.get(f"/v1/calls/{call_id}/recording", params={"channels": "dual"})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None, b""
        url = str(answer.raise_for_status().json()["url"])
        # whoever has the link needs no key
        async with httpx.AsyncClient(trust_env=False) as anybody:
            return url, (await anybody.get(url)).raise_for_status().content

    async def _deliveries(self, call_id: str) -> list[Record]:
        found: list[Record] = (await self._get("/v1/webhook-deliveries", sessionId=call_id))["data"]
        return found

    async def _get(self, path: str, **params: str) -> Any:
        return (await self._client.get(path, params=params)).raise_for_status().json()


@asynccontextmanager
async def own_api(settings: Settings) -> AsyncIterator[OwnApi]:
    """Run the API on a free port while the block runs.

    Raises:
        ConfigErrors: an agent file is wrong.
        SettingsError: there is no port to be had.
    """
    # that there is no LiveKit is what the demo is about
    logging.getLogger("agent_worker.app").setLevel(logging.ERROR)
    with listening("127.0.0.1", 0) as bound:
        url = address_of(bound)
        server = make_server(create_app(settings.model_copy(update={"public_url": url})))
        running = asyncio.create_task(server.serve(sockets=[bound]), name="own-api")
        try:
            key = await make_first_key(settings)
            headers = {"authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=10) as client:
                yield OwnApi(client, url)
        finally:
            server.stop()
            await running
