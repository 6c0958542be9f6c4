"""Sessions with their heads, turns, the record of events, and idempotency keys."""

import sqlalchemy as sa
from alembic import op

from cc_gateway.stores.schema import UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("title", sa.Text),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("workspace_type", sa.String(16), nullable=False),
        sa.Column("workspace_id", sa.String(64)),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("stop_requested", sa.Boolean, nullable=False),
        sa.Column("deleted_at", UtcDateTime),
        sa.Column("incarnation", sa.Integer, nullable=False),
        sa.Column("incarnation_started_at", UtcDateTime),
        sa.Column("handle", sa.Text),
        sa.Column("ready", sa.Boolean, nullable=False),
        sa.Column("failed_starts", sa.Integer, nullable=False),
        sa.Column("idle_since", UtcDateTime),
        sa.Column("redis_hash", sa.String(64)),
    )
    op.create_index("ix_sessions_owner", "sessions", ["owner", "id"])
    op.create_index("ix_sessions_status", "sessions", ["status"])
    op.create_index("ix_sessions_workspace", "sessions", ["owner", "workspace_id"])
    op.create_table(
        "heads",
        _session_key(primary_key=True),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("incarnation", sa.Integer, nullable=False),
        sa.Column("outbox_n", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "turns",
        sa.Column("id", sa.String(64), primary_key=True),
        _session_key(nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("started_at", UtcDateTime),
        sa.Column("ended_at", UtcDateTime),
        sa.Column("incarnation", sa.Integer),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("model_requested", sa.Boolean, nullable=False),
        sa.Column("interrupt_reason", sa.String(32)),
        sa.Column("interrupted_at", UtcDateTime),
        sa.Column("outcome", sa.Text, nullable=False),
    )
    op.create_index("ux_turns_number", "turns", ["session_id", "number"], unique=True)
    op.create_index("ix_turns_status", "turns", ["session_id", "status"])
    running = sa.text("status = 'running'")
    op.create_index(
        "ux_turns_one_running", "turns", ["session_id"], unique=True, sqlite_where=running, postgresql_where=running
    )
    op.create_table(
        "events",
        _session_key(primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("turn_id", sa.String(64)),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("processed_at", UtcDateTime, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("raw", sa.Text),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
    )


def _session_key(*, primary_key: bool = False, nullable: bool = False) -> sa.Column[str]:
    reference = sa.ForeignKey("sessions.id", ondelete="CASCADE")
    return sa.Column("session_id", sa.String(64), reference, primary_key=primary_key, nullable=nullable)


def downgrade() -> None:
    for table in ("idempotency", "events", "turns", "heads", "sessions"):
        op.drop_table(table)
