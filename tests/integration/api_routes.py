"""What the API's own document says of its routes, for tests that go through all of them."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agent_worker.api.openapi import document
from agent_worker.app import create_app
from tests.integration import api_server
from tests.integration.serving import serve_settings

KNOWN_IDS = {
    "agent_id": api_server.STORED_AGENT_ID,
    "tool_id": api_server.TOOL_ID,
    "call_id": api_server.CALL_ID,
    "session_id": api_server.CALL_ID,
    "number_id": api_server.STORED_NUMBER_ID,
    "phone_number_id": api_server.STORED_NUMBER_ID,
    "endpoint_id": api_server.ENDPOINT_ID,
    "webhook_id": api_server.ENDPOINT_ID,
    "delivery_id": api_server.DELIVERY_ID,
    "callback_id": api_server.CALLBACK_ID,
}


@dataclass(frozen=True)
class Operation:
    """One method at one address.

    Attributes:
        scope: what a key needs; None where no key is asked for.
        described: as the document has it.
    """

    method: str
    path: str
    scope: str | None
    described: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def address(self, **ids: str) -> str:
        """Return the path with ids; "unknown" for those not given."""
        return re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], "unknown"), self.path)

    @property
    def has_id(self) -> bool:
        return "{" in self.path

    @property
    def is_absent(self) -> bool:
        """Whether it answers 501 whatever is asked."""
        return not any(status.startswith(("2", "3")) for status in self.described["responses"])

    @property
    def body(self) -> Any:
        """An example of its body; None where it takes none."""
        content = self.described.get("requestBody", {}).get("content", {})
        return example_of(content["application/json"]) if "application/json" in content else None

    @property
    def takes_body(self) -> bool:
        return "requestBody" in self.described

    @property
    def query(self) -> list[dict[str, Any]]:
        return [parameter for parameter in self.described.get("parameters", []) if parameter["in"] == "query"]


@cache
def whole_document() -> dict[str, Any]:
    """Return the document of an app with every route."""
    with tempfile.TemporaryDirectory() as folder:
        return document(create_app(serve_settings(Path(folder))))


def operations() -> list[Operation]:
    """Return every operation of the document."""
    return [
        Operation(method.upper(), path, _scope(described), described)
        for path, methods in whole_document()["paths"].items()
        for method, described in methods.items()
    ]


def _scope(described: dict[str, Any]) -> str | None:
    return next(
        (scope for required in described.get("security", []) for roles in required.values() for scope in roles), None
    )


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference refers to."""
    while "$ref" in schema:
        schema = whole_document()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def example_of(content: dict[str, Any]) -> Any:
    """Return an example of a body, of its own or of its schema; None where there is none."""
    if "example" in content:
        return content["example"]
    if content.get("examples"):
        return next(iter(content["examples"].values()))["value"]
    return _schema_example(content.get("schema", {}))


def _schema_example(schema: dict[str, Any]) -> Any:
    schema = resolved(schema)
    if schema.get("examples"):
        return schema["examples"][0]
    if "example" in schema:
        return schema["example"]
    if schema.get("type") == "array" and (inner := _schema_example(schema["items"])) is not None:
        return [inner]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        if (found := _schema_example(choice)) is not None:
            return found
    return None
