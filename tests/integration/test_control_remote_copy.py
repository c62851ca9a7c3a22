"""The copy of the configuration a worker keeps, the shapes on the way, and the settings of the other host."""

from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from agent_worker.config import catalog_cache
from agent_worker.config.catalog_cache import REMOTE_FILE
from agent_worker.control import wire
from agent_worker.control.make import check_control, make_catalog, make_control
from agent_worker.control.remote import RemoteControlPlane
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallPlan, CallRefusal, DisconnectionReason, PlanEvent, utc_now
from agent_worker.errors import SettingsError
from agent_worker.settings import Settings
from agent_worker.testing.processes import free_port
from agent_worker.testing.serve_process import TOKEN
from tests.integration.remote_worker import answering, cached_worker
from tests.integration.serving import DESK, NUMBER, OFFER, remote_to, serve_settings, serving

# --- the configuration's copy


async def test_the_configuration_is_fetched_when_it_changed(tmp_path: Path) -> None:
    """The file is this user's alone, is left alone while nothing changes, and is made again where it was deleted."""
    settings = serve_settings(tmp_path)
    port = free_port()
    path = tmp_path / "worker" / "cache" / REMOTE_FILE
    async with remote_to(f"http://127.0.0.1:{port}", tmp_path) as worker:
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
            first = path.stat()
            await worker.keeper.refresh()
            assert path.stat().st_mtime_ns == first.st_mtime_ns
            path.unlink()
            await worker.keeper.refresh()
            assert path.exists()
        serve_settings(tmp_path, {**DESK, "voice": "zoe"})
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
        plan = await worker.control.open_call(OFFER, budget_seconds=0.3)
    assert stat.S_IMODE(first.st_mode) == 0o600
    assert isinstance(plan, CallPlan)
    assert plan.agent.voice == "zoe"


async def test_a_broken_copy_changes_nothing_and_costs_no_agent_but_the_broken_one(tmp_path: Path) -> None:
    """Junk leaves what was read before in force; a key of a newer version is left unread."""
    async with cached_worker(tmp_path, DESK, {"name": "other", "systemPrompt": "You sell."}) as worker:
        path = worker.settings.cache_dir / REMOTE_FILE
        good = catalog_cache.read(path)
        assert good is not None
        catalog = make_catalog(worker.settings)
        assert set(catalog.current().agents) == {"desk", "other"}
        for junk in (b"", b"{", b"[]", b"[" * 100_000, b'{"agents": {}}'):
            path.write_bytes(junk)
            assert set(catalog.current().agents) == {"desk", "other"}, junk
        good["agents"]["desk"]["ofTheNextVersion"] = {"x": 1}
        good["agents"]["other"]["timezone"] = "Mars/Olympus"
        good["numbers"]["odd"] = {"e164": 7}
        catalog_cache.write(path, good)
        assert set(catalog.current().agents) == {"desk"}
        assert NUMBER in catalog.current().numbers


async def test_the_copy_of_another_control_plane_is_not_used(tmp_path: Path) -> None:
    """A worker that is pointed elsewhere waits for that one's configuration."""
    async with cached_worker(tmp_path) as worker:
        assert make_catalog(worker.settings).is_known
        elsewhere = worker.settings.model_copy(update={"control_url": "http://127.0.0.1:9"})
        assert not make_catalog(elsewhere).is_known
        assert make_catalog(elsewhere).current().agents == {}


def test_a_plan_survives_the_way() -> None:
    """Every key of an agent and of a plan is the same at the other end; so is a refusal with a voice."""
    agent = AgentConfig.model_validate(
        {
            "name": "desk",
            "systemPrompt": "é\u2028\U0001f600",
            "firstMessage": "",
            "variables": {},
            "promptVariables": [{"name": "n", "defaultValue": ""}],
            "toolSecrets": {"crm": "secret-value"},
            "tools": ["end_call"],
            "idleRePrompts": {"enabled": False},
            "ttsOptions": {"speed": 1.25, "providerOptions": {"a": {"b": [None, 1e-9]}}},
            "metadata": {"deep": [[[{"x": None}]]]},
        }
    )
    event = PlanEvent(event_type="call.pre_call", status="failed", payload={"ms": 1.5, "none": None})
    plan = CallPlan(organization_id="o", agent_id=None, agent=agent, pipeline_config={"a": None}, events=(event, event))
    refusal = CallRefusal(
        organization_id="o", reason=DisconnectionReason.REJECTED, sentence="", detail="d", voice=agent, events=(event,)
    )
    for answer in (plan, refusal):
        there = wire.OpenCallAnswer.decode(wire.OpenCallAnswer.of(answer).encode())
        assert there == answer
        assert there.model_dump(exclude_unset=True) == there.model_dump()


def test_an_answer_of_a_newer_control_plane_is_understood() -> None:
    """Keys this version does not know are left unread."""
    plan = CallPlan(organization_id="o", agent_id="desk", agent=AgentConfig(name="desk"))
    newer = json.loads(wire.OpenCallAnswer.of(plan).encode())
    newer |= {"more": 1}
    newer["plan"] |= {"more": 1}
    newer["plan"]["agent"] |= {"more": 1}
    newer["plan"]["agent"]["intent"] |= {"more": 1}
    assert wire.OpenCallAnswer.decode(json.dumps(newer).encode()) == plan
    with pytest.raises(ValueError, match="neither"):
        wire.OpenCallAnswer.decode(b"{}")


# --- settings


@pytest.mark.parametrize(
    ("url", "token", "code"),
    [
        ("ftp://host", TOKEN, "control_url_invalid"),
        ("control.example", TOKEN, "control_url_invalid"),
        ("https://user:password@host", TOKEN, "control_url_invalid"),
        ("https://host?x=1", TOKEN, "control_url_invalid"),
        ("https://host", "", "control_token_missing"),
        ("https://host", "short", "control_token_invalid"),
        ("https://host", "with spaces in the middle", "control_token_invalid"),
        ("https://host", "ünïcödé-ünïcödé-ünïcödé", "control_token_invalid"),
    ],
)
def test_a_wrong_url_or_token_is_said_before_anything_starts(tmp_path: Path, url: str, token: str, code: str) -> None:
    """The sentence names the variable, and never its value."""
    settings = Settings(data_dir=tmp_path, control_url=url, control_token=token)
    with pytest.raises(SettingsError) as error:
        check_control(settings)
    assert error.value.code == code
    assert "AGENT_WORKER_CONTROL_" in str(error.value)
    assert not token or token not in str(error.value)
    assert "password" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://10.0.0.7:8080", True),
        ("http://control.example", True),
        ("https://control.example", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost:8080", False),
    ],
)
def test_plain_http_over_a_network_is_warned_of(
    tmp_path: Path, url: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It works, for those whose network is their own; the log says what it costs."""
    with caplog.at_level(logging.WARNING):
        check_control(Settings(data_dir=tmp_path, control_url=url, control_token=TOKEN))
    assert ("https" in caplog.text) is warned


async def test_the_factory_follows_the_settings(tmp_path: Path) -> None:
    """A URL makes it remote, and then no agents folder is needed."""
    settings = Settings(
        data_dir=tmp_path, agents_dir=tmp_path / "none", control_url="http://localhost:1/base/", control_token=TOKEN
    )
    control = make_control(settings, make_catalog(settings))
    assert isinstance(control, RemoteControlPlane)
    await control.aclose()


async def test_a_path_before_the_routes_is_kept(tmp_path: Path) -> None:
    """`serve` may live under a path of somebody's proxy."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(f"{request.path} {request.headers['authorization']}")
        return web.json_response({"received": 1})

    async with answering(handler) as url, remote_to(f"{url}/behind/a/proxy/", tmp_path) as worker:
        await worker.control.renew_leases(["call-1"], worker_id="w", until=utc_now())
    assert seen == [f"/behind/a/proxy/worker/v1/leases Bearer {TOKEN}"]


def test_a_job_process_loads_no_server_and_no_database(root: Path, tmp_path: Path) -> None:
    """Planning a call, over HTTP or from the cache, leaves SQLAlchemy, FastAPI and uvicorn out of memory."""
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from agent_worker.settings import Settings\n"
        "from agent_worker.control.make import make_catalog, make_control, make_keeper\n"
        "from agent_worker.domain.call import CallOffer\n"
        "from agent_worker.errors import ControlPlaneError\n"
        "offer = CallOffer(call_id='c', direction='inbound', room_name='r')\n"
        f"s = Settings(data_dir=Path({str(tmp_path)!r}), control_url='http://127.0.0.1:9', control_token='t' * 16)\n"
        "control = make_control(s, make_catalog(s))\n"
        "try: asyncio.run(control.open_call(offer, budget_seconds=0.1))\n"
        "except ControlPlaneError as error: print(error.code)\n"
        "heavy = ('sqlalchemy', 'alembic', 'aiosqlite', 'fastapi', 'starlette', 'uvicorn')\n"
        "print(sorted(name for name in heavy if name in sys.modules))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.splitlines() == ["control_plane_unreachable", "[]"]
