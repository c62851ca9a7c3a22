"""SIP headers an operator adds to a REFER: what the bridge and the carriers write themselves is not theirs to write."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

MOST_CHARS = 4_096
"""Names and values together: a request that no longer fits in a packet or two reaches nobody."""

_RESERVED = re.compile(
    "[a-z]"  # a compact form: v is Via
    "|via|from|to|contact|call-id|cseq|max-forwards|route|record-route|service-route|path|content-.*|mime-version"
    "|refer-to|referred-by|refer-sub|replaces|join|target-dialog|event|allow|allow-events|supported|unsupported|require"
    "|expires|session-expires|min-se|date|user-agent|server|request-disposition|accept-contact|reject-contact"
    "|authorization|www-authenticate|proxy-.*|security-.*|p-asserted-identity|p-preferred-identity|remote-party-id"
    "|identity|identity-info|diversion|history-info|geolocation|p-access-network-info|p-charging-vector",
    re.IGNORECASE,
)
"""Who is calling whom, on which way, with what right, and what the dialogue itself stands on."""


def is_reserved(name: str) -> bool:
    """Return whether a header of a REFER is not an operator's to write."""
    return _RESERVED.fullmatch(name) is not None


def _free(name: str) -> str:
    if is_reserved(name):
        raise ValueError("must be a header of your own, such as X-Account: this one is written by the SIP bridge")
    return name


def _bounded(headers: dict[str, str]) -> dict[str, str]:
    if sum(len(name) + len(value) for name, value in headers.items()) > MOST_CHARS:
        raise ValueError(f"must be at most {MOST_CHARS} characters, names and values together")
    return headers


ReferHeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.!%*_+`'~-]{1,64}$"), AfterValidator(_free)]
ReferHeaderValue = Annotated[str, Field(max_length=1_024, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]
ReferHeaders = Annotated[dict[ReferHeaderName, ReferHeaderValue], Field(max_length=20), AfterValidator(_bounded)]
