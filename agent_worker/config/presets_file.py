"""`presets.yaml`: the operator's presets, and every mistake in it with file, line and what is expected."""

from __future__ import annotations

from pathlib import Path

from agent_worker.config.yaml_file import FileKind, read_tree, validated
from agent_worker.domain.presets import NO_PRESETS, Presets

_KIND = FileKind(code="presets", holds="presets", start="balanced:")


def read_presets(path: Path | None) -> Presets:
    """Return the presets of a file; the built-in ones where there is none.

    Raises:
        ConfigErrors: the file cannot be read, is not YAML, or one or several keys are wrong.
    """
    return NO_PRESETS if path is None else validated(read_tree(path, _KIND), Presets)
