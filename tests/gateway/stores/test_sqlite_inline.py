"""SQLite in the event loop: what may take long does not keep the loop, and what is broken off harms nobody after it."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.errors import Unavailable
from cc_gateway.stores import record, sessions, sqlite_inline
from cc_gateway.stores.engine import Database, sqlite_url
from support.sessions import new_session


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path / "test.sqlite3")


async def where_statements_run(connection: AsyncConnection) -> dict[str, str]:
    """The thread of each statement from now on, by the statement's first word."""
    threads: dict[str, str] = {}
    raw: Any = await connection.get_raw_connection()
    raw.driver_connection._opened().set_trace_callback(
        lambda statement: threads.__setitem__(statement.split()[0], threading.current_thread().name)
    )
    return threads


async def test_a_writer_waits_for_anothers_lock_without_keeping_the_loop(
    database: Database, second: Database, session_id: str
) -> None:
    locked, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with database.write():
            locked.set()
            await release.wait()

    async def write() -> None:
        async with second.write() as connection:
            await sessions.change(connection, session_id, title="written")

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(hold())
        await locked.wait()
        writing = group.create_task(write())
        async with second.read() as connection:  # the loop is free
            assert await record.head(connection, session_id) == 0
        assert not writing.done()
        release.set()
    async with database.read() as connection:
        session = await sessions.get(connection, session_id)
    assert session
    assert session.title == "written"


async def test_a_lock_that_is_held_for_too_long_is_an_error_that_says_try_again(
    database: Database, second: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_inline, "LOCKED_SECONDS", 0.05)
    async with database.write():
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5), second.write():
                pass


async def test_statements_run_in_the_loop_and_long_ones_in_a_thread(database: Database) -> None:
    async with database.write() as connection:
        threads = await where_statements_run(connection)
        await connection.execute(text(f"SELECT {sqlite_inline.LONG} 1"))
        await connection.execute(text("DELETE FROM sessions"))
    assert threads["DELETE"] == threading.current_thread().name
    assert threads["SELECT"].startswith("sqlite")


async def test_commits_leave_the_loop_where_the_disk_is_slow(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_inline, "SLOW_COMMIT_SECONDS", -1.0)
    monkeypatch.setattr(sqlite_inline, "WARY_SECONDS", 60.0)
    for _ in range(2):
        async with database.write() as connection:
            threads = await where_statements_run(connection)
            await sessions.add(connection, new_session())
    assert threads["INSERT"] == threading.current_thread().name
    assert threads["COMMIT"].startswith("sqlite")


async def test_a_task_that_is_broken_off_in_a_long_statement_leaves_nothing_behind(
    database: Database, session_id: str
) -> None:
    began = asyncio.Event()
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000000)"
    endless = f"{numbers} SELECT {sqlite_inline.LONG} max(i) FROM n"

    async def write() -> None:
        async with database.write() as connection:
            await sessions.change(connection, session_id, title="half")
            began.set()
            await connection.execute(text(endless))

    task = asyncio.create_task(write())
    async with asyncio.timeout(20):
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with database.write() as connection:
            session = await sessions.get(connection, session_id)
            await sessions.change(connection, session_id, title="whole")
    assert session
    assert session.title != "half"
