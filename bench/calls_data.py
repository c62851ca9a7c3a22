"""Makes a database with very many calls, fast: rows are copied in without their indexes, which are built afterwards."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from agent_worker.store.engine import database_url, sqlite_file
from agent_worker.store.migrate import upgrade
from agent_worker.store.search_words import position_of, words_of

ORGANIZATION = "org_local"
AGENTS = [f"agent_{index:02d}" for index in range(50)]
CAMPAIGNS = [f"campaign-{index:02d}" for index in range(30)]
OWN_NUMBERS = [f"+1302555{index:04d}" for index in range(20)]
CUSTOMERS = 200_000
FIRST_NAMES = ["Anna", "Ben", "Clara", "David", "Elena", "Farid", "Greta", "Hans", "Ines", "Karin", "Maya", "Omar"]
TOPICS = ["invoice", "delivery", "appointment", "refund", "contract", "password", "reservation", "complaint"]
TOGETHER = 10_000


@dataclass(frozen=True)
class Made:
    """Rows of one call, by table, in the order of `COLUMNS`."""

    calls: tuple[Any, ...]
    recordings: tuple[Any, ...]
    reports: tuple[Any, ...]
    call_search: tuple[Any, ...]


COLUMNS = {
    "calls": "id organization_id agent_id status opened_status kind direction room_name language caller_number "
    "dialed_number pipeline_config provenance metadata structured_data created_at updated_at answered_at ended_at "
    "ended_by duration_seconds disconnection_reason usage_sequence campaign_id done deleted_at revision",
    "recordings": "call_id status duration_ms updated_at sequence location",
    "reports": "call_id organization_id summary outcome structured_data custom_data cost_micro_usd cost_breakdown "
    "artifacts metadata analysis_status customer_name customer_request general_success final_score created_at "
    "updated_at",
    "call_search": "position call_id words",
}


def made(rows: int, seed: int = 7) -> Iterator[Made]:
    """Make calls, oldest first, one every 30 s on average, the last of them a day ago."""
    chance = random.Random(seed)
    vocabulary = [_word(chance) for _ in range(5_000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    last_names = [_word(chance).capitalize() for _ in range(3_000)]
    config = json.dumps({"agentId": "agent", "systemPrompt": "You help people on the phone. " * 40, "kind": "cascade"})
    agents = [1 / (rank + 1) for rank in range(len(AGENTS))]
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1, seconds=30 * rows)
    for index in range(rows):
        at += timedelta(seconds=chance.uniform(1, 59))
        at = at.replace(microsecond=(index * 7919) % 1_000_000)
        name = f"{chance.choice(FIRST_NAMES)} {chance.choice(last_names)}"
        topic = chance.choice(TOPICS)
        said = " ".join(chance.choices(vocabulary, weights, k=14))
        summary = f"The caller, {name}, asked about a {topic}. {said.capitalize()}. The agent answered."
        yield _call(chance, index, at, chance.choices(AGENTS, agents)[0], config, name, topic, summary)


def _call(
    chance: random.Random, index: int, at: datetime, agent: str, config: str, name: str, topic: str, summary: str
) -> Made:
    call_id = f"{chance.getrandbits(32):08x}-{index:012x}"
    outbound = chance.random() < 0.4
    ways = [("ended", "user_hangup"), ("failed", "error"), ("failed", "dial_no_answer"), ("failed", "dial_busy")]
    status, reason = chance.choices(ways, (80, 3, 12, 5) if outbound else (96, 4, 0, 0))[0]
    customer, own = f"+1201{chance.randrange(CUSTOMERS):07d}", chance.choice(OWN_NUMBERS)
    caller, dialed = (own, customer) if outbound else (customer, own)
    campaign = chance.choice(CAMPAIGNS) if outbound else None
    seconds = chance.randrange(20, 400)
    ended = at + timedelta(seconds=seconds)
    deleted = ended if chance.random() < 0.005 else None
    lines = [
        {"provider": provider, "metric": metric, "quantity": seconds, "keySource": "BYOK", "costMicroUsd": "1200"}
        for provider, metric in (("deepgram", "stt_seconds"), ("openai", "llm_output_tokens"))
    ]
    metadata = json.dumps({"campaignId": campaign} if campaign else {})
    return Made(
        calls=(
            *(call_id, ORGANIZATION, agent, status, "connecting", "cascade", "outbound" if outbound else "inbound"),
            *(f"call-{call_id}", "en", caller, dialed, config, "{}", metadata, "{}", at, ended, at, ended),
            *(f"{call_id}:9", seconds, reason, 9, campaign, chance.random() < 0.6, deleted, 1),
        ),
        recordings=(call_id, "ready", seconds * 1000, ended, 8, f"recordings/{call_id}.ogg"),
        reports=(
            *(call_id, ORGANIZATION, summary, "completed", "{}", "{}", "2400", json.dumps(lines), "{}", "{}"),
            *("completed", name, topic, chance.random() < 0.7, chance.randrange(1, 11), ended, ended),
        ),
        call_search=(position_of(at), call_id, words_of(call_id, (caller, dialed), (name, topic, summary))),
    )


def _word(chance: random.Random) -> str:
    return "".join(chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(chance.randrange(2, 5)))


def fill(url: str, rows: int) -> float:
    """Migrate an empty database and fill it; returns how many seconds that took."""
    began = time.monotonic()
    upgrade(url)
    file = sqlite_file(database_url(url))
    if file is not None:
        _fill_sqlite(file, made(rows))
    else:
        _fill_postgresql(url, made(rows))
    return time.monotonic() - began


def _columns(table: str) -> str:
    return ", ".join(f'"{name}"' for name in COLUMNS[table].split())


def _fill_sqlite(file: Path, rows: Iterator[Made]) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    query = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    put_off = [found for found in connection.execute(query).fetchall() if "call" in found[2]]
    for kind, name, _ in put_off:
        connection.execute(f"DROP {kind} {name}")
    while some := list(islice(rows, TOGETHER)):
        for table in COLUMNS:
            places = ", ".join("?" for _ in COLUMNS[table].split())
            values = [[_for_sqlite(value) for value in getattr(row, table)] for row in some]
            connection.executemany(f"INSERT INTO {table} ({_columns(table)}) VALUES ({places})", values)
    for _, _, statement in put_off:
        connection.execute(statement)
    connection.execute("INSERT INTO call_search_words (call_search_words) VALUES ('rebuild')")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _for_sqlite(value: Any) -> Any:
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


def _fill_postgresql(url: str, rows: Iterator[Made]) -> None:
    import psycopg

    target = database_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(target, autocommit=True) as connection:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ANY(%s)"
        put_off = [
            found for found in connection.execute(query, (list(COLUMNS),)).fetchall() if found[0].startswith("ix_")
        ]
        for name, _ in put_off:
            connection.execute(f'DROP INDEX "{name}"')
        while some := list(islice(rows, TOGETHER)):
            for table in COLUMNS:
                _copy(connection, table, (getattr(row, table) for row in some))
        for _, statement in put_off:
            connection.execute(statement)
        connection.execute("VACUUM (ANALYZE)")


def _copy(connection: Any, table: str, rows: Iterable[Sequence[Any]]) -> None:
    with connection.cursor().copy(f"COPY {table} ({_columns(table)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
