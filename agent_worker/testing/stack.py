"""A real LiveKit on loopback: redis, livekit-server and livekit-sip on free ports."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from livekit import api

from agent_worker.testing.processes import ChildProcess, free_port, free_port_both, wait_until_listening

_RTP_PORTS = 400
ROOM_PREFIX = "call-"


@dataclass(frozen=True)
class StackBinaries:
    """The two programs the stack is made of (redis-server comes from the system)."""

    server: Path
    sip: Path

    @classmethod
    def in_folder(cls, folder: Path) -> StackBinaries:
        """Name the two programs in a folder.

        Raises:
            FileNotFoundError: one is missing; the sentence says which.
        """
        found = cls(folder / "livekit-server", folder / "livekit-sip")
        for path in (found.server, found.sip):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing; build it with tests/e2e/stack/build.py")
        return found


@dataclass(frozen=True)
class Inbound:
    """What `LiveKitStack.route_number` made."""

    trunk_id: str
    rule_id: str


class LiveKitStack:
    """An async context manager; inside, `url`, `api_key`, `api_secret` and `sip_address` are good to use."""

    api_key = "devkey"
    api_secret = "devsecret-devsecret-devsecret-0123456789"

    def __init__(self, binaries: StackBinaries, folder: Path, *, webhook_url: str = "") -> None:
        self._binaries = binaries
        self._folder = folder
        self._webhook_url = webhook_url
        self._children: list[ChildProcess] = []
        self._api: api.LiveKitAPI | None = None
        self._redis_port = free_port()
        self._http_port = free_port()
        self._ice_port = free_port_both()
        self.sip_port = free_port_both()
        # Below the kernel's own range, so that no other socket of this machine is handed one of them.
        self._rtp_port = random.randrange(20_000, 32_000, _RTP_PORTS)

    @property
    def url(self) -> str:
        """LiveKit URL."""
        return f"ws://127.0.0.1:{self._http_port}"

    @property
    def sip_address(self) -> tuple[str, int]:
        """The SIP bridge's address."""
        return "127.0.0.1", self.sip_port

    @property
    def env(self) -> dict[str, str]:
        """The variables with which a worker finds this LiveKit."""
        return {
            "LIVEKIT_URL": self.url,
            "LIVEKIT_API_KEY": self.api_key,
            "LIVEKIT_API_SECRET": self.api_secret,
        }

    @property
    def lk(self) -> api.LiveKitAPI:
        """The server API."""
        assert self._api is not None, "enter the stack first"
        return self._api

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.name: child.pid for child in self._children}

    async def __aenter__(self) -> Self:
        """Start all three and wait until they serve."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            await self._start_all()
        except BaseException:  # also when cancelled: what has started is stopped
            await self._stop_all()
            raise
        self._api = api.LiveKitAPI(self.url.replace("ws://", "http://"), self.api_key, self.api_secret)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete rooms, so that the bridge does not wait for calls, and stop all three."""
        if self._api is not None:
            try:
                async with asyncio.timeout(5):
                    for room in await self.rooms():
                        await self.delete_room(room)
            except (TimeoutError, api.TwirpError, OSError):
                pass  # stopping goes on: a stack that no longer answers is stopped by signal
            await self._api.aclose()
            self._api = None
        await self._stop_all()

    async def _start_all(self) -> None:
        redis = shutil.which("redis-server")
        if redis is None:
            raise FileNotFoundError("redis-server is not installed")
        command = [
            redis,
            "--port",
            str(self._redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        await self._start("redis", [*command, "--dir", str(self._folder)], self._redis_port)
        server = [str(self._binaries.server), "--config", self._write("livekit.yaml", self._server_config())]
        await self._start("livekit-server", server, self._http_port)
        sip = [str(self._binaries.sip), "--config", self._write("sip.yaml", self._sip_config())]
        await self._start("livekit-sip", sip, self.sip_port)

    async def _start(self, name: str, command: Sequence[str], port: int) -> None:
        child = await ChildProcess.start(name, command, log_dir=self._folder)
        self._children.append(child)
        await wait_until_listening(port, child)

    async def _stop_all(self) -> None:
        for child in reversed(self._children):
            # livekit-sip waits for its calls on TERM and drops them on INT.
            await child.stop(term_seconds=3.0, then=signal.SIGINT)
        self._children.clear()

    def _write(self, name: str, config: Mapping[str, Any]) -> str:
        # JSON is YAML.
        path = self._folder / name
        path.write_text(json.dumps(config, indent=2))
        return str(path)

    def _server_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "port": self._http_port,
            "bind_addresses": ["127.0.0.1"],
            "rtc": {
                # 0: the default, 7881, listens on every interface.
                "tcp_port": 0,
                "udp_port": self._ice_port,
                "node_ip": "127.0.0.1",
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo"]},
                "ips": {"includes": ["127.0.0.1/32"]},
            },
            "redis": {"address": f"127.0.0.1:{self._redis_port}"},
            "keys": {self.api_key: self.api_secret},
            "room": {
                "auto_create": True,
                "enable_remote_unmute": True,
                "empty_timeout": 30,
                "departure_timeout": 5,
            },
            "logging": {"level": "info", "json": True},
        }
        if self._webhook_url:
            config["webhook"] = {"api_key": self.api_key, "urls": [self._webhook_url]}
        return config

    def _sip_config(self) -> dict[str, Any]:
        return {
            "api_key": self.api_key,
            "api_secret": self.api_secret,
            "ws_url": self.url,
            "redis": {"address": f"127.0.0.1:{self._redis_port}"},
            "sip_port": self.sip_port,
            "listen_ip": "127.0.0.1",
            "nat_1_to_1_ip": "127.0.0.1",
            "media_nat_1_to_1_ip": "127.0.0.1",
            "rtp_port": f"{self._rtp_port}-{self._rtp_port + _RTP_PORTS - 1}",
            # Otherwise each ended call keeps its port for 30 s.
            "rtp_draining_idle_timeout": "-1s",
            "rtp_draining_duration": "-1s",
            # Above it INVITEs are refused, and a small machine is busy.
            "max_cpu_utilization": 1,
            "logging": {"level": "info"},
        }

    async def route_number(
        self,
        numbers: Sequence[str],
        agent_name: str,
        *,
        metadata: str = "",
        auth: tuple[str, str] | None = None,
        ringing_seconds: int = 0,
    ) -> Inbound:
        """Make an inbound trunk for the numbers, and a rule: a room per caller, with the agent."""
        trunk = api.SIPInboundTrunkInfo(
            name=f"trunk {numbers[0]}",
            numbers=list(numbers),
            include_headers=api.SIPHeaderOptions.SIP_ALL_HEADERS,
            headers_to_attributes={"Diversion": "call.diversion", "History-Info": "call.history-info"},
        )
        if auth is not None:
            trunk.auth_username, trunk.auth_password = auth
        if ringing_seconds:
            trunk.ringing_timeout.FromSeconds(ringing_seconds)
        made = await self.lk.sip.create_inbound_trunk(api.CreateSIPInboundTrunkRequest(trunk=trunk))
        # A rule without trunk ids takes calls to any number.
        rule = await self.lk.sip.create_dispatch_rule(
            api.CreateSIPDispatchRuleRequest(
                dispatch_rule=api.SIPDispatchRuleInfo(
                    name=f"rule {numbers[0]}",
                    trunk_ids=[made.sip_trunk_id],
                    rule=api.SIPDispatchRule(
                        dispatch_rule_individual=api.SIPDispatchRuleIndividual(room_prefix=ROOM_PREFIX)
                    ),
                    room_config=api.RoomConfiguration(
                        agents=[api.RoomAgentDispatch(agent_name=agent_name, metadata=metadata)]
                    ),
                )
            )
        )
        return Inbound(made.sip_trunk_id, rule.sip_dispatch_rule_id)

    async def forget_number(self, inbound: Inbound) -> None:
        """Delete the rule and the trunk."""
        await self.lk.sip.delete_dispatch_rule(api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=inbound.rule_id))
        await self.lk.sip.delete_trunk(api.DeleteSIPTrunkRequest(sip_trunk_id=inbound.trunk_id))

    async def outbound_trunk(self, address: str, number: str = "+15550100") -> str:
        """Make an outbound trunk towards `host:port` and return its id."""
        trunk = api.SIPOutboundTrunkInfo(
            name="outbound", address=address, numbers=[number], transport=api.SIPTransport.SIP_TRANSPORT_UDP
        )
        made = await self.lk.sip.create_outbound_trunk(api.CreateSIPOutboundTrunkRequest(trunk=trunk))
        return made.sip_trunk_id

    async def rooms(self) -> list[str]:
        """Return the names of all rooms."""
        return [room.name for room in (await self.lk.room.list_rooms(api.ListRoomsRequest())).rooms]

    async def participants(self, room: str) -> list[api.ParticipantInfo]:
        """Return who is in a room."""
        return list((await self.lk.room.list_participants(api.ListParticipantsRequest(room=room))).participants)

    async def delete_room(self, room: str) -> None:
        """Delete a room; its calls are hung up. A room that is gone already is no error."""
        try:
            await self.lk.room.delete_room(api.DeleteRoomRequest(room=room))
        except api.TwirpError as error:
            if error.code != api.TwirpErrorCode.NOT_FOUND:
                raise

    async def wait_no_rooms(self, timeout: float = 10.0) -> None:
        """Wait until every room is gone.

        Raises:
            AssertionError: some are left; the sentence names them and who is in them.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while rooms := await self.rooms():
            if asyncio.get_running_loop().time() > deadline:
                left = {room: [p.identity for p in await self.participants(room)] for room in rooms}
                raise AssertionError(f"rooms left after {timeout} s: {left}")
            await asyncio.sleep(0.1)
