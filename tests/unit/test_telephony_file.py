"""telephony.yaml: what is read from it, and how its mistakes are told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent_worker.config.problems import ConfigErrors
from agent_worker.config.telephony_file import TelephonyFile, read_telephony_file

CARRIER = "sipConnections:\n  - name: carrier\n    allowedAddresses: [203.0.113.0/24]\n"


def read(folder: Path, text: str) -> TelephonyFile:
    path = folder / "telephony.yaml"
    path.write_text(text, encoding="utf-8")
    return read_telephony_file(path)


def test_numbers_come_out_in_e164_and_connections_whole(tmp_path: Path) -> None:
    """However a number is written, it is one of ours."""
    found = read(
        tmp_path,
        CARRIER
        + "    address: sip.carrier.example:5060\nnumbers:\n  - e164: +1 (201) 555-0123\n    agentId: desk\n    sipConnection: carrier\n"
        + "  - e164: '0012015550124'\n    direction: outbound\n",
    )

    assert [number.e164 for number in found.config.numbers] == ["+12015550123", "+12015550124"]
    assert [number.takes_calls for number in found.config.numbers] == [True, False]
    assert found.config.sip_connections[0].allowed_addresses == ["203.0.113.0/24"]
    assert found.notes == ()
    assert found.problem("x", ("numbers", 1, "agentId"), "y").line == 9


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "telephony.yaml: The file holds no numbers. Start with `sipConnections:`."),
        ("numbers:\n  - e164: +12015550123\n", 'is 12015550123. Put it in quotes: "+12015550123".'),
        ("numbers:\n  - e164: extension 12\n", "telephony.yaml:2: 'extension 12' is not a phone number."),
        (
            "numbers:\n  - e164: '+12015550123'\n  - e164: '001 201 555 0123'\n",
            "telephony.yaml:3: +12015550123 stands here twice.",
        ),
        (
            CARRIER + "numbers:\n  - e164: '+12015550123'\n    sipConnection: carier\n",
            "telephony.yaml:6: There is no SIP connection 'carier'. Did you mean 'carrier'?",
        ),
        (
            "numbers:\n  - e164: '+12015550123'\n    sipConnection: carrier\n",
            "There is no SIP connection 'carrier'. Describe it under sipConnections.",
        ),
        (CARRIER + "  - name: carrier\n", "telephony.yaml:4: The SIP connection 'carrier' stands here twice."),
        (
            "sipConnections:\n  - name: a\n    allowedAddresses:\n      - 203.0.113.9\n      - pbx.example\n",
            "telephony.yaml:5: 'pbx.example' is not an IP address or network.",
        ),
        (
            "sipConnections:\n  - name: a\n    allowedAddresses: [203.0.113.9/24]\n",
            "telephony.yaml:3: '203.0.113.9/24' has bits set after its prefix; 203.0.113.0/24 is the network.",
        ),
        (
            "sipConnections:\n  - name: a\n    usernameEnv: A\n",
            "telephony.yaml:2: sipConnections[0] must have both of usernameEnv and passwordEnv, or neither.",
        ),
        (
            "sipConnections:\n  - name: My Carrier\n",
            "sipConnections[0].name must be small letters, digits and dashes, at most 63, is 'My Carrier'.",
        ),
        (
            "sipConnections:\n  - name: a\n    password: hunter2\n",
            "telephony.yaml:3: There is no key 'sipConnections[0].password'. Did you mean 'passwordEnv'?",
        ),
        (
            "sipConnections:\n  - name: a\n    address: sip:x@carrier.example\n",
            "telephony.yaml:3: sipConnections[0].address must be a host, or host:port, is 'sip:x@carrier.example'.",
        ),
        (
            "numbers:\n  - e164: '+12015550123'\n    direction: in\n",
            "numbers[0].direction must be one of 'inbound', 'outbound' or 'both', is 'in'.",
        ),
        ("agents: []\n", "telephony.yaml:1: There is no key 'agents'. Valid here: numbers, sipConnections."),
    ],
)
def test_mistakes_are_told_at_their_place(tmp_path: Path, text: str, told: str) -> None:
    """One sentence with the line, and the remedy where there is one."""
    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path, text)

    [problem] = caught.value.problems
    assert told in str(problem).replace(f"{tmp_path}/", "")
    assert "hunter2" not in str(problem)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Of numbers and of connections."""
    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path, CARRIER + "  - name: carrier\nnumbers:\n  - e164: x12\n    sipConnection: nobody\n")

    assert [problem.line for problem in caught.value.problems] == [4, 6, 7]


def test_a_connection_without_an_address_places_no_calls(tmp_path: Path) -> None:
    """Said only where a number was meant to place calls."""
    number = "numbers:\n  - e164: '+12015550123'\n"
    assert read(tmp_path, CARRIER + number).notes == ()
    assert read(tmp_path, CARRIER + number + "    direction: inbound\n").notes == ()

    [note] = read(tmp_path, CARRIER + number + "    direction: both\n").notes

    assert "'carrier' has no address, so its numbers place no calls." in note


def test_a_door_open_to_anybody_is_noted(tmp_path: Path) -> None:
    """Any address, and no password."""
    opened = CARRIER.replace("203.0.113.0/24", "0.0.0.0/0")

    [note] = read(tmp_path, opened).notes

    assert "takes calls from any address without a password" in note
    assert read(tmp_path, opened + "    usernameEnv: A\n    passwordEnv: B\n").notes == ()


def test_the_example_that_ships_is_right(root: Path) -> None:
    """Read without a mistake, and its agent is the one that ships."""
    found = read_telephony_file(root / "deploy" / "telephony.example.yaml")

    assert len(found.config.numbers) == 3
    assert {number.agent_id for number in found.config.numbers if number.takes_calls} == {"front-desk"}
    assert found.notes == ()


def test_of_very_many_mistakes_the_first_are_told(tmp_path: Path) -> None:
    """At once, also where each has many names that might have been meant."""
    carriers = "".join(f"  - name: carrier-number-{index}\n" for index in range(100))
    numbers = "".join(
        f'  - {{e164: "+1201555{index:04d}", sipConnection: carier-numbr-{index}}}\n' for index in range(10_000)
    )
    started = time.monotonic()
    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path, f"sipConnections:\n{carriers}numbers:\n{numbers}")
    assert time.monotonic() - started < 5
    assert len(caught.value.problems) == 101
    assert "Did you mean 'carrier-number-9" in str(caught.value.problems[99])
    assert "9900 more mistakes are not listed." in str(caught.value.problems[100])
