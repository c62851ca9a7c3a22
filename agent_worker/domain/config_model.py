"""What every object of the configuration has in common: camelCase on the wire, unknown keys refused, sizes bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class ConfigModel(BaseModel):
    """Base of every configuration object; it is frozen, so a call's snapshot cannot change under it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,  # a secret may stand where it should not, and an error reaches a log
    )


def at_most_bytes(limit: int) -> Callable[[Any], Any]:
    """Return a validator that refuses a value whose JSON is longer than this."""

    def check(value: Any) -> Any:
        try:
            size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode(errors="replace"))
        except (TypeError, ValueError) as error:
            raise ValueError("must be plain JSON") from error
        if size > limit:
            raise ValueError(f"must be at most {limit} bytes as JSON, is {size}")
        return value

    return check


Metadata = Annotated[dict[str, Any], AfterValidator(at_most_bytes(32_768))]
"""Free data of the operator's, at most 32 KiB as JSON."""

ProviderOptions = Annotated[dict[str, Any], AfterValidator(at_most_bytes(2_048))]
"""Options handed to a provider as they are, at most 2 KiB as JSON (contract 1.1)."""
