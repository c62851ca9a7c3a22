"""How a file in `tools/` becomes something an agent can do, and runs: see `loader`."""

from agent_worker.toolbox.base import CallControl, FromConfig, ToolMeta, ToolRefused, tool

__all__ = ["CallControl", "FromConfig", "ToolMeta", "ToolRefused", "tool"]
