"""What `serve` costs while nothing happens: `python -m bench.idle`.

Starts `python -m agent_worker serve` as its user does, on an empty SQLite file (or `--postgres URL`), and prints its
memory when it is ready and after a while, the processor it used in between, and what of Python it has loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx
import psutil

from agent_worker.testing.serve_process import ServeProcess

AGENT = {"name": "desk", "systemPrompt": "You help.", "numbers": ["+12015550199"]}
MIB = 2**20


def memory(pid: int) -> dict[str, float]:
    """Return MiB of the process: resident, and unique to it."""
    full = psutil.Process(pid).memory_full_info()
    return {"rss": round(full.rss / MIB, 1), "uss": round(full.uss / MIB, 1)}


async def measure(folder: Path, seconds: float, database_url: str, requests: int) -> dict[str, object]:
    env = {"AGENT_WORKER_DATABASE_URL": database_url} if database_url else {}
    async with ServeProcess(folder, [AGENT], env=env, ready_seconds=300) as serve:
        process = psutil.Process(serve.process.pid)
        found: dict[str, object] = {"ready": memory(process.pid)}
        used = sum(process.cpu_times()[:2])
        await asyncio.sleep(seconds)
        found["after"] = memory(process.pid) | {"seconds": seconds}
        found["cpu_percent"] = round((sum(process.cpu_times()[:2]) - used) / seconds * 100, 2)
        found["threads"] = process.num_threads()
        if requests:
            [key] = [line for line in serve.log().splitlines() if line.startswith("API key: ")]
            headers = {"authorization": "Bearer " + key.removeprefix("API key: ")}
            async with httpx.AsyncClient(base_url=serve.url, headers=headers, trust_env=False, timeout=120) as client:
                for _ in range(requests):
                    for path in ("/v1/organization", "/v1/agents", "/v1/calls", "/v1/webhooks", "/openapi.json"):
                        await client.get(path)
            found[f"after {5 * requests} requests"] = memory(process.pid)
        return found


def loaded() -> list[tuple[str, int]]:
    """Return the packages an application loads, with how many modules of each."""
    import subprocess

    program = (
        "import json, sys, tempfile; from pathlib import Path\n"
        "import agent_worker.cli_serve\n"
        "from agent_worker.app import create_app; from agent_worker.settings import Settings\n"
        "create_app(Settings(data_dir=Path(tempfile.mkdtemp())))\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return Counter(name.partition(".")[0] for name in json.loads(shown.splitlines()[-1])).most_common(25)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is left alone")
    parser.add_argument("--postgres", default="", metavar="URL", help="a database to use instead of an SQLite file")
    parser.add_argument("--requests", type=int, default=20, help="rounds of requests afterwards")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), arguments.seconds, arguments.postgres, arguments.requests))
    print(json.dumps(found, indent=2))
    print("modules: " + ", ".join(f"{name} {count}" for name, count in loaded()))


if __name__ == "__main__":
    main()
