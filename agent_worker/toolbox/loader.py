"""Files in a tools folder -> tools by name; each file stands alone and cannot hide another's names."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel

from agent_worker.errors import ConfigError
from agent_worker.toolbox.base import ToolFunction, ToolMeta
from agent_worker.toolbox.loaded_tool import LoadedTool
from agent_worker.toolbox.schema import Signature, read_signature

_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")
_OTHER = re.compile(r"\W")


def load_tools(tools_dir: Path) -> dict[str, LoadedTool]:
    """Load every `*.py` of the folder whose name does not begin with `_`.

    Raises:
        ConfigError: the folder is missing, a file does not import, or a tool cannot be offered to a model.
    """
    if not tools_dir.is_dir():
        raise ConfigError(
            "tools_dir_missing",
            f"There is no folder {tools_dir}.",
            remedy="Set AGENT_WORKER_TOOLS_DIR, or start where the folder tools/ is.",
        )
    loaded: dict[str, LoadedTool] = {}
    for path in sorted(tools_dir.glob("*.py")):
        if path.name.startswith("_"):
            continue
        for tool in _tools_of(_import(path), path):
            if tool.name in loaded:
                raise ConfigError(
                    "tool_twice",
                    f"The tool {tool.name!r} is in {loaded[tool.name].file} already.",
                    remedy='Rename one: @tool(name="…").',
                    file=str(path),
                )
            loaded[tool.name] = tool
    return loaded


def config_models(tools: Mapping[str, LoadedTool]) -> dict[str, type[BaseModel]]:
    """Return what agents may configure, by the tool's name, for the tools that say so."""
    return {name: tool.meta.config for name, tool in tools.items() if tool.meta.config is not None}


def _import(path: Path) -> ModuleType:
    """Import one file under a name of its own, so that `tools/json.py` shadows nothing."""
    place = sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"agent_worker_tools_{place}_{_OTHER.sub('_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError("tool_file_unreadable", "This is not a Python file.", file=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise ConfigError("tool_file_broken", f"{error.msg}.", file=str(path), line=error.lineno) from error
    except Exception as error:  # a tool file is the operator's code and may raise anything
        del sys.modules[name]
        raise ConfigError(
            "tool_file_broken",
            f"The file does not import: {type(error).__name__}: {error}.",
            file=str(path),
            line=_line_in(error, path),
        ) from error
    return module


def _line_in(error: BaseException, path: Path) -> int | None:
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == str(path):
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def _tools_of(module: ModuleType, path: Path) -> Iterable[LoadedTool]:
    found = 0
    for function in list(vars(module).values()):
        meta = getattr(function, "__tool__", None)
        if not isinstance(meta, ToolMeta) or getattr(function, "__module__", "") != module.__name__:
            continue
        found += 1
        yield LoadedTool(meta, _checked(function, meta, path), function, str(path))
    if not found:
        raise ConfigError(
            "tool_file_empty",
            "The file holds no tool.",
            remedy="Decorate an `async def` with @tool, or begin the file's name with _.",
            file=str(path),
        )


def _checked(function: ToolFunction, meta: ToolMeta, path: Path) -> Signature:
    line = function.__code__.co_firstlineno if inspect.isfunction(function) else None
    if not inspect.iscoroutinefunction(function):
        problem = "it must be an `async def`"
    elif not _NAME.match(meta.name):
        problem = "its name must be letters, digits and _ (at most 64)"
    elif not 0 < meta.timeout_seconds <= 300:
        problem = "timeout_seconds must be more than 0 and at most 300"
    elif not _is_model(meta.config):
        problem = "config must be a pydantic model"
    else:
        try:
            return read_signature(function)
        except (ValueError, NameError) as error:
            problem = str(error)
    raise ConfigError(
        "tool_invalid",
        f"The tool {meta.name!r} cannot be offered to a model: {problem}.",
        remedy="docs/tools.md shows one.",
        file=str(path),
        line=line,
    )


def _is_model(config: object) -> bool:
    """Return whether a tool file, which nobody has checked the types of, gives a model or nothing."""
    return config is None or (inspect.isclass(config) and issubclass(config, BaseModel))
