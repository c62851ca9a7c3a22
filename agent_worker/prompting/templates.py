"""The texts the product speaks or feeds a model, read from Markdown files."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from agent_worker.errors import ConfigError


def prompt(name: str, prompts_dir: Path) -> str:
    """Return the text of `<prompts_dir>/<name>.md`, without surrounding blank lines.

    Raises:
        ConfigError: there is no such file, or it is empty or not UTF-8; the sentence names the file.
    """
    path = prompts_dir / f"{name}.md"
    if "/" in name or "\\" in name or name.startswith("."):
        raise ConfigError(
            "prompt_name_invalid",
            f"{name!r} is not the name of a prompt.",
            remedy=f"Name a file of {prompts_dir}/ without its folder and without .md.",
        )
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ConfigError(
            "prompt_not_found", f"There is no prompt {path}.", remedy=_nearest(name, prompts_dir)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("prompt_unreadable", f"{path} is not UTF-8 text.", remedy="Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(
            "prompt_unreadable",
            f"{path} cannot be read: {error.strerror}.",
            remedy="Make it readable for the user the worker runs as.",
        ) from error
    if not text:
        raise ConfigError("prompt_empty", f"{path} is empty.", remedy="Write the instructions into it.")
    return text


def prompt_names(prompts_dir: Path) -> list[str]:
    """Return the names of all prompts in the folder, sorted."""
    return sorted(path.stem for path in prompts_dir.glob("*.md"))


def read_prompts(prompts_dir: Path) -> dict[str, str]:
    """Return the texts of all prompts that can be read, by name: what a template may include."""
    texts: dict[str, str] = {}
    for name in prompt_names(prompts_dir):
        try:
            texts[name] = prompt(name, prompts_dir)
        except ConfigError:
            continue  # it is an error where it is used, and then says so
    return texts


def _nearest(name: str, prompts_dir: Path) -> str:
    names = prompt_names(prompts_dir)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Write it, or use one of: {', '.join(names)}." if names else f"Write it; {prompts_dir}/ has no *.md yet."
