"""Imported once by the fork server: what every call would otherwise load or build while its phone rings.

Job processes are forked from there and share it; each of these took a call 40 to 120 ms of a blocked event loop.
"""

from __future__ import annotations

import importlib

from livekit.agents.utils import http_context

from agent_worker.prompting import liquid

LAZY_MODULES = ("anyio._backends._asyncio", "openai.pagination", "openai.resources.chat.completions")
"""Imported by the OpenAI client at its first request."""

for _name in LAZY_MODULES:
    importlib.import_module(_name)

# parses the whole bundle of certificate authorities; kept by the library, one for each process image
http_context._create_ssl_context()

liquid.preload()
