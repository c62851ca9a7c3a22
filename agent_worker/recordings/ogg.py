"""What is read of, and changed in, an Ogg Opus file: its first page, which says how to play it, and its last.

A file that says it has one channel is played as the mix of both, whatever its packets hold (RFC 7845, 5.1): the mono
recording is the stereo one with one byte and a checksum changed, so it costs nothing to make and has the same length.
"""

from __future__ import annotations

import struct
from pathlib import Path

HEAD_BYTES = 512
"""Enough of a file's beginning for its first page, which has 47 bytes."""

TAIL_BYTES = 131_072
"""Enough of a file's end for a whole page and the beginning of a torn one."""

_CAPTURE, _MAGIC = b"OggS", b"OpusHead"
_PAGE = struct.Struct("<4sBBqIIIB")
_CHECKSUM = slice(22, 26)
_UNITS_PER_MS = 48
_UNFINISHED = -1


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = ((value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_TABLE = _crc_table()


def mono_head(head: bytes) -> bytes:
    """Return a file's beginning with its first page saying that there is one channel; what is no Opus is left alone."""
    page_bytes = _first_page(head)
    if page_bytes is None:
        return head
    page, magic = bytearray(head[:page_bytes]), head.index(_MAGIC)
    page[magic + 9] = 1
    page[_CHECKSUM] = bytes(4)
    page[_CHECKSUM] = struct.pack("<I", _checksum(page))
    return bytes(page) + head[page_bytes:]


def played_ms(head: bytes, tail: bytes) -> int | None:
    """Return how long a file plays, ms, by its first and its last page; None where it has none.

    Args:
        tail: the file's last bytes; a torn last page counts as far as it says.
    """
    if _first_page(head) is None:
        return None
    skipped = struct.unpack_from("<H", head, head.index(_MAGIC) + 10)[0]
    at = tail.rfind(_CAPTURE)
    while at >= 0:
        if len(tail) - at >= _PAGE.size:
            position = int(_PAGE.unpack_from(tail, at)[3])
            if position != _UNFINISHED:
                return int(max(0, position - skipped) // _UNITS_PER_MS)
        at = tail.rfind(_CAPTURE, 0, at)
    return None


def played_ms_of(path: Path) -> int | None:
    """Return how long the file plays, ms.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return played_ms(head, file.read())


def _first_page(head: bytes) -> int | None:
    """Return the length of the first page where it is that of an Opus stream of one or two channels."""
    if len(head) < _PAGE.size or not head.startswith(_CAPTURE):
        return None
    segments = head[26]
    begin = _PAGE.size + segments
    length = begin + sum(head[_PAGE.size : begin])
    packet = head[begin:length]
    known = len(head) >= length and packet.startswith(_MAGIC) and len(packet) >= 19 and packet[18] == 0
    return length if known else None


def _checksum(page: bytes | bytearray) -> int:
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ _TABLE[(value >> 24) ^ byte]
    return value
