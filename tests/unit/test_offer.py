"""What a dispatch says of a call: read whatever it is, and never more than it may be."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.call.offer import MAX_METADATA_BYTES, MAX_METADATA_DEPTH, given_call_id, read_job_metadata
from agent_worker.config.plan import JUNK_METADATA


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('"agent"', "not a JSON object"),
        ("[" * 30_000, "not JSON"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": 1e999}', "not JSON"),
        ('{"a": "' + "x" * MAX_METADATA_BYTES + '"}', "larger than"),
        (json.dumps(nested(MAX_METADATA_DEPTH + 1)), "nested more than"),
    ],
)
def test_junk_is_noted_and_nothing_more(text: str, noted: str) -> None:
    """A dispatch that cannot be read is a note on the call."""
    read = read_job_metadata(text)

    assert list(read) == [JUNK_METADATA]
    assert noted in read[JUNK_METADATA]


def test_what_can_be_read_is_read() -> None:
    """Nothing, an object, and the deepest one there may be."""
    assert read_job_metadata("") == {}
    assert read_job_metadata('{"agentId": "desk"}') == {"agentId": "desk"}
    assert read_job_metadata(json.dumps(nested(MAX_METADATA_DEPTH))) == nested(MAX_METADATA_DEPTH)


def test_half_a_letter_is_made_whole() -> None:
    """A half surrogate pair, which no database takes and no socket sends, is a question mark."""
    assert read_job_metadata('{"name": "a\\ud800", "\\udfff": 1}') == {"name": "a?", "?": 1}


@given(st.text() | st.integers() | st.none() | st.uuids().map(str))
def test_a_call_id_is_a_uuid_or_none_at_all(given_id: object) -> None:
    """Whatever stands there, what is taken is a UUID in its usual form."""
    taken = given_call_id({"callId": given_id})

    assert taken is None or str(uuid.UUID(taken)) == taken
    if isinstance(given_id, str) and len(given_id) == 36 and taken is None:
        with pytest.raises(ValueError, match="UUID"):
            uuid.UUID(given_id)
