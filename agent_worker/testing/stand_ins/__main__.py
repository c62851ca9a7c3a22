"""`python -m agent_worker.testing.stand_ins --port-file ports.json`: the stand-ins as a process."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from agent_worker.testing.stand_ins.providers import ProviderStandIns


async def serve(port_file: Path, stt_delay_ms: float, llm_delay_ms: float, tts_delay_ms: float) -> None:
    """Serve until TERM or INT; the port file appears, complete, once all listen."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ProviderStandIns(
        stt_delay_ms=stt_delay_ms, llm_delay_ms=llm_delay_ms, tts_delay_ms=tts_delay_ms
    ) as providers:
        partial = port_file.with_suffix(".partial")
        partial.write_text(json.dumps({"env": providers.env, "control_url": providers.control_url}))
        partial.replace(port_file)
        await stop.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="agent_worker.testing.stand_ins", description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="where base URLs and the control URL are written")
    parser.add_argument("--stt-delay-ms", type=float, default=300, help="end of speech to final transcript")
    parser.add_argument("--llm-delay-ms", type=float, default=350, help="request to first token")
    parser.add_argument("--tts-delay-ms", type=float, default=150, help="first text to first audio")
    given = parser.parse_args()
    asyncio.run(serve(given.port_file, given.stt_delay_ms, given.llm_delay_ms, given.tts_delay_ms))


if __name__ == "__main__":
    main()
