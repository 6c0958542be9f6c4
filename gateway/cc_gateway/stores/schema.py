"""The tables. `migrations/` builds them; a test holds both to be the same.

JSON is kept as text: databases refuse `\\u0000` and lone surrogates in their JSON types, and text goes
through as it came.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time on both databases; SQLite has no time zones of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value  # type: ignore[no-any-return]
        return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]


metadata = MetaData()

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("title", Text),
    Column("metadata", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("workspace_type", String(16), nullable=False),
    Column("workspace_id", String(64)),
    Column("workspace_git_repo", Text),
    Column("workspace_git_branch", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("stop_requested", Boolean, nullable=False),
    Column("deleted_at", UtcDateTime),
    Column("incarnation", Integer, nullable=False),
    Column("incarnation_started_at", UtcDateTime),
    Column("handle", Text),
    Column("ready", Boolean, nullable=False),
    Column("failed_starts", Integer, nullable=False),
    Column("idle_since", UtcDateTime),
    Column("redis_hash", String(64)),
    Index("ix_sessions_owner", "owner", "id"),
    Index("ix_sessions_status", "status"),
    Index("ix_sessions_workspace", "owner", "workspace_id"),
)

heads = Table(
    "heads",
    metadata,
    Column("session_id", String(64), ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("incarnation", Integer, nullable=False),
    Column("outbox_n", BigInteger, nullable=False),
)
"""One narrow row a session, which every record transaction updates first: its lock, its counter and its fence."""

turns = Table(
    "turns",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("session_id", String(64), ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("incarnation", Integer),
    Column("attempt", Integer, nullable=False),
    Column("model_requested", Boolean, nullable=False),
    Column("interrupt_reason", String(32)),
    Column("interrupted_at", UtcDateTime),
    Column("outcome", Text, nullable=False),
    Index("ux_turns_number", "session_id", "number", unique=True),
    Index("ix_turns_status", "session_id", "status"),
    Index(
        "ux_turns_one_running",
        "session_id",
        unique=True,
        sqlite_where=text("status = 'running'"),
        postgresql_where=text("status = 'running'"),
    ),
)

events = Table(
    "events",
    metadata,
    Column("session_id", String(64), ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False),
    Column("turn_id", String(64)),
    Column("type", String(64), nullable=False),
    Column("source", String(8), nullable=False),
    Column("processed_at", UtcDateTime, nullable=False),
    Column("data", Text, nullable=False),
    Column("raw", Text),
    Column("size", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
