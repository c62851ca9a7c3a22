"""`webhook-secret`: shows and rotates the secret that webhooks are signed with.

Commands import what they run when they run it, so that `--help` answers at once.
"""

from __future__ import annotations

import typer

from agent_worker.cli_told import told

webhook_secret = typer.Typer(
    help=(
        "Show and rotate the secret that webhooks are signed with.\n\n"
        "\b\nTo rotate it:\n"
        "  python -m agent_worker webhook-secret rotate   both sign from now on; give receivers the new one\n"
        "  python -m agent_worker webhook-secret finish   the old one signs no more\n\n"
        "Run this where `serve` has its data folder; it reads the secret anew and need not be restarted."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@webhook_secret.command(name="show", short_help="Print what signs, the newest first.")
def show() -> None:
    """Print each secret in force on a line, the newest first."""
    with told():
        from agent_worker.settings import settings
        from agent_worker.webhooks import signing

        _print(signing.each_secret(signing.webhook_secret(settings())))


@webhook_secret.command(name="rotate", short_help="Make a new secret; the old one signs too.")
def rotate() -> None:
    """Make a new secret and print both: until `finish` every webhook has a signature of each."""
    with told():
        from agent_worker.settings import settings
        from agent_worker.webhooks import secret_file

        _print(secret_file.rotate(settings()))


@webhook_secret.command(name="finish", short_help="Drop the old secret.")
def finish() -> None:
    """Drop the old secret and print the one that is left."""
    with told():
        from agent_worker.settings import settings
        from agent_worker.webhooks import secret_file

        _print(secret_file.finish(settings()))


def _print(secrets: list[str]) -> None:
    for secret in secrets:
        typer.echo(secret)
