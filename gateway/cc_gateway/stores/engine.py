"""Opens the database, brings its schema up to date, and gives transactions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cc_gateway.errors import StartupError, Unavailable
from cc_gateway.settings import StoreSettings
from cc_gateway.stores import address, postgres, sqlite
from cc_gateway.stores.address import sqlite_url

__all__ = ["Database", "sqlite_url"]

log = structlog.get_logger(__name__)

MIGRATIONS: Final = Path(__file__).parent / "migrations"
CLOSE_SECONDS: Final = 3.0
PING_SECONDS: Final = 3.0


class Database:
    """Transactions over one database.

    On SQLite, writers share one connection and begin with BEGIN IMMEDIATE: a transaction that reads and then writes
    would otherwise lose its update or fail as busy. Readers have connections of their own and never wait (WAL). On
    PostgreSQL all share one pool, and writers are READ COMMITTED: what they rely on is a row or a name that they lock
    (`locks` says in which order), or the condition of an update.

    On both, readers run without a transaction: each of their statements sees the newest state, and costs one hop to a
    thread, or one round trip, and not three.
    """

    def __init__(self, url: str, settings: StoreSettings | None = None) -> None:
        """Raises `StartupError` where the address is none of ours."""
        self._url = address.parse(url)
        self._settings = settings or StoreSettings.model_construct()
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self._writer: AsyncEngine
        self._reader: AsyncEngine
        if self.is_sqlite:
            self._writer, self._reader = sqlite.create_engines(self._url)
        else:
            self._writer = postgres.create_engine(self._url, self._settings)
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")

    async def open(self) -> None:
        """Migrate to the newest schema. Raises `StartupError` where the database cannot be reached or used, or is newer."""
        try:
            if not self.is_sqlite:
                async with self._reader.connect() as connection:
                    postgres.require_version(connection.dialect.server_version_info)
            await asyncio.to_thread(self._migrate)
        except CommandError as error:
            raise StartupError(
                f"the database was made by a newer version ({error}): use that version, or another database",
                code="database_newer",
            ) from error
        except (SQLAlchemyError, OSError) as error:
            if not self.is_sqlite:
                raise postgres.cannot_open(self._url, error) from error
            raise StartupError(
                f"cannot open the database {self._url.render_as_string()}: {error.__cause__ or error}. Check CC_DATABASE_URL",
                code="database_unavailable",
            ) from error

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        if self.is_sqlite:
            config.attributes["url"] = self._url
        else:
            config.attributes["url"] = address.split_options(self._url)[0]
            config.attributes["connect_args"] = postgres.migration_arguments(self._url, self._settings)
        command.upgrade(config, "head")

    async def close(self) -> None:
        """Hang up; a server that does not answer any more is not waited for."""
        for engine in (self._writer, self._reader) if self.is_sqlite else (self._writer,):
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read from, statement by statement. Raises `Unavailable` while the database is away."""
        async with self._connected(self._reader) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: committed when the block ends, rolled back when it raises.

        Raises:
            Unavailable: the database is away. Where that showed only at the commit, it may have been made all the same.
        """
        async with self._connected(self._writer) as connection, connection.begin():
            yield connection

    async def ping(self) -> None:
        """Raises `Unavailable`, soon, while the database is away."""
        try:
            async with asyncio.timeout(PING_SECONDS), self.read() as connection:
                await connection.execute(text("SELECT 1"))
        except TimeoutError as error:
            raise _unavailable(error) from error

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with AsyncExitStack() as stack:
                try:
                    connection = await stack.enter_async_context(engine.connect())
                except SQLAlchemyError as error:  # whatever keeps us out: it cannot be the fault of the request
                    raise _unavailable(error) from error
                yield connection
        except OSError as error:  # also a time that ran out
            raise _unavailable(error) from error
        except DBAPIError as error:
            if isinstance(error, OperationalError) or postgres.is_away(error):
                raise _unavailable(error) from error
            raise


def _unavailable(error: BaseException) -> Unavailable:
    cause = getattr(error, "orig", None) or error
    log.warning("database_unavailable", error=(str(cause) or repr(cause))[:300])
    return Unavailable("the database is away; try again", retry_after=2)
