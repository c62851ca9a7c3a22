"""What the HTTP API needs: keys and an audit of changes, durable jobs, and what people note about a call."""

from __future__ import annotations

from datetime import UTC

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from agent_worker.store.search_words import position_of, words_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
DUE = sa.text("status = 'pending'")
OPEN = sa.text("status IN ('pending', 'delivering')")


def upgrade() -> None:
    _notes_on_calls()
    _reports()
    _recordings()
    _transfers()
    _jobs()
    _keys()
    _endpoints()
    op.add_column("agents", sa.Column("tool_times", JSON))
    _lists_of_calls()
    _search()
    _deliveries()


def downgrade() -> None:
    op.drop_column("agents", "tool_times")
    _deliveries_as_before()
    for table in ("audit_entries", "api_keys", "jobs"):
        op.drop_table(table)
    with op.batch_alter_table("webhook_endpoints") as endpoints:
        endpoints.drop_column("previous_secret_until")
        endpoints.drop_column("previous_signing_secret")
    with op.batch_alter_table("transfers") as transfers:
        transfers.drop_column("sequence")
    with op.batch_alter_table("recordings") as recordings:
        for column in ("size_bytes", "location", "host"):
            recordings.drop_column(column)
    with op.batch_alter_table("reports") as reports:
        for column in ("score_reason", "final_score", "general_success", "customer_request", "customer_name"):
            reports.drop_column(column)
    _no_search()
    _lists_as_before()
    # one by one: a batch makes SQLite drop the table, and with it every row that belongs to a call
    op.drop_index("ix_calls_room_name_created_at", "calls")
    for column in ("revision", "purged_at", "deleted_at", "employee", "note", "done", "campaign_id"):
        op.drop_column("calls", column)


def _notes_on_calls() -> None:
    with op.batch_alter_table("calls") as calls:
        calls.add_column(sa.Column("campaign_id", sa.Text))
        calls.add_column(sa.Column("done", sa.Boolean, nullable=False, server_default=sa.false()))
        calls.add_column(sa.Column("note", sa.Text))
        calls.add_column(sa.Column("employee", sa.Text))
        calls.add_column(sa.Column("deleted_at", TIME))
        calls.add_column(sa.Column("purged_at", TIME))
        calls.add_column(sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
        calls.create_index("ix_calls_room_name_created_at", ["room_name", "created_at"])


def _reports() -> None:
    with op.batch_alter_table("reports") as reports:
        reports.add_column(sa.Column("customer_name", sa.Text))
        reports.add_column(sa.Column("customer_request", sa.Text))
        reports.add_column(sa.Column("general_success", sa.Boolean))
        reports.add_column(sa.Column("final_score", sa.Integer))
        reports.add_column(sa.Column("score_reason", sa.Text))


def _recordings() -> None:
    with op.batch_alter_table("recordings") as recordings:
        recordings.add_column(sa.Column("host", sa.Text))
        recordings.add_column(sa.Column("location", sa.Text))
        recordings.add_column(sa.Column("size_bytes", sa.BigInteger))


def _transfers() -> None:
    with op.batch_alter_table("transfers") as transfers:
        transfers.add_column(sa.Column("sequence", sa.Integer, nullable=False, server_default="-1"))


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text),
        sa.Column("host", sa.Text),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("claimed_by", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_jobs_call_id", ondelete="CASCADE"),
    )
    op.create_index("ix_jobs_due", "jobs", ["due_at"], sqlite_where=DUE, postgresql_where=DUE)
    op.create_index("ix_jobs_call_id", "jobs", ["call_id"])


def _keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("agent_ids", JSON),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("last_used_at", TIME),
        sa.Column("revoked_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
    )
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_entries"),
    )
    op.create_index("ix_audit_entries_organization_id_created_at", "audit_entries", ["organization_id", "created_at"])


def _endpoints() -> None:
    with op.batch_alter_table("webhook_endpoints") as endpoints:
        endpoints.add_column(sa.Column("previous_signing_secret", sa.Text))
        endpoints.add_column(sa.Column("previous_secret_until", TIME))


def _deliveries() -> None:
    op.drop_table("attempts")  # nothing was sent before this version, so there are none
    op.drop_index("ix_deliveries_due", "deliveries")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_constraint("fk_deliveries_endpoint_id", type_="foreignkey")
        deliveries.drop_column("claimed_until")
    due, lane = ["endpoint_id", "next_attempt_at"], ["endpoint_id", "call_id", "created_at"]
    op.create_index("ix_deliveries_due", "deliveries", due, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_deliveries_lane", "deliveries", lane, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index(
        "ix_deliveries_organization_id_endpoint_id_created_at",
        "deliveries",
        ["organization_id", "endpoint_id", "created_at"],
    )
    op.create_index("ix_deliveries_event_id", "deliveries", ["event_id"])
    _attempts()


def _deliveries_as_before() -> None:
    op.drop_table("attempts")
    for index in ("due", "lane", "organization_id_endpoint_id_created_at", "event_id"):
        op.drop_index(f"ix_deliveries_{index}", "deliveries")
    op.execute("DELETE FROM deliveries WHERE endpoint_id NOT IN (SELECT id FROM webhook_endpoints)")
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.add_column(sa.Column("claimed_until", TIME))
        deliveries.create_foreign_key("fk_deliveries_endpoint_id", "webhook_endpoints", ["endpoint_id"], ["id"])
    op.create_index("ix_deliveries_due", "deliveries", ["next_attempt_at"], sqlite_where=OPEN, postgresql_where=OPEN)
    _attempts(sa.Column("request_body", sa.Text, nullable=False))


def _attempts(*more: sa.Column[str]) -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("delivery_id", sa.Text, nullable=False),
        sa.Column("attempt_number", sa.Integer, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("request_url", sa.Text, nullable=False),
        sa.Column("request_headers", JSON, nullable=False),
        *more,
        sa.Column("response_status", sa.Integer),
        sa.Column("response_body", sa.Text),
        sa.Column("response_truncated", sa.Boolean, nullable=False),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name="fk_attempts_delivery_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("delivery_id", "attempt_number", name="uq_attempts_delivery_id_attempt_number"),
    )


FACET = (
    "CASE status WHEN 'ended' THEN 4 WHEN 'failed' THEN "
    "CASE disconnection_reason WHEN 'dial_no_answer' THEN 12 WHEN 'dial_busy' THEN 16 ELSE 8 END ELSE 0 END"
    " + CASE WHEN direction = 'outbound' THEN 2 ELSE 0 END"
    " + CASE WHEN done THEN 1 ELSE 0 END"
    " + CASE WHEN deleted_at IS NULL THEN 0 ELSE 20 END"
)
UNPURGED = sa.text("purged_at IS NULL")
READY = sa.text("status = 'ready'")
LISTS = {
    "listed": [],
    "by_agent": ["agent_id"],
    "by_campaign": ["campaign_id"],
    "by_caller": ["caller_number"],
    "by_dialed": ["dialed_number"],
}


def _lists_of_calls() -> None:
    op.drop_index("ix_calls_organization_id_agent_id_created_at", "calls")
    stored = "STORED" if op.get_context().dialect.name == "postgresql" else "VIRTUAL"
    op.execute(f"ALTER TABLE calls ADD COLUMN facet INTEGER GENERATED ALWAYS AS ({FACET}) {stored}")
    for name, columns in LISTS.items():
        last = ["agent_id"] if columns not in ([], ["agent_id"]) else []
        op.create_index(f"ix_calls_{name}", "calls", ["organization_id", *columns, "facet", "created_at", *last])
    op.create_index("ix_calls_unpurged", "calls", ["created_at"], sqlite_where=UNPURGED, postgresql_where=UNPURGED)
    op.create_index("ix_recordings_kept", "recordings", ["updated_at"], sqlite_where=READY, postgresql_where=READY)
    id_of_campaign = "coalesce(metadata ->> 'campaignId', metadata ->> 'campaign_id')"
    op.execute(f"UPDATE calls SET campaign_id = {id_of_campaign} WHERE {id_of_campaign} IS NOT NULL")


def _lists_as_before() -> None:
    for name in (*LISTS, "unpurged"):
        op.drop_index(f"ix_calls_{name}", "calls")
    op.drop_index("ix_recordings_kept", "recordings")
    op.drop_column("calls", "facet")
    op.create_index(
        "ix_calls_organization_id_agent_id_created_at", "calls", ["organization_id", "agent_id", "created_at"]
    )


def _search() -> None:
    op.create_table(
        "call_search",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=False, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_call_search"),
        sa.UniqueConstraint("call_id", name="uq_call_search_call_id"),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_call_search_call_id", ondelete="CASCADE"),
    )
    if op.get_context().dialect.name == "postgresql":
        lexemes = "array_to_tsvector(string_to_array(btrim(words), ' '))"
        op.execute(f"ALTER TABLE call_search ADD COLUMN lexemes tsvector GENERATED ALWAYS AS ({lexemes}) STORED")
        op.execute("CREATE INDEX ix_call_search_lexemes ON call_search USING gin (lexemes)")
    else:
        _search_of_sqlite()
    _words_of_known_calls()


def _search_of_sqlite() -> None:
    op.execute(
        "CREATE VIRTUAL TABLE call_search_words USING fts5("
        "words, content='call_search', content_rowid='position', detail=none, columnsize=0, "
        "tokenize='ascii')"  # words come folded, and whatever is not ASCII belongs to them
    )
    op.execute("CREATE VIRTUAL TABLE call_search_words_terms USING fts5vocab('call_search_words', 'instance')")
    add = "INSERT INTO call_search_words (rowid, words) VALUES (new.position, new.words);"
    drop = "INSERT INTO call_search_words (call_search_words, rowid, words) VALUES ('delete', old.position, old.words);"
    for event, does in (("INSERT", add), ("DELETE", drop), ("UPDATE", drop + add)):
        name = f"call_search_{event.lower()}"
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON call_search BEGIN {does} END")


def _words_of_known_calls() -> None:
    calls = sa.table("calls", *map(sa.column, ("id", "caller_number", "dialed_number")), sa.column("created_at", TIME))
    reports = sa.table("reports", *map(sa.column, ("call_id", "summary")))
    search = sa.table("call_search", *map(sa.column, ("position", "call_id", "words")))
    connection = op.get_bind()
    query = sa.select(calls, reports.c.summary).select_from(calls.outerjoin(reports, reports.c.call_id == calls.c.id))
    taken: set[int] = set()
    for call in connection.execute(query.order_by(calls.c.created_at)).mappings().all():
        at = call["created_at"]
        position = position_of(at if at.tzinfo else at.replace(tzinfo=UTC))
        while position in taken:
            position += 1
        taken.add(position)
        words = words_of(call["id"], (call["caller_number"], call["dialed_number"]), (call["summary"],))
        connection.execute(search.insert().values(position=position, call_id=call["id"], words=words))


def _no_search() -> None:
    if op.get_context().dialect.name != "postgresql":
        op.execute("DROP TABLE call_search_words_terms")
        op.execute("DROP TABLE call_search_words")
    op.drop_table("call_search")
