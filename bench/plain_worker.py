"""The baseline: a plain LiveKit Agents worker, with the same providers and the same greeting."""

from __future__ import annotations

import os

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, inference
from livekit.plugins import cartesia, deepgram, openai

GREETING = os.environ.get("BENCH_GREETING", "Good morning, this is the front desk. How can I help you?")
INSTRUCTIONS = "You are the front desk of a small hotel. Answer briefly."

server = AgentServer(
    # The default refuses calls on a busy machine by its CPU load; a small one would never answer.
    load_fnc=lambda: 0.0,
    port=int(os.environ.get("BENCH_HEALTH_PORT", "0")),
)


class FrontDesk(Agent):
    """Greets, then converses."""

    def __init__(self) -> None:
        super().__init__(instructions=INSTRUCTIONS)

    async def on_enter(self) -> None:
        """Speak first."""
        self.session.say(GREETING)


@server.rtc_session(agent_name=os.environ.get("BENCH_AGENT_NAME", "plain"))
async def take_call(ctx: JobContext) -> None:
    """Run one call."""
    session: AgentSession[None] = AgentSession(
        stt=deepgram.STT(model="nova-3", base_url=os.environ["DEEPGRAM_BASE_URL"]),
        llm=openai.LLM(model="gpt-4.1-mini", base_url=os.environ["OPENAI_BASE_URL"]),
        tts=cartesia.TTS(model="sonic-3", base_url=os.environ["CARTESIA_BASE_URL"]),
        turn_handling={"turn_detection": inference.TurnDetector(version="v1-mini")},
    )
    await session.start(agent=FrontDesk(), room=ctx.room)
    await ctx.connect()


if __name__ == "__main__":
    cli.run_app(server)
