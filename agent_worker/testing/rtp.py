"""One call's RTP: PCMU every 20 ms, telephone events, and a recording on the sender's clock."""

from __future__ import annotations

import asyncio
import secrets
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agent_worker.testing.audio import SILENCE_DBFS, Pcm

RATE = 8000
PACKET_SAMPLES = 160
PACKET_SECONDS = PACKET_SAMPLES / RATE

_PCMU = 0
_DTMF_DIGITS = "0123456789*#ABCD"
_DTMF_PACKETS = 5
_DTMF_PAUSE_PACKETS = 5
_HEADER = struct.Struct("!BBHII")


def _decode_table() -> Pcm:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    table: Pcm = np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)
    return table


def _encode_table(decoded: Pcm) -> npt.NDArray[np.uint8]:
    # Each 16-bit value maps to the code whose decoded value is nearest.
    order = np.argsort(decoded, kind="stable")
    steps = decoded[order].astype(np.int32)
    middles = (steps[:-1] + steps[1:]) / 2
    table: npt.NDArray[np.uint8] = order[np.searchsorted(middles, np.arange(-32768, 32768))].astype(np.uint8)
    # Zero has two codes; lines carry the positive one in silence.
    table[table == 0x7F] = 0xFF
    return table


_DECODE = _decode_table()
_ENCODE = _encode_table(_DECODE)
_POWER = np.square(_DECODE.astype(np.float64))
_LOUD_POWER = (32768.0 * 10 ** (SILENCE_DBFS / 20)) ** 2


def pcmu_encode(pcm: Pcm) -> bytes:
    """Return mu-law bytes of 16-bit samples (G.711)."""
    return _ENCODE[pcm.astype(np.int32) + 32768].tobytes()


def pcmu_decode(data: bytes) -> Pcm:
    """Return 16-bit samples of mu-law bytes (G.711)."""
    return _DECODE[np.frombuffer(data, dtype=np.uint8)]


def comfort_noise(seconds: float, sigma: float = 8.0) -> Pcm:
    """Return a quiet line's noise floor (Gaussian, about -72 dBFS by default), the same at every call."""
    noise: Pcm = np.rint(np.random.default_rng(20).normal(0, sigma, int(seconds * RATE))).astype(np.int16)
    return noise


class Packet(NamedTuple):
    """One received audio packet."""

    arrived_at: float
    ssrc: int
    timestamp: int
    payload: bytes


@dataclass(frozen=True)
class Heard:
    """What the phone heard: 8 kHz samples on the RTP clock, and when each packet came (monotonic)."""

    pcm: Pcm
    offsets: npt.NDArray[np.int64]
    arrivals: npt.NDArray[np.float64]

    @property
    def rate(self) -> int:
        """Samples per second."""
        return RATE

    @property
    def first_at(self) -> float | None:
        """When the first packet arrived, or None."""
        return float(self.arrivals[0]) if self.arrivals.size else None

    def moment(self, seconds: float) -> float:
        """Return when the sample at `seconds` was at the ear (monotonic).

        Raises:
            ValueError: nothing was heard.
        """
        if not self.arrivals.size:
            raise ValueError("no audio arrived")
        sample = round(seconds * RATE)
        index = max(0, int(np.searchsorted(self.offsets, sample, side="right")) - 1)
        return float(self.arrivals[index]) + (sample - int(self.offsets[index])) / RATE

    def seconds_at(self, moment: float) -> float:
        """Return the place in the recording that was at the ear at a moment (monotonic)."""
        if not self.arrivals.size:
            return 0.0
        index = max(0, int(np.searchsorted(self.arrivals, moment, side="right")) - 1)
        return max(0.0, int(self.offsets[index]) / RATE + (moment - float(self.arrivals[index])))

    def since(self, moment: float) -> Pcm:
        """Return the samples heard from a moment (monotonic) on."""
        return self.pcm[int(self.seconds_at(moment) * RATE) :]


def assemble(packets: list[Packet]) -> Heard:
    """Lay packets out on the RTP clock, silence where none came.

    A new SSRC, or a clock jump of more than 10 s, is placed by its arrival time.
    """
    if not packets:
        return Heard(np.empty(0, dtype=np.int16), np.empty(0, dtype=np.int64), np.empty(0))
    offsets: list[int] = []
    ssrc, base_timestamp, base_offset = packets[0].ssrc, packets[0].timestamp, 0
    for packet in packets:
        step = (packet.timestamp - base_timestamp + 2**31) % 2**32 - 2**31
        expected = int((packet.arrived_at - packets[0].arrived_at) * RATE)
        if packet.ssrc != ssrc or abs(base_offset + step - expected) > 10 * RATE:
            ssrc, base_timestamp, base_offset, step = packet.ssrc, packet.timestamp, expected, 0
        offsets.append(max(0, base_offset + step))
    pcm = np.zeros(max(o + len(p.payload) for o, p in zip(offsets, packets, strict=True)), dtype=np.int16)
    for offset, packet in zip(offsets, packets, strict=True):
        pcm[offset : offset + len(packet.payload)] = pcmu_decode(packet.payload)
    order = np.argsort(np.array(offsets), kind="stable")
    return Heard(pcm, np.array(offsets, dtype=np.int64)[order], np.array([p.arrived_at for p in packets])[order])


@dataclass
class Playback:
    """A clip being spoken into the phone; moments are monotonic, set as its first and last packet leave."""

    finished: asyncio.Future[None]
    started_at: float | None = None
    ended_at: float | None = None


@dataclass
class _Outgoing:
    payload: bytes
    playback: Playback | None = None
    first: bool = False
    last: bool = False
    event: tuple[int, int, bool] | None = None
    """Digit code, packet number and whether it is the key's release."""


@dataclass
class _Clock:
    sequence: int = field(default_factory=lambda: secrets.randbelow(2**15))
    timestamp: int = field(default_factory=lambda: secrets.randbelow(2**31))
    event_timestamp: int = 0
    ssrc: int = field(default_factory=lambda: secrets.randbelow(2**32))


class RtpStream(asyncio.DatagramProtocol):
    """The media socket of one call; comfort noise goes out when there is nothing to say."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._remote: tuple[str, int] | None = None
        self._dtmf_payload: int | None = None
        self._clock = _Clock()
        self._queue: deque[_Outgoing] = deque()
        noise = pcmu_encode(comfort_noise(1.0))
        self._noise = [noise[at : at + PACKET_SAMPLES] for at in range(0, len(noise), PACKET_SAMPLES)]
        self._ticks = 0
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.sending = False
        self.packets: list[Packet] = []
        self.digits: list[str] = []
        self._last_event: tuple[int, int] | None = None
        self.loud_at: list[float] = []

    @classmethod
    async def open(cls, host: str) -> RtpStream:
        """Bind a free UDP port."""
        loop = asyncio.get_running_loop()
        transport, stream = await loop.create_datagram_endpoint(cls, local_addr=(host, 0))
        stream._transport = transport
        return stream

    @property
    def port(self) -> int:
        """Local UDP port."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def connect(self, remote: tuple[str, int], dtmf_payload: int | None) -> None:
        """Set where packets go, and start sending."""
        self._remote, self._dtmf_payload = remote, dtmf_payload
        self.resume()

    def resume(self) -> None:
        """Send packets (again)."""
        if not self.sending and self._transport is not None:
            self.sending = True
            self._next_at = asyncio.get_running_loop().time()
            self._tick()

    def stop(self) -> None:
        """Send no more packets, as a phone that lost its network; what is queued stays queued."""
        self.sending = False
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Close the socket."""
        self.stop()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        for item in self._queue:
            if item.playback is not None and not item.playback.finished.done():
                item.playback.finished.cancel()

    def play(self, pcm: Pcm) -> Playback:
        """Queue 8 kHz samples; the answer tells when they were spoken."""
        playback = Playback(asyncio.get_running_loop().create_future())
        data = pcmu_encode(pcm)
        data += self._noise[0][: -len(data) % PACKET_SAMPLES]
        count = len(data) // PACKET_SAMPLES
        for index in range(count):
            payload = data[index * PACKET_SAMPLES : (index + 1) * PACKET_SAMPLES]
            self._queue.append(_Outgoing(payload, playback, index == 0, index == count - 1))
        if count == 0:
            playback.finished.set_result(None)
        return playback

    def send_digits(self, digits: str) -> None:
        """Queue key presses of 100 ms with pauses of 100 ms (RFC 4733).

        Raises:
            ValueError: a character is not a key.
        """
        for digit in digits:
            code = _DTMF_DIGITS.index(digit)
            self._queue += [_Outgoing(b"", event=(code, number, False)) for number in range(_DTMF_PACKETS)]
            self._queue.append(_Outgoing(b"", event=(code, _DTMF_PACKETS, True)))
            self._queue += [_Outgoing(self._noise[n]) for n in range(_DTMF_PAUSE_PACKETS)]

    def flush(self) -> None:
        """Drop what is queued (the caller stops talking)."""
        for item in self._queue:
            if item.playback is not None and not item.playback.finished.done():
                item.playback.ended_at = time.monotonic()
                item.playback.finished.set_result(None)
        self._queue.clear()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while self.sending and self._next_at <= loop.time() + 0.001:
            self._send_next()
            self._next_at += PACKET_SECONDS
        if self.sending:
            self._timer = loop.call_at(self._next_at, self._tick)

    def _send_next(self) -> None:
        clock = self._clock
        self._ticks += 1
        item = self._queue.popleft() if self._queue else None
        now = time.monotonic()
        if item is None:
            self._send(_PCMU, self._noise[self._ticks % len(self._noise)], clock.timestamp, marker=False)
        elif item.event is not None:
            self._send_event(*item.event)
        else:
            self._send(_PCMU, item.payload, clock.timestamp, marker=item.first)
            if item.playback is not None and item.first:
                item.playback.started_at = now
            if item.playback is not None and item.last and not item.playback.finished.done():
                item.playback.ended_at = now
                item.playback.finished.set_result(None)
        clock.timestamp = (clock.timestamp + PACKET_SAMPLES) % 2**32

    def _send_event(self, code: int, number: int, released: bool) -> None:
        if self._dtmf_payload is None:
            return
        if number == 0:
            self._clock.event_timestamp = self._clock.timestamp
        duration = (number + (0 if released else 1)) * PACKET_SAMPLES
        payload = struct.pack("!BBH", code, 0x80 | 10 if released else 10, duration)
        # The release is sent three times (RFC 4733 2.5.1.4): its loss would hold the key down.
        for _ in range(3 if released else 1):
            self._send(self._dtmf_payload, payload, self._clock.event_timestamp, marker=number == 0)

    def _send(self, payload_type: int, payload: bytes, timestamp: int, *, marker: bool) -> None:
        clock = self._clock
        head = _HEADER.pack(0x80, payload_type | (0x80 if marker else 0), clock.sequence, timestamp, clock.ssrc)
        clock.sequence = (clock.sequence + 1) % 2**16
        if self._transport is not None and self._remote is not None:
            self._transport.sendto(head + payload, self._remote)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """Keep an audio packet, or note a key press."""
        if len(data) < _HEADER.size or data[0] >> 6 != 2:
            return
        _, kind, _, timestamp, ssrc = _HEADER.unpack_from(data)
        payload = data[_HEADER.size + 4 * (data[0] & 0x0F) :]
        if kind & 0x7F == _PCMU:
            now = time.monotonic()
            self.packets.append(Packet(now, ssrc, timestamp, payload))
            if payload and _POWER[np.frombuffer(payload, dtype=np.uint8)].mean() > _LOUD_POWER:
                self.loud_at.append(now)
        elif kind & 0x7F == self._dtmf_payload and len(payload) >= 4:
            self._note_key(payload, (ssrc, timestamp))

    def _note_key(self, payload: bytes, event: tuple[int, int]) -> None:
        # The release is repeated; one key press has one timestamp.
        if payload[1] & 0x80 and self._last_event != event:
            self._last_event = event
            self.digits.append(_DTMF_DIGITS[payload[0] % len(_DTMF_DIGITS)])

    def error_received(self, exc: Exception) -> None:
        """Ignore ICMP errors: the far end's port closes before its BYE arrives."""
