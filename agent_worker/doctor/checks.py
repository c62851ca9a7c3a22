"""The checks, in the order a call depends on them."""

from __future__ import annotations

from agent_worker.doctor import (
    bridge,
    configuration,
    control_plane,
    hooks,
    loopback,
    numbers,
    providers,
    server,
    workers,
)
from agent_worker.doctor.examination import Check

CALL = Check(
    loopback.NAME,
    "a call through the bridge",
    loopback.check_call,
    90,
    needs=(bridge.NAME, workers.NAME, workers.SLOTS),
    wants="catalog",
)

CHECKS: tuple[Check, ...] = (
    Check(configuration.NAME, "the configuration", configuration.check_configuration, 30, wants=""),
    Check(control_plane.NAME, "the control plane", control_plane.check_control_plane, 20),
    Check(server.NAME, "LiveKit", server.check_server, 25),
    Check(bridge.NAME, "the SIP bridge", bridge.check_bridge, 30, needs=(server.NAME,)),
    Check(
        numbers.NAME,
        "numbers, trunks and rules",
        numbers.check_numbers,
        10,
        needs=(server.NAME,),
        wants="catalog",
    ),
    Check(workers.NAME, "the workers", workers.check_worker, 25, needs=(server.NAME,)),
    Check(workers.SLOTS, "the call slots", workers.check_slots, 5, needs=(workers.NAME,)),
    Check(providers.NAME, "the providers", providers.check_providers, 120, wants="catalog"),
    Check(hooks.NAME, "the webhooks", hooks.check_hooks, 120, wants="catalog"),
)


def checks(*, call: bool) -> tuple[Check, ...]:
    """Return the checks to make.

    Args:
        call: whether to place a call at the end.
    """
    return (*CHECKS, CALL) if call else CHECKS
