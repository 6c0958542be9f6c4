"""Alembic's entry: runs the migrations over a synchronous driver of the same database."""

from alembic import context
from sqlalchemy import create_engine, func, pool, select

from cc_gateway.stores import locks
from cc_gateway.stores.schema import metadata

url = context.config.attributes["url"]

if url.get_backend_name() == "sqlite":
    engine = create_engine(url.set(drivername="sqlite"), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
else:
    import asyncio

    from sqlalchemy.ext.asyncio import create_async_engine

    def _run(connection) -> None:  # type: ignore[no-untyped-def]
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():  # of gateways that start at once, one migrates; the others find it done
            connection.execute(select(func.pg_advisory_xact_lock(locks.number(locks.MIGRATION))))
            context.run_migrations()

    async def _main() -> None:
        engine = create_async_engine(
            url, poolclass=pool.NullPool, connect_args=context.config.attributes["connect_args"]
        )
        async with engine.connect() as connection:
            await connection.run_sync(_run)
            await connection.commit()
        await engine.dispose()

    asyncio.run(_main())
