"""SIP messages as text: parsing, building, digest credentials, and the session descriptions they carry."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

_COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
}


@dataclass
class SipMessage:
    """One request or response; headers keep their order and may repeat."""

    start_line: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @classmethod
    def parse(cls, datagram: bytes) -> SipMessage:
        """Read a datagram.

        Raises:
            ValueError: it is not a SIP message.
        """
        head, _, body = datagram.partition(b"\r\n\r\n")
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "replace")).split("\r\n")
        if "SIP/2.0" not in lines[0]:
            raise ValueError(f"not a SIP message: {lines[0][:40]!r}")
        headers: list[tuple[str, str]] = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers.append((_COMPACT.get(name.strip().lower(), name.strip()), value.strip()))
        return cls(lines[0], headers, body)

    def encode(self) -> bytes:
        """Return the datagram, with Content-Length set from the body."""
        lines = [self.start_line, *(f"{name}: {value}" for name, value in self.headers)]
        lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body

    def all(self, name: str) -> list[str]:
        """Return every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str, default: str = "") -> str:
        """Return the first value of a header, or the default."""
        values = self.all(name)
        return values[0] if values else default

    @property
    def is_response(self) -> bool:
        """Whether this is a response."""
        return self.start_line.startswith("SIP/2.0")

    @property
    def status(self) -> int:
        """Status code of a response, 0 of a request."""
        return int(self.start_line.split(" ", 2)[1]) if self.is_response else 0

    @property
    def reason(self) -> str:
        """Reason phrase of a response."""
        return self.start_line.split(" ", 2)[2] if self.is_response else ""

    @property
    def method(self) -> str:
        """Method of a request, and of the request a response answers."""
        return self.header("CSeq").partition(" ")[2].strip() if self.is_response else self.start_line.split(" ")[0]

    @property
    def cseq(self) -> int:
        """Sequence number."""
        return int(self.header("CSeq", "0").split(" ")[0])

    @property
    def call_id(self) -> str:
        """Dialog's Call-ID."""
        return self.header("Call-ID")

    def respond(
        self, status: int, reason: str, *, tag: str = "", extra: tuple[tuple[str, str], ...] = ()
    ) -> SipMessage:
        """Return a response: Via, From, To, Call-ID and CSeq copied, a To tag added if missing."""
        headers = [(name, value) for name, value in self.headers if name.lower() in ("via", "from", "call-id", "cseq")]
        to = self.header("To")
        if tag and ";tag=" not in to:
            to += f";tag={tag}"
        headers.append(("To", to))
        headers += [("Record-Route", route) for route in self.all("Record-Route")]
        headers += list(extra)
        return SipMessage(f"SIP/2.0 {status} {reason}", headers)


def header_uri(value: str) -> str:
    """Return the URI of a From, To, Contact or Refer-To value."""
    inside = re.search(r"<([^>]*)>", value)
    return inside.group(1) if inside else value.split(";")[0].strip()


def uri_user(uri: str) -> str:
    """Return the user part of a SIP URI (a number, mostly)."""
    found = re.match(r"sips?:([^@;]*)@", uri)
    return found.group(1) if found else ""


def uri_address(uri: str) -> tuple[str, int] | None:
    """Return host and port of a SIP URI, port 5060 when it names none; None when it is not one."""
    found = re.match(r"sips?:(?:[^@]*@)?([^:;>?]+)(?::(\d+))?", uri)
    return (found.group(1), int(found.group(2) or 5060)) if found else None


def new_branch() -> str:
    """Return a Via branch (RFC 3261 8.1.1.7)."""
    return f"z9hG4bK{secrets.token_hex(8)}"


def digest_credentials(challenge: str, method: str, uri: str, username: str, password: str) -> str:
    """Return the Authorization value that answers a Digest challenge (MD5, with or without qop=auth)."""
    fields = _fields(challenge)
    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    first = _md5(f"{username}:{realm}:{password}")
    second = _md5(f"{method}:{uri}")
    value = f'Digest username="{username}", realm="{realm}", nonce="{nonce}", uri="{uri}", algorithm=MD5'
    if "auth" in fields.get("qop", "").split(","):
        cnonce, count = secrets.token_hex(8), "00000001"
        answer = _md5(f"{first}:{nonce}:{count}:{cnonce}:auth:{second}")
        value += f', qop=auth, nc={count}, cnonce="{cnonce}"'
    else:
        answer = _md5(f"{first}:{nonce}:{second}")
    if "opaque" in fields:
        value += f', opaque="{fields["opaque"]}"'
    return f'{value}, response="{answer}"'


def credentials_match(value: str, method: str, username: str, password: str) -> bool:
    """Return whether an Authorization value without qop answers its challenge with this user and password."""
    fields = _fields(value)
    first = _md5(f"{username}:{fields.get('realm', '')}:{password}")
    second = _md5(f"{method}:{fields.get('uri', '')}")
    return fields.get("response") == _md5(f"{first}:{fields.get('nonce', '')}:{second}")


def _fields(value: str) -> dict[str, str]:
    return {key: quoted or bare for key, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', value)}


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class MediaDescription:
    """What a session description says about the one audio stream."""

    host: str
    port: int
    pcmu: bool
    dtmf_payload: int | None

    @classmethod
    def parse(cls, body: bytes) -> MediaDescription:
        """Read an SDP body.

        Raises:
            ValueError: it has no audio line.
        """
        text = body.decode("utf-8", "replace")
        audio = re.search(r"^m=audio (\d+) \S+ ([\d ]+)", text, re.MULTILINE)
        if audio is None:
            raise ValueError("session description without audio")
        address = re.search(r"^c=IN IP4 (\S+)", text, re.MULTILINE)
        event = re.search(r"^a=rtpmap:(\d+) telephone-event/8000", text, re.MULTILINE | re.IGNORECASE)
        return cls(
            host=address.group(1) if address else "127.0.0.1",
            port=int(audio.group(1)),
            pcmu="0" in audio.group(2).split(),
            dtmf_payload=int(event.group(1)) if event else None,
        )


def audio_offer(host: str, port: int, *, direction: str = "sendrecv", version: int = 1) -> bytes:
    """Return an SDP body with PCMU and telephone-event at 20 ms."""
    lines = [
        "v=0",
        f"o=- {port} {version} IN IP4 {host}",
        "s=phone",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        f"a={direction}",
    ]
    return ("\r\n".join(lines) + "\r\n").encode()
