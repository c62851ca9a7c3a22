"""Extraction fields: what an operator wants to know of every call, asked for by a schema and checked by type."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from agent_worker.domain.lifecycle_hook import ExtractionField

MOST_CHARS = 40_000
"""Of all descriptions together (contract 7.3)."""

VALUE_CHARS = 4_000


def extraction_fields(*lists: object) -> list[ExtractionField]:
    """Return the fields of these lists, each name once: the first list that has it decides.

    Args:
        lists: of fields as a configuration holds them; what is none is left out, a stored call is never an error.
    """
    found: dict[str, ExtractionField] = {}
    room = MOST_CHARS
    for entry in [entry for fields in lists if isinstance(fields, list) for entry in fields]:
        try:
            field = ExtractionField.model_validate(entry)
        except ValidationError:
            continue
        size = len(field.description)
        if field.name not in found and size <= room and (field.type != "enum" or field.options):
            found[field.name] = field
            room -= size
    return list(found.values())


def field_schema(field: ExtractionField) -> dict[str, Any]:
    """Return the JSON schema of the field's value, or null."""
    kind = "string" if field.type == "enum" else field.type
    schema: dict[str, Any] = {"type": [kind, "null"], "description": field.description}
    return schema | {"enum": [*(field.options or ()), None]} if field.type == "enum" else schema


def typed(value: Any, field: ExtractionField) -> str | float | bool | None:
    """Return the value where it is of the field's type, else None."""
    match field.type:
        case "boolean":
            return value if isinstance(value, bool) else None
        case "number":
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "enum":
            options = {option.casefold(): option for option in field.options or ()}
            return options.get(value.strip().casefold()) if isinstance(value, str) else None
        case "string":
            return (value.strip()[:VALUE_CHARS] or None) if isinstance(value, str) else None
