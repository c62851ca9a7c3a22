"""Requests made up from the API's own document: no 5xx but what is documented, and every answer as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response

from tests.integration.api_routes import KNOWN_IDS, whole_document
from tests.integration.api_server import ApiServer, seeded_server

EXAMPLES = 8
EXPECTED = ["2xx", "3xx", "4xx", "501", "503"]

CONFIG = {
    "generation": {
        "deterministic": True,
        "max-examples": EXAMPLES,
        "no-shrink": True,
        "with-security-parameters": False,
    },
    "checks": {
        "not_a_server_error": {"expected-statuses": EXPECTED},
    },
}

schema = schemathesis.openapi.from_dict(whole_document(), config=SchemathesisConfig.from_dict(CONFIG))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with seeded_server(tmp_path_factory.mktemp("schemathesis")) as running:
        yield running


@schema.parametrize()
@settings(deadline=None, max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))
def test_answers_are_what_the_document_says(server: ApiServer, case: Case) -> None:
    """Whatever is asked, the answer has a documented status, kind and shape."""
    case.call_and_validate(base_url=server.url, headers={"authorization": f"Bearer {server.keys['admin']}"}, timeout=20)
