"""SQLite in the event loop: what SQLAlchemy's aiosqlite dialect asks of a connection, without a thread for each statement.

A statement of ours takes some 30 µs; its way to a thread and back takes longer, is made three times (cursor, statement,
close), and on a busy gateway waits for the interpreter's lock each time. So statements run where they are asked for. What
may take long runs in the connection's thread: what is marked `LONG`, and commits where the disk is slow. A lock that
another process or connection holds is waited for without keeping the loop.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

T = TypeVar("T")

LONG: Final = "/* long */"
"""Stands in a statement (`prefix_with`) that may touch megabytes."""

LOCKED_SECONDS: Final = 10.0
LOCK_LOOK_SECONDS: Final = 0.002
SLOW_COMMIT_SECONDS: Final = 0.002
WARY_SECONDS: Final = 1.0


class InlineCursor:
    """Fetches all that it finds while its statement runs."""

    def __init__(self, connection: "InlineConnection", cursor: sqlite3.Cursor) -> None:
        self._connection = connection
        self._cursor = cursor
        self._rows: list[Any] = []

    async def __aenter__(self) -> "InlineCursor":
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        await self._connection.run(self._execute, statement, parameters, in_thread=LONG in statement)

    def _execute(self, statement: str, parameters: Any) -> None:
        self._rows = self._cursor.execute(statement, parameters).fetchall()

    async def executemany(self, statement: str, parameters: Any) -> None:
        await self._connection.run(self._cursor.executemany, statement, parameters)

    async def fetchall(self) -> list[Any]:
        return self._rows

    async def close(self) -> None:
        self._cursor.close()


class InlineConnection:
    """A connection for one task at a time, as SQLAlchemy's pool lends it. A task that is broken off gives it up for good."""

    def __init__(self, path: str) -> None:
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            path,
            timeout=0,  # `run` waits
            isolation_level=None,  # we say BEGIN ourselves
            check_same_thread=False,
        )
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._wary_until = 0.0

    @classmethod
    async def open(cls, path: str) -> "InlineConnection":
        return cls(path)

    def cursor(self) -> InlineCursor:
        return InlineCursor(self, self._opened().cursor())

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("no active connection")
        return self._connection

    async def create_function(self, *arguments: Any, **options: Any) -> None:
        self._opened().create_function(*arguments, **options)

    async def commit(self) -> None:
        """Here while the disk is fast: a thread would cost more than what it saves. One commit finds out each second."""
        connection, begun = self._opened(), time.monotonic()
        wary = begun < self._wary_until
        await self.run(connection.commit, in_thread=wary)
        if not wary and time.monotonic() - begun > SLOW_COMMIT_SECONDS:
            self._wary_until = begun + WARY_SECONDS

    async def rollback(self) -> None:
        await self.run(self._opened().rollback)

    async def close(self) -> None:
        if closing := self.stop():
            await asyncio.wrap_future(closing)

    def stop(self) -> "Future[None] | None":
        """Close it, behind what a task that was broken off has left in the thread."""
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        closing = self._thread.submit(connection.close)
        self._thread.shutdown(wait=False)
        return closing

    async def run(self, work: Callable[..., T], *arguments: Any, in_thread: bool = False) -> T:
        deadline = time.monotonic() + LOCKED_SECONDS
        while True:
            try:
                if not in_thread:
                    return work(*arguments)
                return await asyncio.wrap_future(self._thread.submit(work, *arguments))
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(LOCK_LOOK_SECONDS)
