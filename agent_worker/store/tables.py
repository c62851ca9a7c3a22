"""Every table, in one metadata object: what a call leaves behind, who answers it, and whom we tell."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    UniqueConstraint,
)
from sqlalchemy import text as sql

from agent_worker.store.columns import NullableJson, json_list, json_object, moment, text
from agent_worker.store.columns import metadata as metadata
from agent_worker.store.key_tables import api_keys as api_keys
from agent_worker.store.key_tables import audit_entries as audit_entries


def _of_call(**options: Any) -> Column[Any]:
    return Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), nullable=False, **options)


# What most lists are filtered by, in one number, so that every list is a few ranges of an index:
# 4 x (0 in progress, 1 completed, 2 failed, 3 no answer, 4 busy) + 2 if outbound + 1 if done + 20 if deleted.
FACET = (
    "CASE status WHEN 'ended' THEN 4 WHEN 'failed' THEN "
    "CASE disconnection_reason WHEN 'dial_no_answer' THEN 12 WHEN 'dial_busy' THEN 16 ELSE 8 END ELSE 0 END"
    " + CASE WHEN direction = 'outbound' THEN 2 ELSE 0 END"
    " + CASE WHEN done THEN 1 ELSE 0 END"
    " + CASE WHEN deleted_at IS NULL THEN 0 ELSE 20 END"
)
UNPURGED = sql("purged_at IS NULL")
READY = sql("status = 'ready'")

calls = Table(
    "calls",
    metadata,
    text("id", primary_key=True),
    text("organization_id", null=False),
    text("agent_id"),
    text("status", null=False),
    text("opened_status", null=False),  # the status before anybody answered
    text("kind", null=False, default="cascade"),
    text("direction", null=False),
    text("room_name"),
    text("language", null=False, default="en"),
    text("caller_number"),
    text("dialed_number"),
    json_object("pipeline_config"),
    json_object("provenance"),
    json_object("metadata"),
    json_object("structured_data"),
    text("worker_id"),
    text("job_id"),
    moment("lease_until"),
    moment("created_at", null=False),
    moment("updated_at", null=False),
    moment("answered_at"),
    moment("ended_at"),
    text("ended_by"),  # id of the fact that ended the call
    Column("duration_seconds", Integer),
    text("disconnection_reason"),
    text("failure_cause"),
    Column("sip_status_code", Integer),
    text("sip_status"),
    Column("usage_sequence", Integer, nullable=False, default=-1),
    text("campaign_id"),  # metadata.campaignId, kept apart so that lists can be filtered by it
    Column("done", Boolean, nullable=False, default=False, server_default=sql("false")),
    text("note"),
    text("employee"),
    moment("deleted_at"),
    moment("purged_at"),
    Column("revision", Integer, nullable=False, default=0, server_default="0"),  # grows with each change by facts
    Column("facet", Integer, Computed(FACET)),
    # A cursor of the API is a time: no two calls of an organization may share it.
    UniqueConstraint("organization_id", "created_at"),
    # Lists are merged from ranges of these: one for each facet that passes the filters (store/call_lists.py).
    Index("ix_calls_listed", "organization_id", "facet", "created_at"),
    Index("ix_calls_by_agent", "organization_id", "agent_id", "facet", "created_at"),
    # the agent at their end: it is filtered by within them
    Index("ix_calls_by_campaign", "organization_id", "campaign_id", "facet", "created_at", "agent_id"),
    Index("ix_calls_by_caller", "organization_id", "caller_number", "facet", "created_at", "agent_id"),
    Index("ix_calls_by_dialed", "organization_id", "dialed_number", "facet", "created_at", "agent_id"),
    Index("ix_calls_unpurged", "created_at", sqlite_where=UNPURGED, postgresql_where=UNPURGED),
    Index(None, "room_name", "created_at"),
    Index(
        "ix_calls_live",
        "lease_until",
        sqlite_where=sql("ended_at IS NULL"),
        postgresql_where=sql("ended_at IS NULL"),
    ),
)

# The words a call is found by, normalised (store/call_search.py). The database's own index over them, FTS5 or GIN,
# is made by the migration: it has no common description.
call_search = Table(
    "call_search",
    metadata,
    # microseconds of the call's `created_at`, or a little later: what is found comes in the order of calls
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), nullable=False, unique=True),
    text("words", null=False),
)

events = Table(
    "events",
    metadata,
    text("id", primary_key=True),
    _of_call(),
    text("provider", null=False),
    text("event_type", null=False),
    text("status"),
    text("failure_cause"),
    Column("sip_status_code", Integer),
    text("sip_status"),
    moment("occurred_at", null=False),
    Column("sequence", Integer, nullable=False),
    json_object("payload"),
    moment("created_at", null=False),
    Index(None, "call_id", "occurred_at"),
)

transcript_entries = Table(
    "transcript_entries",
    metadata,
    _of_call(primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    text("source", null=False),
    text("text", null=False),
    moment("started_at", null=False),
    moment("ended_at"),
    text("provider"),
    text("model"),
    json_object("metadata"),
    Column("eou_ms", Float),
    Column("llm_ttft_ms", Float),
    Column("tts_ttfb_ms", Float),
    Column("conversational_latency_ms", Float),
    text("latency_status"),
    Column("sequence", Integer, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    _of_call(primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    text("provider", null=False),
    text("model"),
    text("metric", null=False),
    Column("quantity", Float, nullable=False),
)

recordings = Table(
    "recordings",
    metadata,
    _of_call(primary_key=True),
    text("status", null=False),
    text("path"),
    Column("duration_ms", Integer),
    text("detail"),
    moment("updated_at", null=False),
    Column("sequence", Integer, nullable=False),
    text("host"),  # whose disk `path` is on
    text("location"),  # key in the recording store, once it is there
    Column("size_bytes", BigInteger),
    Index("ix_recordings_kept", "updated_at", sqlite_where=READY, postgresql_where=READY),
)

transfers = Table(
    "transfers",
    metadata,
    text("id", primary_key=True),
    _of_call(),
    text("organization_id", null=False),
    text("kind", null=False),
    text("status", null=False),
    text("transfer_to", null=False),
    text("from_room_name"),
    text("consultation_room_name"),
    text("caller_participant_identity"),
    text("recipient_participant_identity"),
    text("outbound_trunk_id"),
    text("screening_prompt"),
    text("summary"),
    text("failure_cause"),
    json_object("metadata"),
    moment("created_at", null=False),
    moment("updated_at", null=False),
    moment("completed_at"),
    Column("sequence", Integer, nullable=False, default=-1, server_default="-1"),
    Index(None, "call_id", "created_at"),
)

reports = Table(
    "reports",
    metadata,
    _of_call(primary_key=True),
    text("organization_id", null=False),
    text("summary", null=False),
    text("outcome", null=False),
    json_object("structured_data"),
    json_object("custom_data"),
    text("cost_micro_usd", null=False),  # decimal string, as the contract writes it
    json_list("cost_breakdown"),
    json_object("artifacts"),
    json_object("metadata"),
    Column("scheduled_callback", NullableJson),
    Column("voicemail", NullableJson),
    text("analysis_status", null=False),
    text("analysis_provider"),
    text("analysis_model"),
    text("analysis_error"),
    moment("analysis_completed_at"),
    text("customer_name"),
    text("customer_request"),
    Column("general_success", Boolean),
    Column("final_score", Integer),
    text("score_reason"),
    moment("created_at", null=False),
    moment("updated_at", null=False),
)

agents = Table(
    "agents",
    metadata,
    text("id", primary_key=True),
    text("organization_id", null=False),
    text("name", null=False),
    json_object("config"),  # camelCase, the keys of an agent file
    Column("tool_times", NullableJson),  # name -> [made, changed] of tools added or changed on their own
    Column("version", Integer, nullable=False, default=1),
    moment("created_at", null=False),
    moment("updated_at", null=False),
    Index(None, "organization_id", "created_at"),
    Index("ix_agents_state", "organization_id", "updated_at", "version"),
)

numbers = Table(
    "numbers",
    metadata,
    text("id", primary_key=True),
    text("organization_id", null=False),
    text("e164", null=False),
    text("source", null=False, default="sip_trunk"),
    text("sip_trunk_id"),
    text("sip_provider_name"),
    text("direction", null=False),
    Column("dispatch_metadata_template", NullableJson),
    text("agent_id"),  # of a row, or the name of an agent that is a file
    text("label"),
    text("sip_connection"),
    Column("version", Integer, nullable=False, default=1, server_default="1"),
    moment("created_at", null=False),
    moment("updated_at", null=False),
    UniqueConstraint("organization_id", "e164"),
    Index("ix_numbers_state", "organization_id", "updated_at", "version"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    text("id", primary_key=True),
    text("organization_id", null=False),
    text("name", null=False),
    text("url", null=False),
    json_list("events"),
    Column("all_agents", Boolean, nullable=False, default=True),
    json_list("agent_ids"),
    json_object("filter_tags"),
    json_object("headers"),
    json_list("auth_headers"),
    Column("timeout_ms", Integer, nullable=False, default=8_000),
    text("signing_secret_source", null=False, default="workspace"),
    text("signing_secret"),
    text("previous_signing_secret"),
    moment("previous_secret_until"),
    json_list("extraction_fields"),
    text("content_mode", null=False, default="full"),
    moment("created_at", null=False),
    moment("updated_at", null=False),
    moment("deleted_at"),
    Index(None, "organization_id"),
)

OPEN = sql("status IN ('pending', 'delivering')")

deliveries = Table(
    "deliveries",
    metadata,
    text("id", primary_key=True),
    text("event_id", null=False),
    text("endpoint_id", null=False),  # a row's, or agent:<agent_id>:<hook>, which stands in the configuration
    text("organization_id", null=False),
    text("event", null=False),
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE")),
    text("agent_id"),
    json_object("webhook_tags"),
    text("status", null=False),  # pending delivering succeeded failed cancelled expired
    Column("attempt_count", Integer, nullable=False, default=0),
    Column("http_status", Integer),
    text("error"),
    json_object("payload"),
    Column("durable", Boolean, nullable=False),  # retried until it expires; else one attempt
    moment("occurred_at", null=False),
    moment("next_attempt_at"),  # while it is being delivered: when the claim runs out
    moment("expires_at", null=False),
    moment("delivered_at"),
    moment("created_at", null=False),  # grows within a process: the order of a call's deliveries
    Index(None, "call_id", "created_at"),
    Index(None, "organization_id", "created_at"),
    Index(None, "organization_id", "endpoint_id", "created_at"),
    Index(None, "event_id"),
    Index("ix_deliveries_due", "endpoint_id", "next_attempt_at", sqlite_where=OPEN, postgresql_where=OPEN),
    Index("ix_deliveries_lane", "endpoint_id", "call_id", "created_at", sqlite_where=OPEN, postgresql_where=OPEN),
)

attempts = Table(
    "attempts",
    metadata,
    text("id", primary_key=True),
    Column("delivery_id", ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("attempt_number", Integer, nullable=False),
    text("trigger", null=False),  # automatic or manual
    text("request_url", null=False),
    json_object("request_headers"),
    Column("response_status", Integer),
    text("response_body"),
    Column("response_truncated", Boolean, nullable=False, default=False),
    Column("duration_ms", Integer),
    text("error"),
    moment("created_at", null=False),
    UniqueConstraint("delivery_id", "attempt_number"),
)

callbacks = Table(
    "callbacks",
    metadata,
    text("id", primary_key=True),
    text("organization_id", null=False),
    Column("source_session_id", ForeignKey("calls.id", ondelete="SET NULL")),
    text("created_session_id"),
    text("agent_id"),
    text("phone_number_id"),
    text("to_number", null=False),
    text("from_number"),
    moment("scheduled_at", null=False),
    text("status", null=False),  # scheduled dispatching dispatched cancelled failed
    text("reason"),
    text("instructions"),
    text("summary"),
    json_object("pipeline_config"),
    json_object("metadata"),
    text("failure_cause"),
    moment("attempted_at"),
    moment("dispatched_at"),
    moment("cancelled_at"),
    moment("created_at", null=False),
    moment("updated_at", null=False),
    Index(None, "status", "scheduled_at"),
    Index(None, "source_session_id"),
)

jobs = Table(
    "jobs",
    metadata,
    text("id", primary_key=True),  # <kind>:<what it is about>
    text("kind", null=False),
    Column("call_id", ForeignKey("calls.id", ondelete="CASCADE"), index=True),
    text("host"),  # only a process on this host can do it; None where any can
    json_object("payload"),
    text("status", null=False),  # pending or failed; what is done is deleted
    Column("attempts", Integer, nullable=False, default=0),
    moment("due_at", null=False),  # while claimed: when the claim runs out
    text("claimed_by"),
    text("error"),
    moment("created_at", null=False),
    moment("updated_at", null=False),
    Index(
        "ix_jobs_due",
        "due_at",
        sqlite_where=sql("status = 'pending'"),
        postgresql_where=sql("status = 'pending'"),
    ),
)
