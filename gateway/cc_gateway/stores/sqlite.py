"""SQLite: one connection that writes, a few that read (decision 0003), in the event loop (`sqlite_inline`)."""

from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cc_gateway.stores.sqlite_inline import InlineConnection


def create_engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    """The engine of the one writer, and that of the readers."""
    return _create_engine(url, "BEGIN IMMEDIATE", pool_size=1), _create_engine(url, None, pool_size=4)


def _create_engine(url: URL, begin: str | None, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        async_creator=lambda: InlineConnection.open(url.database or ":memory:"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_reset_on_return="rollback" if begin else None,
        hide_parameters=True,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            _execute(connection, f"PRAGMA {pragma}")

    if begin:
        # what SQLAlchemy's event is for, less the making of a result that nobody reads
        dialect = engine.sync_engine.dialect
        dialect.do_begin = lambda dbapi_connection: _execute(dbapi_connection, begin)  # type: ignore[method-assign]
    return engine


def _execute(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()
