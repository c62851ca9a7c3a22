"""Phone agent for LiveKit: answers calls, holds the conversation, hands back a report."""

__version__ = "0.1.0"
