"""The migrations build what the code believes in."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cc_gateway.stores.engine import Database
from cc_gateway.stores.schema import metadata


async def test_migrating_from_empty_gives_the_schema_of_the_code(database: Database) -> None:
    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
    assert differences == []


async def test_opening_again_changes_nothing(database: Database) -> None:
    await database.open()
    await database.ping()
