"""Is a worker registered under the name the rules dispatch to, and does it take calls?"""

from __future__ import annotations

import aiohttp
from livekit import api

from agent_worker import __version__
from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status
from agent_worker.telephony.client import livekit_client
from agent_worker.telephony.probe import ask_workers

NAME = "worker"
SLOTS = "slots"
ANSWER_SECONDS = 8.0


async def check_worker(exam: Examination) -> None:
    """Ask who is registered under our agent name, without a call."""
    name = exam.known_settings.agent_name
    try:
        async with livekit_client(exam.known_settings) as client:
            answer = await ask_workers(client, name, seconds=ANSWER_SECONDS)
    except (api.TwirpError, aiohttp.ClientError) as error:
        code = getattr(error, "code", type(error).__name__)
        exam.report(
            NAME, Status.FAILED, f"LiveKit takes no dispatch ({code}).", "Read LiveKit's own log.", code="no_dispatch"
        )
        return
    exam.workers = answer.workers
    if answer.taken_by_other:
        exam.report(
            NAME,
            Status.FAILED,
            f"A worker named {name!r} is registered, but it is not this product, or another version of it.",
            "Stop it or give it another name, then start `python -m agent_worker start`.",
            code="foreign_worker",
        )
    elif not answer.workers:
        exam.report(
            NAME,
            Status.FAILED,
            f"No worker named {name!r} is registered with LiveKit: calls ring until they are given up (486).",
            "Run `python -m agent_worker start` with this AGENT_WORKER_AGENT_NAME and LIVEKIT_URL; if it runs, read "
            "its log.",
            code="no_worker",
        )
    else:
        count = len(answer.workers)
        versions = sorted({worker.version for worker in answer.workers})
        detail = {"workers": [worker.worker_id for worker in answer.workers], "versions": versions}
        few = "worker is" if count == 1 else "workers are"
        exam.report(NAME, Status.OK, f"{count} {few} registered as {name!r}.", detail=detail)
        if versions != [__version__]:
            exam.report(
                NAME,
                Status.WARNING,
                f"Workers run version {', '.join(versions)}, this is {__version__}.",
                "Restart the workers after an update.",
                code="versions_differ",
            )


async def check_slots(exam: Examination) -> None:
    """Count the slots the workers told."""
    slots = sum(worker.slots for worker in exam.workers)
    calls = sum(worker.calls for worker in exam.workers)
    free = sum(worker.free for worker in exam.workers)
    detail = {"slots": slots, "calls": calls, "free": free}
    if free:
        exam.report(SLOTS, Status.OK, f"{free} of {slots} call slots are free.", detail=detail)
    elif exam.workers and all(worker.state == "draining" for worker in exam.workers):
        exam.report(
            SLOTS,
            Status.FAILED,
            "Every worker is stopping and takes no new calls.",
            "Wait for the restart, or start another worker.",
            code="draining",
            detail=detail,
        )
    else:
        exam.report(
            SLOTS,
            Status.FAILED,
            f"All {slots} call slots are taken: further callers hear ringing until they are given up (486).",
            "Start another worker, or raise AGENT_WORKER_CALL_SLOTS if the machine has room.",
            code="no_slots",
            detail=detail,
        )
