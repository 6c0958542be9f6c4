"""SQLite through aiosqlite: one connection that writes, a few that read (decision 0003)."""

from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


def create_engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    """The engine of the one writer, and that of the readers."""
    return _create_engine(url, "BEGIN IMMEDIATE", pool_size=1), _create_engine(url, None, pool_size=4)


def _create_engine(url: URL, begin: str | None, pool_size: int) -> AsyncEngine:
    reset = "rollback" if begin else None
    engine = create_async_engine(
        url, pool_size=pool_size, max_overflow=0, pool_timeout=30, pool_reset_on_return=reset, hide_parameters=True
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    if begin:

        @event.listens_for(engine.sync_engine, "begin")
        def start(connection: Any) -> None:
            connection.exec_driver_sql(begin)

    return engine
