"""A database of one's own. PostgreSQL joins as a second parameter when the stack has one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cc_gateway.models import Session, SessionConfig, SessionStatus, Workspace, now
from cc_gateway.stores import sessions
from cc_gateway.stores.engine import Database, sqlite_url
from cc_protocol.ids import SESSION, new_id


@pytest.fixture(params=["sqlite"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(sqlite_url(tmp_path / "test.sqlite3"))
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def session_id(database: Database) -> str:
    """A session on record, read back as it was written."""
    moment = now()
    session = Session(
        id=new_id(SESSION),
        owner="somebody",
        status=SessionStatus.STARTING,
        reason=None,
        title="née \U0001f600",
        metadata={"a": [1, None, "ü"]},
        config=SessionConfig(model="m"),
        workspace=Workspace(),
        created_at=moment,
        updated_at=moment,
        stop_requested=False,
        deleted_at=None,
        incarnation=0,
        incarnation_started_at=None,
        handle=None,
        ready=False,
        failed_starts=0,
        idle_since=None,
        redis_hash=None,
    )
    async with database.write() as connection:
        await sessions.add(connection, session)
    async with database.read() as connection:
        assert await sessions.get(connection, session.id) == session
    return session.id
