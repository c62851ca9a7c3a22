"""How the command line tells an error: one sentence on stderr, and an exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from agent_worker.errors import AgentWorkerError, ConfigError, SettingsError

EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130  # what a shell reports for a process that Ctrl-C ended


@contextmanager
def told() -> Iterator[None]:
    """Turn an error raised on purpose into one sentence on stderr, and Ctrl-C into a quiet end.

    Exit codes: 2 = the configuration or a setting is wrong, 1 = any other error, 130 = interrupted.
    """
    try:
        yield
    except AgentWorkerError as error:
        configuration = isinstance(error, ConfigError | SettingsError)
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(EXIT_CONFIGURATION if configuration else EXIT_ERROR) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(EXIT_INTERRUPTED) from None
