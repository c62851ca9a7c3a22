"""A tool that has been read from its file and can be offered to a model."""

from __future__ import annotations

from dataclasses import dataclass

from agent_worker.toolbox.base import ToolFunction, ToolMeta
from agent_worker.toolbox.schema import Signature


@dataclass(frozen=True)
class LoadedTool:
    """A function of a file in the tools folder, ready to be bound to a call.

    Attributes:
        file: path of the file it is in.
    """

    meta: ToolMeta
    signature: Signature
    function: ToolFunction
    file: str

    @property
    def name(self) -> str:
        """The name an agent file and the model call it by."""
        return self.meta.name
