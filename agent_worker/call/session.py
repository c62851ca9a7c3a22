"""Builds the `AgentSession` of a call from an agent's configuration: whose turn it is, and for how long to wait."""

from __future__ import annotations

from livekit.agents import AgentSession, APIConnectOptions, TurnHandlingOptions, inference
from livekit.agents.voice.agent_session import SessionConnectOptions

from agent_worker.call.line import Leg
from agent_worker.call.speech_normalization import changes_speech
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.turns import TurnHandling
from agent_worker.providers.failover import ATTEMPT_SECONDS
from agent_worker.providers.stack import Stack
from agent_worker.providers.vendor import Layer

MIN_ENDPOINTING_SECONDS = 0.25
MAX_ENDPOINTING_SECONDS = 1.2
"""With the watchdog's reply deadline this bounds the caller's longest silence below 4 s (docs/decisions.md)."""

TRANSCRIPT_SECONDS = 2.2
"""From the end of the caller's speech until a recogniser that says nothing has failed."""

MAX_TOOL_STEPS = 4
NEVER = 10**6


def build_session(agent: AgentConfig, stack: Stack, line: Leg) -> AgentSession[None]:
    """Return a session wired to the line, not started yet."""
    session: AgentSession[None] = AgentSession(
        stt=stack.stt,
        llm=stack.llm,
        tts=stack.tts,
        vad=stack.vad,
        turn_handling=_turn_handling(agent.turn_handling),
        # word timings are of what is said, and the transcript is to hold what is written
        use_tts_aligned_transcript=not changes_speech(agent.speech_normalization),
        max_tool_steps=MAX_TOOL_STEPS,
        # a phone line cancels its own echo; the default would swallow the caller's first 3 s
        aec_warmup_duration=None,
        # silence is the reprompt ladder's business
        user_away_timeout=None,
        transcription_timeout=TRANSCRIPT_SECONDS,
        session_close_transcript_timeout=0.3,
        conn_options=SessionConnectOptions(
            stt_conn_options=_attempts(stack, "stt", retries=2, interval=0.5),
            llm_conn_options=_attempts(stack, "llm", retries=1, interval=0.2),
            tts_conn_options=_attempts(stack, "tts", retries=1, interval=0.2),
            # the watchdog decides when failures end a call: a session that closes itself says nothing
            max_unrecoverable_errors=NEVER,
        ),
    )
    session.input.audio = line.audio_input
    line.playout.gain_db = agent.audio_output.gain_db
    session.output.audio = line.playout
    session.output.transcription = line.playout.text
    return session


def _attempts(stack: Stack, layer: Layer, *, retries: int, interval: float) -> APIConnectOptions:
    """Return how often a layer is asked: where somebody can take over, that is the second attempt."""
    if stack.chain(layer).fails_over:
        retries = 0
    return APIConnectOptions(max_retry=retries, retry_interval=interval, timeout=ATTEMPT_SECONDS)


def _turn_handling(turn: TurnHandling) -> TurnHandlingOptions:
    # the version is named: left to itself the detector may choose a model in somebody's cloud
    detection = inference.TurnDetector(version="v1-mini") if turn.turn_detection == "audio" else turn.turn_detection
    endpointing, interruption = turn.endpointing, turn.interruption
    return {
        "turn_detection": detection,
        "endpointing": {
            "mode": "fixed",
            "min_delay": _given(endpointing.min_delay, MIN_ENDPOINTING_SECONDS),
            "max_delay": _given(endpointing.max_delay, MAX_ENDPOINTING_SECONDS),
        },
        "interruption": {
            "enabled": interruption.enabled,
            "mode": "vad",
            "min_duration": _given(interruption.min_duration, 0.4),
            "min_words": interruption.min_words or 0,
            "resume_false_interruption": True,
            "false_interruption_timeout": 1.5,
        },
        "preemptive_generation": {
            "enabled": turn.preemptive_generation,
            "preemptive_tts": turn.preemptive_generation,
        },
    }


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
