"""Finds the file an `embedded:<model>` entry names: one that ships, or the operator's own path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from agent_worker.errors import ProviderError

DEFAULT_MODEL = "front-desk"
Kind = Literal["rules", "phrases"]
ENDINGS = {"rules": ".yaml", "phrases": ".txt"}
FOLDER = Path(__file__).parent


def find_data_file(kind: Kind, model: str | None) -> Path:
    """Return the file of that name.

    Raises:
        ProviderError: there is none.
    """
    name = model or DEFAULT_MODEL
    shipped = FOLDER / kind / f"{name}{ENDINGS[kind]}"
    if "/" not in name and shipped.is_file():
        return shipped
    own = Path(name)
    if own.is_file():
        return own
    known = ", ".join(sorted(path.stem for path in (FOLDER / kind).glob(f"*{ENDINGS[kind]}")))
    raise ProviderError(
        "embedded_model_unknown",
        f"There is no {kind} file {name!r}.",
        remedy=f"Name one that ships ({known}) or the path of your own {ENDINGS[kind]} file.",
    )
