"""A number names its SIP connection and any agent, also one that is a file; what changed is found without the rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATE = ("organization_id", "updated_at", "version")


def upgrade() -> None:
    with op.batch_alter_table("numbers") as numbers:
        numbers.drop_constraint("fk_numbers_agent_id", type_="foreignkey")
        numbers.add_column(sa.Column("sip_connection", sa.Text))
        numbers.add_column(sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    for table in ("agents", "numbers"):
        op.create_index(f"ix_{table}_state", table, list(STATE))


def downgrade() -> None:
    for table in ("agents", "numbers"):
        op.drop_index(f"ix_{table}_state", table)
    # an agent that is a file has no row to refer to
    op.execute("UPDATE numbers SET agent_id = NULL WHERE agent_id NOT IN (SELECT id FROM agents)")
    with op.batch_alter_table("numbers") as numbers:
        numbers.drop_column("version")
        numbers.drop_column("sip_connection")
        numbers.create_foreign_key("fk_numbers_agent_id", "agents", ["agent_id"], ["id"], ondelete="SET NULL")
