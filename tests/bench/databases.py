"""A database of its own for every gateway: an SQLite file in its folder, or one made on a PostgreSQL server and dropped.

A gateway takes every session that its database holds for its own, so it is never let near one that is in use.
"""

import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from support import postgres

SQLITE = "sqlite"
POSTGRESQL = "postgresql"


class Databases:
    """`kind`: `sqlite`; `postgresql` for a server of its own; or the URL of one whose user may create databases."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._url = kind

    @property
    def on_sqlite(self) -> bool:
        return self._kind == SQLITE

    def open(self, stack: ExitStack) -> None:
        """Start the server where one of its own is asked for; it ends with the stack."""
        if self._kind != POSTGRESQL:
            return
        if not postgres.binaries():
            raise RuntimeError(f"--database {POSTGRESQL} {postgres.MISSING}")
        server = postgres.PostgresServer(fsync=True)
        stack.callback(server.close)
        self._url = server.start().url()

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[dict[str, str]]:
        """The settings of a gateway that name a database nobody else has."""
        if self.on_sqlite:
            yield {}
            return
        name = f"cc_bench_{secrets.token_hex(4)}"
        await self._run(f"CREATE DATABASE {name}")
        try:
            url = make_url(self._url).set(database=name)
            yield {"CC_DATABASE_URL": url.render_as_string(hide_password=False)}
        finally:
            with contextlib.suppress(OSError):
                await self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def describe(self) -> str:
        """Which database, in words without address or password."""
        if self.on_sqlite:
            return f"SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL)"
        whose = "of the bench" if self._kind == POSTGRESQL else "given"
        return f"PostgreSQL {await self._run('SHOW server_version')} ({whose}; fsync={await self._run('SHOW fsync')})"

    async def _run(self, statement: str) -> str:
        engine = create_async_engine(self._url, isolation_level="AUTOCOMMIT")
        try:
            async with engine.connect() as connection:
                result = await connection.execute(text(statement))
                return str(result.scalar_one()).split()[0] if result.returns_rows else ""
        finally:
            await engine.dispose()
