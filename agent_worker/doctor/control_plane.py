"""Does the control plane on another host answer, and does it take our token?"""

from __future__ import annotations

from pydantic import ValidationError

from agent_worker.config.catalog import AgentCatalog
from agent_worker.control.remote import RemoteControlPlane
from agent_worker.control.remote_client import TOKEN_REFUSED
from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status
from agent_worker.errors import ControlPlaneError

NAME = "control"
_REMEDIES = {
    TOKEN_REFUSED: "Set AGENT_WORKER_CONTROL_TOKEN to the same value on both hosts.",
    "control_plane_unreachable": "Start `python -m agent_worker serve` there, or correct AGENT_WORKER_CONTROL_URL.",
    "control_plane_timeout": "Look at the load of that host, and for a firewall on the way.",
    "control_plane_garbled": "Write the address of `serve` itself into AGENT_WORKER_CONTROL_URL.",
}


async def check_control_plane(exam: Examination) -> None:
    """Fetch the configuration as a worker does; it is what all later checks look at."""
    settings = exam.known_settings
    if not settings.control_url:
        return  # it is inside the worker
    control = RemoteControlPlane(settings)
    try:
        snapshot = await control.fetch_catalog(None)
        exam.catalog = AgentCatalog.from_snapshot(snapshot or {})
    except ControlPlaneError as error:
        remedy = _REMEDIES.get(error.code, "Read the log of `serve`.")
        message = error.message.split(": set AGENT_WORKER")[0].split(": is AGENT_WORKER")[0]
        exam.report(NAME, Status.FAILED, f"{message.rstrip('.')}.", remedy, code=error.code)
        return
    except (ValidationError, KeyError):
        exam.report(
            NAME,
            Status.FAILED,
            "The control plane is of another version: its configuration cannot be read here.",
            "Run the same version on both hosts.",
            code="versions_differ",
        )
        return
    finally:
        await control.aclose()
    count = len(exam.catalog.agents)
    exam.report(
        NAME,
        Status.OK,
        f"The control plane answers and takes the token: {count} {'agent' if count == 1 else 'agents'}.",
    )
