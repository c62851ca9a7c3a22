"""Every route of the API with keys that are missing, wrong or too weak, ids nobody has, and bodies that are none.

The routes are read from the API's own document, so a new one is tried as soon as it is there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import NullPool, create_engine, func, select

from agent_worker.store import tables
from tests.integration.api_routes import KNOWN_IDS, Operation, operations, resolved
from tests.integration.api_server import ApiServer, assert_error, seeded_server, sync_url

ALL = [operation for operation in operations() if operation.path.startswith("/v1/")]
LESS = {"operate": "read", "admin": "operate"}
HOSTILE_IDS = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "a%00b",
    "x" * 10_000,
    "%ed%a0%80",
    "%F0%9F%98%80",
    "'%20OR%201=1--",
    "%25s",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with seeded_server(tmp_path_factory.mktemp("bad")) as running:
        _wait_for_jobs(running)
        yield running


def _wait_for_jobs(server: ApiServer) -> None:
    """Wait until what follows from the seeded calls is done: it changes rows by itself."""
    engine = create_engine(sync_url(server.settings), poolclass=NullPool)
    for _ in range(200):
        with engine.connect() as connection:
            if not connection.scalar(select(func.count()).select_from(tables.jobs)):
                return
        time.sleep(0.05)


def ask(server: ApiServer, operation: Operation, *, scope: str | None = "admin", **options: Any) -> httpx.Response:
    """Send the operation's own example, to ids that are there unless told otherwise."""
    headers = {"content-type": "application/json"} if "content" in options else {}
    headers |= options.pop("headers", {})
    if scope is not None:
        headers["authorization"] = f"Bearer {server.keys[scope]}"
    if operation.body is not None and not options.keys() & {"content", "json"}:
        options["json"] = operation.body
    ids = options.pop("ids", KNOWN_IDS)
    return server.anybody.request(operation.method, operation.address(**ids), headers=headers, **options)


@contextmanager
def nothing_changed(server: ApiServer, operation: Operation) -> Iterator[None]:
    """Check that no row is another afterwards; what only reads, or is not there at all, is taken at its word."""
    writes = operation.method != "GET" and not operation.is_absent
    before = server.rows() if writes else {}
    yield
    assert (server.rows() if writes else {}) == before


@pytest.mark.parametrize("operation", ALL, ids=str)
def test_without_a_key_nothing_happens(server: ApiServer, operation: Operation) -> None:
    """No key, and a key of nobody, are 401; nothing is read and nothing changed."""
    wrong = {"authorization": "Bearer aw_live_" + "x" * 43}
    with nothing_changed(server, operation):
        assert assert_error(ask(server, operation, scope=None), 401)["code"] == "UNAUTHORIZED"
        assert assert_error(ask(server, operation, scope=None, headers=wrong), 401)["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("operation", [found for found in ALL if found.scope in LESS], ids=str)
def test_with_too_weak_a_key_nothing_happens(server: ApiServer, operation: Operation) -> None:
    """A key of a lesser scope is 403, whatever it asks for, and changes nothing."""
    assert operation.scope is not None
    with nothing_changed(server, operation):
        assert assert_error(ask(server, operation, scope=LESS[operation.scope]), 403)["code"] == "FORBIDDEN"


@pytest.mark.parametrize("operation", [found for found in ALL if found.has_id and not found.is_absent], ids=str)
def test_an_id_nobody_has_is_not_found(server: ApiServer, operation: Operation) -> None:
    """An unknown id is 404 and changes nothing."""
    with nothing_changed(server, operation):
        assert assert_error(ask(server, operation, ids={}), 404)["code"].endswith(("NOT_FOUND", "NOT_AVAILABLE"))


OWNED = ("agent_id", "call_id", "session_id", "number_id", "callback_id")


@pytest.mark.parametrize(
    "operation",
    [found for found in ALL if any(f"{{{name}}}" in found.path for name in OWNED) and not found.is_absent],
    ids=str,
)
def test_what_belongs_to_other_agents_is_not_found(server: ApiServer, operation: Operation) -> None:
    """A key for one agent gets 404 for what is another's, though it is there, and changes nothing."""
    with nothing_changed(server, operation):
        assert_error(ask(server, operation, scope="other"), 404)


@pytest.mark.parametrize("operation", [found for found in ALL if "webhook" in found.path], ids=str)
def test_webhooks_are_not_for_keys_of_some_agents(server: ApiServer, operation: Operation) -> None:
    """Endpoints and what they were told are the whole workspace's: a key for one agent gets 403 and changes nothing."""
    with nothing_changed(server, operation):
        assert_error(ask(server, operation, scope="other"), 403)


@pytest.mark.parametrize("operation", [found for found in ALL if found.has_id], ids=str)
def test_hostile_ids_are_not_found(server: ApiServer, operation: Operation) -> None:
    """Path tricks, odd characters and very long ids are 404, 405 or 400: never a 5xx but what is never there."""
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    for hostile in HOSTILE_IDS:
        answer = ask(server, operation, ids=dict.fromkeys(names, hostile))
        assert_error(answer, 400, 404, 405, *((501,) if operation.is_absent else ()))


@pytest.mark.parametrize("operation", [found for found in ALL if found.takes_body], ids=str)
def test_a_body_that_is_no_json_is_told(server: ApiServer, operation: Operation) -> None:
    """What cannot be read is 400 at every route that takes a body."""
    for body in (b"{", b"[1", b"\xff\xfe", b'{"a":NaN}', b"[" * 5_000, b'{"a":"\\u0000"}'):
        assert assert_error(ask(server, operation, content=body), 400)["code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize("operation", [found for found in ALL if found.takes_body and not found.is_absent], ids=str)
def test_a_body_of_the_wrong_kind_is_told(server: ApiServer, operation: Operation) -> None:
    """A list, a text or a number where an object must be is 400 with issues, and changes nothing."""
    with nothing_changed(server, operation):
        for body in (b"[1]", b'"text"', b"7", b"true"):
            issues = assert_error(ask(server, operation, content=body), 400)["issues"]
            assert issues
            assert all(set(issue) == {"path", "message"} for issue in issues)


SECRET = "s3cr3t-nobody-may-see"


def fields_of(operation: Operation) -> list[str]:
    """Return the names a body can have."""
    schema = resolved(operation.described["requestBody"]["content"]["application/json"]["schema"])
    return [name for choice in (schema, *schema.get("anyOf", ())) for name in resolved(choice).get("properties", {})]


@pytest.mark.parametrize("operation", [found for found in ALL if found.takes_body and not found.is_absent], ids=str)
def test_a_field_of_the_wrong_type_is_told_and_not_repeated(server: ApiServer, operation: Operation) -> None:
    """A list of odd things in a field is 400 with the field's name; what was sent is not in the answer."""
    assert fields_of(operation)
    with nothing_changed(server, operation):
        for field in fields_of(operation):
            sent = (operation.body or {}) | {field: [{"deep": [SECRET]}, 1.5]}
            answer = ask(server, operation, json=sent)
            body = assert_error(answer, 400)
            assert body["code"] == "VALIDATION_ERROR"
            assert any(field in issue["path"] for issue in body["issues"]), (field, body)
            assert SECRET not in answer.text


def bad_values(parameter: dict[str, Any]) -> list[str]:
    """Return values a query parameter of this kind cannot have."""
    found: list[str] = []
    for schema in map(resolved, (parameter["schema"], *parameter["schema"].get("anyOf", ()))):
        if schema.get("type") == "integer":
            found += ["x", "-1", "99999999999", "1.5", "1e3"]
        elif schema.get("format") == "date-time" or parameter["name"] == "cursor":
            found += ["yesterday", "2026-13-45", "x" * 300, "a\0b"]
        elif schema.get("type") == "boolean":
            found += ["maybe"]
        elif "enum" in schema or parameter["name"] in ("status", "direction", "call_type"):
            found += [SECRET]
        elif "maxLength" in schema:
            found += [SECRET + "x" * schema["maxLength"], "a\0b"]
    return found


@pytest.mark.parametrize("operation", [found for found in ALL if found.query and not found.is_absent], ids=str)
def test_a_bad_query_is_told(server: ApiServer, operation: Operation) -> None:
    """Limits out of range, cursors that are none and unknown words are 400 with the parameter's name."""
    for parameter in operation.query:
        name = parameter["name"]
        for value in bad_values(parameter):
            answer = ask(server, operation, params={name: value})
            body = assert_error(answer, 400)
            assert body["code"] == "VALIDATION_ERROR"
            assert SECRET not in answer.text
            assert "\0" in value or any(name in issue["path"] for issue in body["issues"]), (name, value[:40], body)
