"""What LiveKit and its SIP bridge say of themselves, and what the doctor makes of it."""

from __future__ import annotations

import aiohttp
import pytest

from agent_worker.doctor import bridge, server
from agent_worker.settings import Settings

# --- LiveKit

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrIn0.c2VjcmV0"


@pytest.mark.parametrize(
    ("status", "content_type", "body", "skew", "code"),
    [
        (401, "text/plain", "invalid API key: nokey", 0.0, "wrong_key"),
        (401, "text/plain", f"invalid token: {TOKEN}, error: token signature is invalid", 0.0, "wrong_secret"),
        (
            401,
            "text/plain",
            f"invalid token: {TOKEN}, error: go-jose: error in cryptographic primitive",
            0.0,
            "wrong_secret",
        ),
        (
            401,
            "text/plain",
            f"invalid token: {TOKEN}, error: token has invalid claims: token is expired",
            -9000.0,
            "clock",
        ),
        (401, "text/plain", f"invalid token: {TOKEN}, error: token is not valid yet", 400.0, "clock"),
        (401, "application/json", '{"code":"unauthenticated","msg":"no"}', None, "key_refused"),
        (403, "text/html", "forbidden", None, "key_refused"),
        (301, "text/html", "moved", None, "redirected"),
        (
            500,
            "application/json",
            '{"code":"unknown","msg":"could not get rooms: dial tcp: refused"}',
            0.0,
            "redis_away",
        ),
        (502, "text/html", "bad gateway", None, "server_error"),
        (200, "text/html", "<html>", None, "not_livekit"),
        (200, "application/json", '{"hello":"world"}', None, "not_livekit"),
        (404, "", "", None, "not_livekit"),
    ],
)
def test_refusals_of_the_server(status: int, content_type: str, body: str, skew: float | None, code: str) -> None:
    """Wrong key, wrong secret, wrong clock and wrong server are told apart; no token is repeated."""
    found, message, remedy = server.explain_refusal(status, content_type, body, skew)

    assert found == code
    assert message.endswith(".") and remedy.endswith((".", "?", ")."))
    assert "eyJ" not in message + remedy


def test_how_far_the_clock_is_off_is_told() -> None:
    """The server's own time says in which direction ours is wrong."""
    _, ahead, _ = server.explain_refusal(401, "text/plain", "token is not valid yet", 400.0)
    _, behind, _ = server.explain_refusal(401, "text/plain", "token is expired", -9000.0)

    assert "ahead of LiveKit's by 400 s" in ahead
    assert "behind LiveKit's by 9000 s" in behind


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("wss://livekit.example.com", "https://livekit.example.com"),
        ("ws://127.0.0.1:7880/", "http://127.0.0.1:7880"),
        ("https://livekit.example.com/path/", "https://livekit.example.com/path"),
        ("livekit.example.com", None),
        ("ftp://livekit.example.com", None),
        ("ws://", None),
        ("ws://host:99999", None),
    ],
)
def test_addresses_of_livekit(url: str, read: str | None) -> None:
    """Both schemes lead to the same server, and what is no address is found before anything is asked."""
    assert server.http_url(url) == read


def test_connections_that_are_not_made() -> None:
    """Time and refusal are told apart, with host and port."""
    timeout = server.explain_connection(aiohttp.ServerTimeoutError(), "http://lk.example:7880")
    refused = server.explain_connection(ConnectionRefusedError(), "https://lk.example")
    odd = server.explain_connection(aiohttp.ServerDisconnectedError(), "http://lk.example")

    assert (timeout[0], refused[0], odd[0]) == ("timeout", "refused", "no_http")
    assert "lk.example:7880" in timeout[1] and "lk.example:443" in refused[1]


# --- the bridge


@pytest.mark.parametrize(
    ("code", "message", "knock"),
    [
        ("unknown", "twirp error unknown: invalid SIP media encryption type", "answers"),
        ("unavailable", "twirp error unknown: no response from servers", "nobody"),
        ("unavailable", "twirp error unknown: cpu exhausted", "unwell"),
        ("invalid_argument", "something new", "unknown"),
    ],
)
def test_a_refusal_tells_of_the_bridge(code: str, message: str, knock: str) -> None:
    """Only a bridge refuses the odd encryption; without one LiveKit says that nobody answered."""
    assert bridge.read_knock(code, message) == knock


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        ("internal", "twirp error unknown: sip not connected (redis required)", "no_redis"),
        ("unknown", "dial tcp 127.0.0.1:6379: connect: connection refused", "redis_away"),
        ("permission_denied", "requires admin", "no_sip_grant"),
        ("internal", "odd", "lists_failed"),
    ],
)
def test_trunks_that_cannot_be_listed(code: str, message: str, cause: str) -> None:
    """A LiveKit without redis has no telephony, and says so in its own words."""
    assert bridge.explain_no_sip(code, message)[0] == cause


def test_where_the_bridge_is_looked_for() -> None:
    """The setting counts, else LiveKit's own host with SIP's port."""
    assert bridge.bridge_address(Settings(sip_address="sip.example.com"))[0] == "sip.example.com:5060"
    assert bridge.bridge_address(Settings(sip_address="[::1]:5070")) == ("[::1]:5070", "::1", 5070)
    guessed = Settings(LIVEKIT_URL="wss://livekit.example.com")  # type: ignore[call-arg]
    assert bridge.bridge_address(guessed)[0] == "livekit.example.com:5060"
    with pytest.raises(ValueError, match="no host:port"):
        bridge.bridge_address(Settings(sip_address="sip:desk@pbx"))
