"""Makes the clips that ship: `python -m agent_worker.simulation.render_clips`, on a machine with flite."""

from __future__ import annotations

import asyncio
import re

from agent_worker.call.speech_cache import phrases
from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.transfer import TransferConfig
from agent_worker.providers.embedded.clips import write_clips
from agent_worker.providers.embedded.data_files import find_data_file
from agent_worker.providers.embedded.engines import speak
from agent_worker.providers.embedded.rules import read_rules
from agent_worker.providers.embedded.synthesiser import CLIPS_FOLDER as AGENT_CLIPS
from agent_worker.providers.embedded.synthesiser import NO_VOICE
from agent_worker.settings import shipped_folder
from agent_worker.simulation.caller import CALLER_VOICE, PERSON_VOICE
from agent_worker.simulation.caller import CLIPS_FOLDER as CALLER_CLIPS
from agent_worker.simulation.demo import AGENT_NAME, AGENTS_FOLDER
from agent_worker.simulation.script import CALLER_LINES, PERSON_LINES, PERSON_YES

ENGINE = "flite"
TRANSFER = "transfer_call"
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


def agent_sentences() -> list[str]:
    """Return every sentence the demo agent can say, one by one: replies are spoken sentence by sentence."""
    agent = AgentCatalog.load(AGENTS_FOLDER, shipped_folder("prompts")).agents[AGENT_NAME]
    book = read_rules(find_data_file("rules", None))
    texts = [*phrases(agent), book.fallback, NO_VOICE, *_announcements(agent)]
    for rule in book.rules:
        texts += [rule.say, *(value for value in rule.arguments.values() if isinstance(value, str))]
    return list(dict.fromkeys(part for text in texts for part in _SENTENCE_END.split(text) if part))


def _announcements(agent: AgentConfig) -> list[str]:
    """Return what is said before the agent's callers are put through."""
    configs = [TransferConfig.model_validate(ref.function_config) for ref in agent.tools if ref.function == TRANSFER]
    return [
        config.plan(destination, reason="", summary="").announcement
        for config in configs
        for destination in config.destinations
    ]


async def render() -> None:
    """Render both folders anew."""
    agent = AgentCatalog.load(AGENTS_FOLDER, shipped_folder("prompts")).agents[AGENT_NAME]
    spoken = {text: await speak(ENGINE, text, voice=agent.voice) for text in agent_sentences()}
    said = {text: await speak(ENGINE, text, voice=CALLER_VOICE) for text in CALLER_LINES}
    said |= {text: await speak(ENGINE, text, voice=PERSON_VOICE) for text in (PERSON_YES, *PERSON_LINES)}
    await asyncio.to_thread(write_clips, AGENT_CLIPS, spoken)
    await asyncio.to_thread(write_clips, CALLER_CLIPS, said)


if __name__ == "__main__":
    asyncio.run(render())
