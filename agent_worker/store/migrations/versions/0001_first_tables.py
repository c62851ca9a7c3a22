"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.DateTime(timezone=True)
LIVE = sa.text("ended_at IS NULL")
DUE = sa.text("status IN ('pending', 'delivering')")


def upgrade() -> None:
    _calls()
    _said_and_done()
    _transfers()
    _reports()
    _callbacks()
    _configuration()
    _endpoints()
    _deliveries()


def downgrade() -> None:
    for table in (
        "attempts",
        "deliveries",
        "webhook_endpoints",
        "numbers",
        "agents",
        "callbacks",
        "reports",
        "transfers",
        "recordings",
        "usage",
        "transcript_entries",
        "events",
        "calls",
    ):
        op.drop_table(table)


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("opened_status", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("room_name", sa.Text),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("caller_number", sa.Text),
        sa.Column("dialed_number", sa.Text),
        sa.Column("pipeline_config", JSON, nullable=False),
        sa.Column("provenance", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("structured_data", JSON, nullable=False),
        sa.Column("worker_id", sa.Text),
        sa.Column("job_id", sa.Text),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("answered_at", TIME),
        sa.Column("ended_at", TIME),
        sa.Column("ended_by", sa.Text),
        sa.Column("duration_seconds", sa.Integer),
        sa.Column("disconnection_reason", sa.Text),
        sa.Column("failure_cause", sa.Text),
        sa.Column("sip_status_code", sa.Integer),
        sa.Column("sip_status", sa.Text),
        sa.Column("usage_sequence", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_calls"),
        sa.UniqueConstraint("organization_id", "created_at", name="uq_calls_organization_id_created_at"),
    )
    op.create_index("ix_calls_live", "calls", ["lease_until"], sqlite_where=LIVE, postgresql_where=LIVE)
    op.create_index(
        "ix_calls_organization_id_agent_id_created_at", "calls", ["organization_id", "agent_id", "created_at"]
    )


def _said_and_done() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("failure_cause", sa.Text),
        sa.Column("sip_status_code", sa.Integer),
        sa.Column("sip_status", sa.Text),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_events_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_call_id_occurred_at", "events", ["call_id", "occurred_at"])
    op.create_table(
        "transcript_entries",
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("provider", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("eou_ms", sa.Float),
        sa.Column("llm_ttft_ms", sa.Float),
        sa.Column("tts_ttfb_ms", sa.Float),
        sa.Column("conversational_latency_ms", sa.Float),
        sa.Column("latency_status", sa.Text),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_transcript_entries_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "index", name="pk_transcript_entries"),
    )
    op.create_table(
        "usage",
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("quantity", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_usage_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "position", name="pk_usage"),
    )
    op.create_table(
        "recordings",
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("path", sa.Text),
        sa.Column("duration_ms", sa.Integer),
        sa.Column("detail", sa.Text),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_recordings_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", name="pk_recordings"),
    )


def _transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("transfer_to", sa.Text, nullable=False),
        sa.Column("from_room_name", sa.Text),
        sa.Column("consultation_room_name", sa.Text),
        sa.Column("caller_participant_identity", sa.Text),
        sa.Column("recipient_participant_identity", sa.Text),
        sa.Column("outbound_trunk_id", sa.Text),
        sa.Column("screening_prompt", sa.Text),
        sa.Column("summary", sa.Text),
        sa.Column("failure_cause", sa.Text),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("completed_at", TIME),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_transfers_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_transfers"),
    )
    op.create_index("ix_transfers_call_id_created_at", "transfers", ["call_id", "created_at"])


def _reports() -> None:
    op.create_table(
        "reports",
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("structured_data", JSON, nullable=False),
        sa.Column("custom_data", JSON, nullable=False),
        sa.Column("cost_micro_usd", sa.Text, nullable=False),
        sa.Column("cost_breakdown", JSON, nullable=False),
        sa.Column("artifacts", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("scheduled_callback", JSON),
        sa.Column("voicemail", JSON),
        sa.Column("analysis_status", sa.Text, nullable=False),
        sa.Column("analysis_provider", sa.Text),
        sa.Column("analysis_model", sa.Text),
        sa.Column("analysis_error", sa.Text),
        sa.Column("analysis_completed_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_reports_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", name="pk_reports"),
    )


def _callbacks() -> None:
    op.create_table(
        "callbacks",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("source_session_id", sa.Text),
        sa.Column("created_session_id", sa.Text),
        sa.Column("agent_id", sa.Text),
        sa.Column("phone_number_id", sa.Text),
        sa.Column("to_number", sa.Text, nullable=False),
        sa.Column("from_number", sa.Text),
        sa.Column("scheduled_at", TIME, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("instructions", sa.Text),
        sa.Column("summary", sa.Text),
        sa.Column("pipeline_config", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("failure_cause", sa.Text),
        sa.Column("attempted_at", TIME),
        sa.Column("dispatched_at", TIME),
        sa.Column("cancelled_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["source_session_id"], ["calls.id"], name="fk_callbacks_source_session_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_callbacks"),
    )
    op.create_index("ix_callbacks_source_session_id", "callbacks", ["source_session_id"])
    op.create_index("ix_callbacks_status_scheduled_at", "callbacks", ["status", "scheduled_at"])


def _configuration() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
    )
    op.create_index("ix_agents_organization_id_created_at", "agents", ["organization_id", "created_at"])
    op.create_table(
        "numbers",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("e164", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("sip_trunk_id", sa.Text),
        sa.Column("sip_provider_name", sa.Text),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("dispatch_metadata_template", JSON),
        sa.Column("agent_id", sa.Text),
        sa.Column("label", sa.Text),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_numbers_agent_id", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_numbers"),
        sa.UniqueConstraint("organization_id", "e164", name="uq_numbers_organization_id_e164"),
    )


def _endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events", JSON, nullable=False),
        sa.Column("all_agents", sa.Boolean, nullable=False),
        sa.Column("agent_ids", JSON, nullable=False),
        sa.Column("filter_tags", JSON, nullable=False),
        sa.Column("headers", JSON, nullable=False),
        sa.Column("auth_headers", JSON, nullable=False),
        sa.Column("timeout_ms", sa.Integer, nullable=False),
        sa.Column("signing_secret_source", sa.Text, nullable=False),
        sa.Column("signing_secret", sa.Text),
        sa.Column("extraction_fields", JSON, nullable=False),
        sa.Column("content_mode", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("deleted_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
    )
    op.create_index("ix_webhook_endpoints_organization_id", "webhook_endpoints", ["organization_id"])


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("call_id", sa.Text),
        sa.Column("agent_id", sa.Text),
        sa.Column("webhook_tags", JSON, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False),
        sa.Column("http_status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("durable", sa.Boolean, nullable=False),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("next_attempt_at", TIME),
        sa.Column("claimed_until", TIME),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("delivered_at", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_deliveries_call_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoints.id"], name="fk_deliveries_endpoint_id"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_call_id_created_at", "deliveries", ["call_id", "created_at"])
    op.create_index("ix_deliveries_due", "deliveries", ["next_attempt_at"], sqlite_where=DUE, postgresql_where=DUE)
    op.create_index("ix_deliveries_organization_id_created_at", "deliveries", ["organization_id", "created_at"])
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("delivery_id", sa.Text, nullable=False),
        sa.Column("attempt_number", sa.Integer, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("request_url", sa.Text, nullable=False),
        sa.Column("request_headers", JSON, nullable=False),
        sa.Column("request_body", sa.Text, nullable=False),
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
