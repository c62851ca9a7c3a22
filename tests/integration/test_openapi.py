"""The document at `/openapi.json`: every route is in it, with its shapes, an example of each, and the scope it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from jsonschema_rs import validator_for

from agent_worker.api.openapi import TAGS
from agent_worker.app import create_app
from tests.integration.api_routes import Operation, example_of, operations, whole_document
from tests.integration.serving import serve_settings, serving

ALL = operations()

KEYLESS = {"GET /recordings/{token}"}  # the link is signed
"""What is reached without a key, each for a reason of its own."""

# the worker's and LiveKit's routes are spoken by their own clients
NOT_OF_THE_API = ("/healthz", "/readyz", "/openapi.json", "/metrics", "/worker/", "/v1/livekit/")


def success(operation: Operation) -> list[tuple[str, dict[str, Any]]]:
    """Return the answers that are no errors."""
    return [(status, answer) for status, answer in operation.described["responses"].items() if status < "400"]


async def test_it_is_served_without_a_key(tmp_path: Path) -> None:
    """Whoever writes a client reads the document before they have a key."""
    async with serving(serve_settings(tmp_path)) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("/openapi.json")
    found = answer.json()
    assert answer.status_code == 200
    assert found["openapi"].startswith("3.1")
    assert found["info"]["title"] == "Phone agent API"
    assert found["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    assert "/v1/organization" in found["paths"]


def test_no_route_is_missing(tmp_path: Path) -> None:
    """Every route of the app is in the document, but those that are not the API's."""
    app = create_app(serve_settings(tmp_path))
    routes = {
        (method, context.path)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in (context.methods or set()) - {"HEAD"}  # what GET says, without the body
        if not str(context.path).startswith(NOT_OF_THE_API)
    }
    documented = {(operation.method, operation.path) for operation in ALL}
    assert {(method, str(path).replace(":path}", "}")) for method, path in routes} == documented


@pytest.mark.parametrize("operation", ALL, ids=str)
def test_every_route_says_what_it_needs_and_what_it_is_for(operation: Operation) -> None:
    """A route names the scope of the key, has a summary, and is filed under a heading that is explained."""
    assert operation.scope in ("read", "operate", "admin") or str(operation) in KEYLESS
    assert operation.described["summary"]
    assert operation.described["tags"]
    assert set(operation.described["tags"]) <= TAGS.keys()


@pytest.mark.parametrize("operation", ALL, ids=str)
def test_every_route_has_a_shape_of_its_answer_with_an_example(operation: Operation) -> None:
    """What comes back is described and shown, and the example is of that shape."""
    assert success(operation) or operation.is_absent
    for status, answer in success(operation):
        if status in ("204", "302", "304"):
            continue
        content = answer["content"]
        [(kind, shown)] = content.items()
        if kind != "application/json":
            continue
        assert shown["schema"] != {}, status
        example = example_of(shown)
        assert example is not None, f"{status} has no example"
        _check_example(shown["schema"], example)


@pytest.mark.parametrize("operation", [found for found in ALL if found.takes_body], ids=str)
def test_every_body_has_a_shape_and_an_example(operation: Operation) -> None:
    """What a route takes is described and shown, and the example is of that shape."""
    shown = operation.described["requestBody"]["content"]["application/json"]
    assert operation.body is not None
    _check_example(shown["schema"], operation.body)


@pytest.mark.parametrize("operation", ALL, ids=str)
def test_every_route_has_the_error_shape(operation: Operation) -> None:
    """Each error a route can answer has the one shape and an example; what any route can answer is always there."""
    answers = operation.described["responses"]
    if str(operation) not in KEYLESS:
        assert {"400", "401", "403", "429", "503"} <= answers.keys()
    assert "422" not in answers
    if operation.has_id and not operation.is_absent:
        assert "404" in answers
    for status, answer in answers.items():
        if status >= "400":
            shown = answer["content"]["application/json"]
            assert shown["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
            assert example_of(shown) is not None, f"{status} has no example"


@pytest.mark.parametrize("operation", ALL, ids=str)
def test_what_is_asked_is_bounded(operation: Operation) -> None:
    """Every text of an address or a query has a longest length, every number of a query two ends."""
    for parameter in operation.described.get("parameters", []):
        if parameter["name"] == "rest" or operation.is_absent:
            continue
        for schema in _choices(parameter["schema"]):
            kind = schema.get("type")
            bounded = {"maxLength", "pattern", "enum", "const"} & schema.keys() or schema.get("format") in (
                "date-time",
                "uuid",
            )
            assert kind != "string" or bounded, f"{parameter['name']} of {operation}"
            assert kind not in ("integer", "number") or {"minimum", "maximum"} <= schema.keys(), parameter["name"]


def test_every_heading_is_used() -> None:
    """No heading is explained that has nothing under it."""
    assert {tag for operation in ALL for tag in operation.described["tags"]} == TAGS.keys()


def test_operations_have_ids_of_their_own() -> None:
    """A client that is generated from the document has a name for each call."""
    names = [operation.described["operationId"] for operation in ALL]
    assert len(names) == len(set(names))


def _choices(schema: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    inner += [schema["items"]] if "items" in schema else []
    return [found for choice in inner for found in _choices(choice)] or [schema]


def _check_example(schema: dict[str, Any], example: Any) -> None:
    components = whole_document()["components"]
    checked = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": components, **schema}
    errors = [f"{list(error.instance_path)}: {error.message}" for error in validator_for(checked).iter_errors(example)]
    assert errors == []
