"""A database of one's own, on SQLite and on PostgreSQL: every test of the store runs on both."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cc_gateway.stores import sessions
from cc_gateway.stores.engine import Database, sqlite_url
from support.postgres import PostgresServer
from support.sessions import new_session


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def _migrate(url: str) -> None:
    async with opened(url):
        pass


@pytest.fixture(scope="session")
def migrated(postgres: PostgresServer) -> str:
    """The name of a database that was migrated once; a copy of it takes a tenth of the time."""
    url = asyncio.run(postgres.create_database())
    asyncio.run(_migrate(url))
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a database of the test's own is: on SQLite it comes to be when it is opened."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "test.sqlite3")
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = asyncio.run(postgres.create_database(template=request.getfixturevalue("migrated")))
    yield url
    asyncio.run(postgres.drop_database(url))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as database:
        yield database


@pytest.fixture
async def second(database: Database, database_url: str) -> AsyncIterator[Database]:
    """The same database as another gateway has it: with connections of its own."""
    async with opened(database_url) as another:
        yield another


@pytest.fixture
async def session_id(database: Database) -> str:
    """A session on record, read back as it was written."""
    session = new_session()
    async with database.write() as connection:
        await sessions.add(connection, session)
    async with database.read() as connection:
        assert await sessions.get(connection, session.id) == session
    return session.id
