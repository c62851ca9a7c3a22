"""What the HTTP API needs: keys and an audit of changes, durable jobs, and what people note about a call."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
DUE = sa.text("status = 'pending'")


def upgrade() -> None:
    _notes_on_calls()
    _reports()
    _recordings()
    _jobs()
    _keys()
    _endpoints()


def downgrade() -> None:
    for table in ("audit_entries", "api_keys", "jobs"):
        op.drop_table(table)
    with op.batch_alter_table("webhook_endpoints") as endpoints:
        endpoints.drop_column("previous_secret_until")
        endpoints.drop_column("previous_signing_secret")
    with op.batch_alter_table("recordings") as recordings:
        for column in ("size_bytes", "location", "host"):
            recordings.drop_column(column)
    with op.batch_alter_table("reports") as reports:
        for column in ("score_reason", "final_score", "general_success", "customer_request", "customer_name"):
            reports.drop_column(column)
    with op.batch_alter_table("calls") as calls:
        for column in ("purged_at", "deleted_at", "employee", "note", "done", "campaign_id"):
            calls.drop_column(column)


def _notes_on_calls() -> None:
    with op.batch_alter_table("calls") as calls:
        calls.add_column(sa.Column("campaign_id", sa.Text))
        calls.add_column(sa.Column("done", sa.Boolean, nullable=False, server_default=sa.false()))
        calls.add_column(sa.Column("note", sa.Text))
        calls.add_column(sa.Column("employee", sa.Text))
        calls.add_column(sa.Column("deleted_at", TIME))
        calls.add_column(sa.Column("purged_at", TIME))


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
