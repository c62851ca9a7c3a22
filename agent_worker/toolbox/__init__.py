"""How a file in `tools/` becomes something an agent can do; `loader` and `binding` do it."""

from agent_worker.toolbox.base import CallControl, FromConfig, ToolMeta, tool

__all__ = ["CallControl", "FromConfig", "ToolMeta", "tool"]
