"""The organization's signing secret, kept in the data folder and rotated there: the new one first, then the old one."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from agent_worker.errors import SettingsError
from agent_worker.settings import Settings
from agent_worker.webhooks.signing import SECRET_FILE, each_secret, new_secret, webhook_secret


def rotate(settings: Settings) -> list[str]:
    """Put a new secret before the one in force, which signs too until `finish`; returns both.

    Raises:
        SettingsError: the secret is not kept in the data folder, or cannot be written there.
    """
    _check_kept_here(settings)
    current = each_secret(webhook_secret(settings))[0]
    return _replace(settings, [new_secret(), current])


def finish(settings: Settings) -> list[str]:
    """Drop the secret before the one in force; returns what is left.

    Raises:
        SettingsError: as for `rotate`.
    """
    _check_kept_here(settings)
    return _replace(settings, each_secret(webhook_secret(settings))[:1])


def _replace(settings: Settings, written: list[str]) -> list[str]:
    path = settings.data_dir / SECRET_FILE
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        _write(draft, " ".join(written))
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingsError(
            "webhook_secret_unwritable",
            f"The webhook secret {path} cannot be written ({type(error).__name__}).",
            remedy="Make the data folder writable.",
        ) from error
    return written


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _check_kept_here(settings: Settings) -> None:
    if settings.webhook_secret.get_secret_value():
        raise SettingsError(
            "webhook_secret_elsewhere",
            "The webhook secret is AGENT_WORKER_WEBHOOK_SECRET's, not the data folder's.",
            remedy='To rotate it, set the variable to "<new> <old>" and start anew; later to "<new>".',
        )
