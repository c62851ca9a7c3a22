"""The OpenAPI document at `/openapi.json`: what the framework knows of the routes, told as the contract tells it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from agent_worker import __version__
from agent_worker.domain.api_key import Scope

PATH = "/openapi.json"
SCHEME = "apiKey"

TITLE = "Phone agent API"
DESCRIPTION = """\
What happened on a phone agent's calls, and control over it.

Every request carries a key, `Authorization: Bearer <key>`; `python -m agent_worker keys create` makes one. A key has a
scope: `read`, `operate` (also acts on calls) or `admin` (also changes configuration and deletes), and may be limited to
some agents, in which case what belongs to others answers 404.

Every error is `{"error": "<sentence>", "code": "<CODE>"}`; a request that is not valid answers 400 `VALIDATION_ERROR`
with `issues`. 429 and 503 carry `Retry-After`, in seconds.\
"""

TAGS = {
    "organization": "Whose deployment this is; asked to see whether a key works.",
    "agents": "Who answers: prompt, voice, providers, webhooks.",
    "tools": "What an agent can do beside talking.",
    "phone numbers": "Which number which agent answers.",
    "voices": "The voices of the configured providers.",
    "calls": "What happened on a call and what came of it, and acting on one that is live.",
    "recordings": "What was recorded of a call.",
    "sessions": "A call's transcript and its live stream.",
    "callbacks": "Calls that callers asked for.",
    "webhooks": "Endpoints that are told what happens, and each attempt to tell them.",
    "usage": "What calls consumed.",
    "not supported": "What a hosted platform sells; each answer says what to do instead.",
}

_EXAMPLES: dict[str, dict[str, Any]] = {
    "400": {
        "error": "Invalid request",
        "code": "VALIDATION_ERROR",
        "issues": [{"path": ["to"], "message": "must be E.164"}],
    },
    "401": {
        "error": "The API key is missing, wrong or revoked: send `Authorization: Bearer <key>`.",
        "code": "UNAUTHORIZED",
        "retryable": False,
    },
    "403": {
        "error": "This needs a key of scope admin; yours has read.",
        "code": "FORBIDDEN",
        "retryable": False,
    },
    "404": {"error": "not found", "code": "NOT_FOUND"},
    "409": {"error": "The call is over.", "code": "CALL_NOT_LIVE"},
    "416": {"error": "The range is not within the file.", "code": "RANGE_NOT_SATISFIABLE"},
    "429": {
        "error": "This key has made too many requests; the next is taken in 3 s.",
        "code": "RATE_LIMITED",
        "retryable": True,
    },
    "500": {"error": "Something broke on this side; the log says what.", "code": "INTERNAL"},
    "408": {"error": "The body took longer than 15 s.", "code": "REQUEST_TIMEOUT"},
    "413": {"error": "The body must be at most 1048576 bytes.", "code": "TOO_LARGE", "retryable": False},
    "501": {
        "error": "Calling out is not available in this version: callers can ring the agent, it cannot ring them.",
        "code": "NOT_AVAILABLE",
        "retryable": False,
    },
    "502": {"error": "The store of recordings did not answer.", "code": "RECORDING_STORE_UNAVAILABLE"},
    "503": {
        "error": "The database did not answer (OperationalError).",
        "code": "DATABASE_UNAVAILABLE",
        "retryable": True,
    },
}

_OF_BODIES = {"408": "Request Timeout", "413": "Request Entity Too Large"}

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}}}


def openapi_routes(app: FastAPI) -> APIRouter:
    """Return the route; the document is made when it is first asked for, and needs no key."""
    router = APIRouter()
    made: list[dict[str, Any]] = []

    @router.get(PATH, include_in_schema=False)
    async def openapi() -> JSONResponse:
        if not made:
            made.append(document(app))
        return JSONResponse(made[0])

    return router


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application's routes."""
    tags = [{"name": name, "description": text} for name, text in TAGS.items()]
    found = get_openapi(title=TITLE, version=__version__, description=DESCRIPTION, routes=app.routes, tags=tags)
    for operation in _operations(found):
        _name_scope(operation)
        operation["responses"].pop("422", None)  # the framework's own; here it is 400, with issues
        if "requestBody" in operation:
            operation["responses"] |= {status: _error(text) for status, text in _OF_BODIES.items()}
        for status, response in operation["responses"].items():
            _complete_error(status, response)
    components = found.get("components", {})
    _open_bodies(found)
    _show_examples(found)
    components["securitySchemes"] = {
        SCHEME: {"type": "http", "scheme": "bearer", "description": "A key of `python -m agent_worker keys create`."}
    }
    for name in ("HTTPValidationError", "ValidationError"):
        components.get("schemas", {}).pop(name, None)
    return found


def _operations(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in found["paths"].values():
        yield from path.values()


def _name_scope(operation: dict[str, Any]) -> None:
    """Name the scope a route needs as the role its security asks for, and in words."""
    schemes = [name for required in operation.get("security", []) for name in required]
    scopes = [scope for scope in Scope if scope.name.lower() in schemes]
    if not scopes:
        return
    needed = max(scopes).name.lower()
    operation["security"] = [{SCHEME: [needed]}]
    described = operation.get("description", "")
    operation["description"] = f"{described}\n\nNeeds a key of scope `{needed}`.".strip()


def _open_bodies(found: dict[str, Any]) -> None:
    """Let the parts of a body that takes unknown keys take them too, as it does; in answers they are as they were."""
    schemas = found.get("components", {}).get("schemas", {})
    for operation in _operations(found):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if content.get("schema", {}).get("additionalProperties") is True:
                content["schema"] = _opened(content["schema"], schemas)


def _opened(schema: Any, schemas: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_opened(inner, schemas) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if f"{name}Given" not in schemas:
            schemas[f"{name}Given"] = {}  # one that contains itself is not opened without end
            schemas[f"{name}Given"] = _opened(schemas[name], schemas)
        return schema | {"$ref": f"#/components/schemas/{name}Given"}
    return {
        key: _opened(value, schemas) for key, value in schema.items() if (key, value) != ("additionalProperties", False)
    }


def _error(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _complete_error(status: str, response: dict[str, Any]) -> None:
    if not status.isdigit() or int(status) < 400:
        return
    for content in response.get("content", {}).values():
        if status in _EXAMPLES and "example" not in content and "examples" not in content:
            content["example"] = _EXAMPLES[status]
    if status in ("429", "503"):
        response.setdefault("headers", _RETRY_AFTER)


def _show_examples(found: dict[str, Any]) -> None:
    """See to it that every body has an example: its own, its schema's, or one made of those of its parts.

    The framework drops nulls of examples: a key that is always there and is missing was null.
    """
    schemas = found.get("components", {}).get("schemas", {})
    for schema in schemas.values():
        if given := _given(schema):
            schema.pop("example", None)
            schema["examples"] = [_with_nulls(schema, example, schemas) for example in given]
    for operation in _operations(found):
        for answer in (*operation["responses"].values(), operation.get("requestBody", {})):
            for content in answer.get("content", {}).values():
                _show_example(content, schemas)


def _show_example(content: dict[str, Any], schemas: dict[str, Any]) -> None:
    schema = content.get("schema", {})
    for named in content.get("examples", {}).values():
        named["value"] = _with_nulls(schema, named["value"], schemas)
    if "example" in content:
        content["example"] = _with_nulls(schema, content["example"], schemas)
    elif "examples" not in content and not _given(_resolved(schema, schemas)):
        with contextlib.suppress(LookupError):
            content["example"] = _made(schema, schemas)


def _given(schema: dict[str, Any]) -> list[Any]:
    return schema.get("examples") or ([schema["example"]] if "example" in schema else [])


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _made(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """Return an example made of those of the schema's parts.

    Raises:
        LookupError: a part has none.
    """
    schema = _resolved(schema, schemas)
    if given := _given(schema):
        return given[0]
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    for choice in schema.get("anyOf", ()):  # null is the last of them
        with contextlib.suppress(LookupError):
            return _made(choice, schemas)
    match schema.get("type"):
        case "array":
            return [_made(schema["items"], schemas)]
        case "object" if "properties" in schema:
            return {name: _made(inner, schemas) for name, inner in schema["properties"].items()}
        case "boolean":
            return True
        case "null":
            return None
    raise LookupError


def _with_nulls(schema: dict[str, Any], example: Any, schemas: dict[str, Any]) -> Any:
    schema = _resolved(schema, schemas)
    for choice in schema.get("anyOf", ()):
        example = _with_nulls(choice, example, schemas)
    if isinstance(example, list):
        return [_with_nulls(schema.get("items", {}), item, schemas) for item in example]
    if not isinstance(example, dict):
        return example
    properties = schema.get("properties", {})
    known = {name: _with_nulls(properties.get(name, {}), value, schemas) for name, value in example.items()}
    return {name: None for name in schema.get("required", ()) if name not in known} | known
