"""Who may use the API, and who changed what with it."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table

from agent_worker.store.columns import NullableJson, json_object, metadata, moment, text

api_keys = Table(
    "api_keys",
    metadata,
    text("id", primary_key=True),
    text("organization_id", null=False),
    text("name", null=False),
    text("hash", null=False, unique=True),  # SHA-256 of the key, which is random enough to need no salt
    text("shown", null=False),  # its last characters, to tell keys apart
    text("scope", null=False),  # read, operate or admin, each with what is before it
    Column("agent_ids", NullableJson),
    moment("created_at", null=False),
    moment("last_used_at"),
    moment("revoked_at"),
)

audit_entries = Table(
    "audit_entries",
    metadata,
    text("id", primary_key=True),
    text("organization_id", null=False),
    text("key_id"),
    text("action", null=False),
    text("resource", null=False),
    json_object("detail"),
    moment("created_at", null=False),
    Index(None, "organization_id", "created_at"),
)
