"""A link opens one recording in one form until one moment, and nobody else can make one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.recordings.links import Link, LinkSigner
from agent_worker.webhooks.signing import new_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNER = LinkSigner(SECRET)
LINK = Link("call-1", "mono", 1_800_000_000)
TOKEN = SIGNER.token(LINK)


def spelled(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def test_who_has_the_secret_reads_what_another_process_made() -> None:
    """Several replicas agree, as long as they have the same secret; one with another has no part in it."""
    assert LinkSigner(SECRET).read(TOKEN) == LINK
    assert LinkSigner(new_secret()).read(TOKEN) is None


def test_every_single_changed_bit_breaks_it() -> None:
    """Neither the id, the form and the time, nor the signature can be changed."""
    raw = raw_of(TOKEN)
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert SIGNER.read(spelled(bytes(changed))) is None


@pytest.mark.parametrize(
    "claim",
    [
        ["../webhook-secret", "mono", 1_900_000_000],
        ["call-1", "dual", 1_800_000_000],
        ["call-1", "mono", 9_999_999_999],
    ],
)
def test_another_claim_needs_another_signature(claim: list[object]) -> None:
    """A signature of one claim, of none, or made with the webhooks' secret itself, is none of another."""
    text = json.dumps(claim, separators=(",", ":")).encode()
    for signature in (
        raw_of(TOKEN)[:32],
        bytes(32),
        hmac.new(SECRET.encode(), text, hashlib.sha256).digest(),
        hashlib.sha256(text).digest(),
    ):
        assert SIGNER.read(spelled(signature + text)) is None


@pytest.mark.parametrize(
    "odd", [["call-1", "mono"], ["call-1", "mono", 1.5], ["call-1", "stereo", 1], {"a": 1}, None, [1, "mono", 1]]
)
def test_a_claim_of_another_shape_is_none_even_when_it_is_signed(odd: object) -> None:
    """What a later version might sign is not misread by this one."""
    text = json.dumps(odd, separators=(",", ":")).encode()
    key = hmac.new(SECRET.encode(), b"agent_worker recording links, version 1", hashlib.sha256).digest()
    assert SIGNER.read(spelled(hmac.new(key, text, hashlib.sha256).digest() + text)) is None


@pytest.mark.parametrize(
    "other", [TOKEN + "=", TOKEN + "A", TOKEN[:-1], f" {TOKEN}", TOKEN + "\n", TOKEN[:10] + "!" + TOKEN[10:]]
)
def test_a_token_has_one_spelling(other: str) -> None:
    """Padding, blanks and characters a decoder skips make another token, which is none."""
    assert SIGNER.read(other) is None


@given(st.text(max_size=300))
def test_no_text_is_a_token_or_an_error(text: str) -> None:
    """Whatever stands in the address, the answer is no."""
    assert SIGNER.read(text) is None
