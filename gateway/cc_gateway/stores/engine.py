"""Opens the database, brings its schema up to date, and gives transactions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cc_gateway.errors import StartupError, Unavailable

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


class Database:
    """Transactions over one database.

    On SQLite, writers share one connection and begin with BEGIN IMMEDIATE: a transaction that reads and then writes
    would otherwise lose its update or fail as busy. Readers have connections of their own and never wait (WAL); each of
    their statements sees the newest state, as in PostgreSQL's READ COMMITTED, and costs one hop to a thread and not four.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._writer: AsyncEngine
        if self.is_sqlite:
            self._writer = self._sqlite_engine("BEGIN IMMEDIATE", pool_size=1)
            self._reader = self._sqlite_engine(None, pool_size=4)
        else:
            self._writer = create_async_engine(self._url, pool_size=10, max_overflow=10, pool_pre_ping=True)
            self._reader = self._writer

    def _sqlite_engine(self, begin: str | None, pool_size: int) -> AsyncEngine:
        reset = "rollback" if begin else None
        engine = create_async_engine(
            self._url, pool_size=pool_size, max_overflow=0, pool_timeout=30, pool_reset_on_return=reset
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

    async def open(self) -> None:
        """Migrate to the newest schema. Raises `StartupError` where the database cannot be reached or is newer."""
        try:
            await asyncio.to_thread(self._migrate)
        except CommandError as error:
            raise StartupError(
                f"the database was made by a newer version ({error}): use that version, or another database",
                code="database_newer",
            ) from error
        except SQLAlchemyError as error:
            raise StartupError(
                f"cannot open the database {self._url.render_as_string()}: {error.__cause__ or error}. Check CC_DATABASE_URL",
                code="database_unavailable",
            ) from error

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["url"] = self._url
        command.upgrade(config, "head")

    async def close(self) -> None:
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads. Raises `Unavailable` while the database is away."""
        async with self._available(), self._reader.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed when the block ends, rolled back when it raises."""
        async with self._available(), self._writer.begin() as connection:
            yield connection

    async def ping(self) -> None:
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    @asynccontextmanager
    async def _available(self) -> AsyncIterator[None]:
        try:
            yield
        except (OperationalError, PoolTimeout, ConnectionError) as error:
            log.warning("database_unavailable", error=str(error.__cause__ or error)[:300])
            raise Unavailable("the database is away; try again", retry_after=2) from error
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise Unavailable("the database is away; try again", retry_after=2) from error
