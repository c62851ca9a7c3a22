"""Requests made up from the API's own document: no 5xx but what is documented, and every answer as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from tests.integration.api_routes import KNOWN_IDS, whole_document
from tests.integration.api_server import ApiServer, seeded_server

NO_COVERAGE = {"coverage": {"enabled": False}}
AGENT_WRITES = ["POST /v1/agents", "PATCH /v1/agents/{agent_id}"]

CONFIG: dict[str, Any] = {
    "generation": {"deterministic": True, "no-shrink": True, "with-security-parameters": False, "allow-x00": False},
    "checks": {
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "501", "503"]},
        # a body that is wrong may be too large or too deep as well
        "negative_data_rejection": {
            "expected-statuses": [
                "400",
                "401",
                "403",
                "404",
                "405",
                "406",
                "409",
                "413",
                "415",
                "422",
                "428",
                "429",
                "5xx",
            ]
        },
        # that a prompt is there, or that a status is one of several between commas, is not said by a schema
        "positive_data_acceptance": {"enabled": False},
        # it takes the key out of what it made up, not out of what is sent along; test_api_bad_input.py tries every route
        "ignored_auth": {"enabled": False},
    },
    "operations": [{"include-name": AGENT_WRITES, "phases": NO_COVERAGE}],
}
MADE_UP = settings(
    deadline=None, max_examples=12, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

anything = schemathesis.openapi.from_dict(whole_document(), config=SchemathesisConfig.from_dict(CONFIG))
known = (
    schemathesis.openapi.from_dict(
        whole_document(),
        config=SchemathesisConfig.from_dict(
            CONFIG | {"phases": NO_COVERAGE, "parameters": {f"path.{name}": value for name, value in KNOWN_IDS.items()}}
        ),
    )
    .include(path_regex=r"\{")
    .exclude(method="DELETE")
    .exclude(path_regex=r"/purge$|/stream$|\{rest\}")
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with seeded_server(tmp_path_factory.mktemp("schemathesis")) as running:
        yield running


def assert_conforms(server: ApiServer, case: Case) -> None:
    headers = {"authorization": f"Bearer {server.keys['admin']}"}
    case.call_and_validate(base_url=server.url, headers=headers, timeout=20)


@anything.parametrize()
@MADE_UP
def test_answers_are_what_the_document_says(server: ApiServer, case: Case) -> None:
    """Whatever is asked, the answer has a documented status, kind and shape."""
    assert_conforms(server, case)


@known.parametrize()
@MADE_UP
def test_answers_about_what_there_is_are_what_the_document_says(server: ApiServer, case: Case) -> None:
    """The same of calls, agents, numbers and endpoints that are there."""
    assert_conforms(server, case)
