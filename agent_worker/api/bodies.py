"""Bodies that OpenAPI tells as a model, and that are read as they were sent: what was said, and nothing more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from agent_worker.api.errors import ApiError
from agent_worker.config.agent_body import Remark


@dataclass(frozen=True)
class Like:
    """Annotates `dict[str, Any]`: an object with the keys of this model.

    Args:
        required: the keys that must be there, instead of the model's own; () for a change.
    """

    model: type[BaseModel]
    required: tuple[str, ...]
    example: tuple[tuple[str, Any], ...] = ()

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the model's schema, without its strictness: unknown keys are left out and told."""
        told = handler.resolve_ref_schema(handler(self.model.__pydantic_core_schema__))
        told = {key: value for key, value in told.items() if key != "required"} | {"additionalProperties": True}
        required = {"required": list(self.required)} if self.required else {}
        return {**told, **required, **({"examples": [dict(self.example)]} if self.example else {})}


def invalid(remarks: Iterable[Remark]) -> ApiError:
    """Return the answer to a request that is wrong in these places."""
    issues = [{"path": list(remark.path), "message": remark.message} for remark in remarks]
    return ApiError(400, "VALIDATION_ERROR", "Invalid request", retryable=False, issues=issues)
