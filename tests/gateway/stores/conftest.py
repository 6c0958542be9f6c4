"""A database of one's own. PostgreSQL joins as a second parameter when the stack has one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cc_gateway.stores.engine import Database, sqlite_url


@pytest.fixture(params=["sqlite"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(sqlite_url(tmp_path / "test.sqlite3"))
    await database.open()
    yield database
    await database.close()
