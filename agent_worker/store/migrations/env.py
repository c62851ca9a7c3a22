"""Alembic's entry point: runs the revisions on the connection, and in the transaction, it is handed."""

from __future__ import annotations

from alembic import context

from agent_worker.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite has it too: half a migration is no migration
)
with context.begin_transaction():
    context.run_migrations()
