"""`telephony.yaml`: the numbers of an installation and the SIP connections they live on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from agent_worker.config.problems import did_you_mean
from agent_worker.config.yaml_file import (
    MAX_TOLD,
    ConfigFile,
    FileKind,
    YamlTree,
    numbers_of,
    read_tree,
    told,
    validated,
)
from agent_worker.domain.number import NumberConfig, TelephonyConfig
from agent_worker.errors import ConfigError

_KIND = FileKind(code="telephony", holds="numbers", start="sipConnections:")
_ANY = frozenset({"0.0.0.0/0", "::/0"})


@dataclass(frozen=True)
class TelephonyFile(ConfigFile):
    """Numbers and connections, and where in the file each of their keys stands.

    Attributes:
        file: path as the operator wrote it.
        config: what the file says, its numbers in E.164.
        notes: what is legal and may still surprise.
    """

    file: str
    config: TelephonyConfig
    tree: YamlTree
    notes: tuple[str, ...] = ()


def read_telephony_file(path: Path) -> TelephonyFile:
    """Read and check the file of numbers and SIP connections.

    Raises:
        ConfigErrors: the file cannot be read, is not YAML, or one or several keys are wrong.
    """
    tree = read_tree(path, _KIND)
    found = TelephonyFile(str(path), validated(tree, TelephonyConfig), tree)
    numbers, problems = _numbers(found)
    problems += _connections(found)
    if problems:
        raise told(tree, problems, len(problems))
    config = found.config.model_copy(update={"numbers": numbers})
    return TelephonyFile(found.file, config, tree, tuple(_notes(found.file, config)))


def _numbers(found: TelephonyFile) -> tuple[list[NumberConfig], list[ConfigError]]:
    rows = found.config.numbers
    written = ((("numbers", index, "e164"), row.e164) for index, row in enumerate(rows))
    e164s, problems = numbers_of(found.tree, written)
    names = [connection.name for connection in found.config.sip_connections]
    for index, row in enumerate(rows):
        if row.sip_connection is not None and row.sip_connection not in names:
            # looking for what was meant takes ms, and no more than these are told
            meant = did_you_mean(row.sip_connection, names) if len(problems) < MAX_TOLD else ""
            problems.append(
                found.problem(
                    "telephony_connection_unknown",
                    ("numbers", index, "sipConnection"),
                    f"There is no SIP connection {row.sip_connection!r}.",
                    meant or "Describe it under sipConnections.",
                )
            )
    numbers = [
        row if row.e164 == e164 else row.model_copy(update={"e164": e164})
        for row, e164 in zip(rows, e164s, strict=True)
        if e164 is not None
    ]
    return numbers, problems


def _connections(found: TelephonyFile) -> Iterator[ConfigError]:
    seen: set[str] = set()
    for index, connection in enumerate(found.config.sip_connections):
        if connection.name in seen:
            yield found.problem(
                "telephony_connection_twice",
                ("sipConnections", index, "name"),
                f"The SIP connection {connection.name!r} stands here twice.",
            )
        seen.add(connection.name)
        for place, written in enumerate(connection.allowed_addresses):
            wrong = _wrong_network(written)
            if wrong:
                yield found.problem(
                    "telephony_address_invalid",
                    ("sipConnections", index, "allowedAddresses", place),
                    f"{written!r} {wrong}",
                    "Write an IP address or a network: 203.0.113.7, 203.0.113.0/24.",
                )


def _wrong_network(written: str) -> str:
    try:
        ip_network(written)
    except ValueError:
        try:
            return f"has bits set after its prefix; {ip_network(written, strict=False)} is the network."
        except ValueError:
            return "is not an IP address or network."
    return ""


def _notes(file: str, config: TelephonyConfig) -> Iterator[str]:
    for connection in config.sip_connections:
        alone = len(config.sip_connections) == 1
        numbers = [n for n in config.numbers if n.sip_connection == connection.name or (alone and not n.sip_connection)]
        asked = [number for number in numbers if number.places_calls and "direction" in number.model_fields_set]
        if connection.address is None and asked:
            yield (
                f"{file}: {connection.name!r} has no address, so its numbers place no calls. "
                "Add `address: sip.carrier.example`."
            )
        if _ANY & set(connection.allowed_addresses) and connection.username_env is None:
            yield (
                f"{file}: {connection.name!r} takes calls from any address without a password. "
                "Name the carrier's addresses, or set usernameEnv and passwordEnv."
            )
