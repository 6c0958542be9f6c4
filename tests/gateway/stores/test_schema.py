"""The migrations build what the code believes in."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from cc_gateway.errors import StartupError
from cc_gateway.stores import sessions
from cc_gateway.stores.engine import Database
from cc_gateway.stores.schema import metadata


async def differences(database: Database) -> list[object]:
    async with database.read() as connection:
        found: list[object] = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
    return found


async def test_migrating_from_empty_gives_the_schema_of_the_code(database: Database) -> None:
    assert await differences(database) == []


async def test_opening_again_changes_nothing_and_keeps_what_is_there(database: Database, session_id: str) -> None:
    await database.open()
    assert await differences(database) == []
    async with database.read() as connection:
        assert await sessions.get(connection, session_id)


async def test_a_database_of_a_newer_version_is_refused_with_the_mend(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartupError, match="newer version"):
        await database.open()
