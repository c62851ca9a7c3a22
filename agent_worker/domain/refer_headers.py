"""SIP headers an operator adds to a REFER: what the bridge and the carriers write themselves is not theirs to write."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

MOST_CHARS = 4_096
"""Names and values together: a request that no longer fits in a packet or two reaches nobody."""

_RESERVED = frozenset(
    "accept accept-contact allow allow-events authentication-info authorization call-id contact cseq date diversion "
    "event expires from geolocation history-info identity identity-info join max-forwards mime-version min-se "
    "p-access-network-info p-asserted-identity p-charging-vector p-preferred-identity path record-route "
    "refer-sub refer-to referred-by reject-contact remote-party-id replaces request-disposition require route rseq "
    "security-client security-server security-verify server service-route session-expires supported target-dialog to "
    "unsupported user-agent via www-authenticate".split()
)
"""Who is calling whom, on which way, with what right, and what the dialogue itself stands on."""

_RESERVED_BEGINNINGS = ("content-", "proxy-")


def is_reserved(name: str) -> bool:
    """Return whether a header of a REFER is not an operator's to write; one letter is a compact form: `v` is Via."""
    folded = name.lower()
    return len(folded) == 1 or folded in _RESERVED or folded.startswith(_RESERVED_BEGINNINGS)


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
ReferHeaders = Annotated[
    dict[ReferHeaderName, ReferHeaderValue], Field(max_length=20), AfterValidator(_bounded)
]
