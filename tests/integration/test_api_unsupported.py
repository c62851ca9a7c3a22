"""What this deployment does not do says so, and what to do instead; nothing the client asks for is a puzzling 404."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spekoai
from spekoai import AsyncSpeko, Speko, SpekoApiError

from tests.integration.api_server import ApiServer, seeded_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with seeded_server(tmp_path_factory.mktemp("unsupported"), seed=False) as running:
        yield running


@pytest.fixture(scope="module")
def speko(server: ApiServer) -> Iterator[Speko]:
    with Speko(api_key=server.keys["operate"], base_url=server.url) as client:
        yield client


@pytest.fixture(scope="module")
def document(server: ApiServer) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


NOT_AVAILABLE: dict[str, Callable[[Speko], Any]] = {
    "dial": lambda speko: speko.voice.dial({"to": "+12015551234", "agentId": "front-desk"}),
}

NOT_SUPPORTED: dict[str, tuple[Callable[[Speko], Any], str]] = {
    "buy": (lambda speko: speko.phone_numbers.create({"e164": "+12015550199"}), "phone-numbers/import"),
    "available": (lambda speko: speko.phone_numbers.search_available(area_code="201"), "phone-numbers/import"),
    "verification": (lambda speko: speko.phone_numbers.get_kyb(), "carrier"),
    "balance": (lambda speko: speko.credits.get_balance(), "/v1/usage"),
    "ledger": (lambda speko: speko.credits.get_ledger(), "/v1/usage"),
    "sms settings": (lambda speko: speko.sms.settings.get(), "carrier"),
    "sms": (lambda speko: speko.sms.messages.get("m1"), "carrier"),
    "knowledge bases": (lambda speko: speko.knowledge_bases.list(), "webhook"),
    "knowledge base": (lambda speko: speko.knowledge_bases.get("kb_1"), "webhook"),
    "document": (lambda speko: speko.knowledge_bases.delete_document("kb_1", "d"), "webhook"),
    "transcribe": (lambda speko: speko.transcribe(b"RIFF", language="en"), "own key"),
    "synthesize": (lambda speko: speko.synthesize("Hello", language="en"), "own key"),
    "complete": (
        lambda speko: speko.complete(messages=[{"role": "user", "content": "x"}], intent={"language": "en"}),
        "own key",
    ),
}


@pytest.mark.parametrize("name", NOT_AVAILABLE)
def test_what_comes_later_is_not_available(speko: Speko, name: str) -> None:
    """Calling out is a known route that says it is not there yet."""
    with pytest.raises(SpekoApiError) as met:
        NOT_AVAILABLE[name](speko)
    assert (met.value.status, met.value.code) == (501, "NOT_AVAILABLE")
    assert "version" in met.value.message


@pytest.mark.parametrize("name", NOT_SUPPORTED)
def test_what_a_hosted_platform_sells_says_what_to_do_instead(speko: Speko, name: str) -> None:
    """Each answer names the way it is done here."""
    ask, instead = NOT_SUPPORTED[name]
    with pytest.raises(SpekoApiError) as met:
        ask(speko)
    assert (met.value.status, met.value.code) == (501, "NOT_SUPPORTED")
    assert instead in met.value.message


async def test_the_asynchronous_client_is_told_the_same(server: ApiServer) -> None:
    """Both clients of the contract get the answer, also where they would open a stream."""
    async with AsyncSpeko(api_key=server.keys["operate"], base_url=server.url) as speko:
        with pytest.raises(SpekoApiError) as met:
            await speko.credits.get_balance()
        assert (met.value.status, met.value.code) == (501, "NOT_SUPPORTED")
        with pytest.raises(SpekoApiError) as met:
            async for _ in speko.sms.stream():
                pass
        assert (met.value.status, met.value.code) == (501, "NOT_SUPPORTED")


def test_a_key_that_only_reads_may_not_even_try(server: ApiServer) -> None:
    """What will act on calls already needs the scope that acting needs."""
    with server.client("read") as client:
        assert client.post("/v1/sessions/phone", json={}).status_code == 403
        assert client.get("/v1/credits/balance").status_code == 501


def test_an_available_number_is_no_numbers_id(server: ApiServer) -> None:
    """`/phone-numbers/available` and `/kyb` are matched before `/phone-numbers/{id}`."""
    with server.client("read") as client:
        for path in ("available", "kyb"):
            assert client.get(f"/v1/phone-numbers/{path}").json()["code"] == "NOT_SUPPORTED"


def client_requests() -> set[tuple[str, str]]:
    """Return method and path of everything the contract's client can ask for, `{}` where an id stands."""
    found = set()
    for file in Path(spekoai.__file__).parent.rglob("*.py"):
        text = file.read_text()
        calls = re.findall(r'_client\.(get|post|put|patch|delete)\(\s*f?"(/v1[^"]*)"', text)
        streams = re.findall(r'_client\.stream\(\s*"([A-Z]+)",\s*f?"(/v1[^"]*)"', text)
        built = re.findall(r'build_request\(\s*"([A-Z]+)",\s*f?"(/v1[^"]*)"', text)
        found |= {(method.upper(), re.sub(r"\{[^}]*\}", "{}", path)) for method, path in calls + streams + built}
    return found | {("GET", "/v1/sessions/{}/stream")}  # its path is in a variable


def test_the_clients_source_is_understood() -> None:
    """What is read out of the client has the requests it is known to make."""
    found = client_requests()

    assert len(found) > 70
    assert {
        ("GET", "/v1/agents"),
        ("PATCH", "/v1/phone-numbers/{}"),
        ("POST", "/v1/calls/{}/transfers/{}/cancel"),
        ("POST", "/v1/transcribe"),
        ("GET", "/v1/sms/stream"),
    } <= found


@pytest.mark.parametrize(("method", "path"), sorted(client_requests()))
def test_every_request_of_the_client_has_an_answer(document: dict[str, Any], method: str, path: str) -> None:
    """Whatever the client asks for, there is a route for it in the document."""
    asked = path.replace("{}", "an-id")
    taken = [template for template, operations in document["paths"].items() if method.lower() in operations]
    assert any(re.fullmatch(_pattern(template), asked) for template in taken)


def _pattern(template: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ".+" if found[1] == "rest" else "[^/]+", template)
