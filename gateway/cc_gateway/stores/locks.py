"""Locks by name, for what no row stands for, and the order in which all locks are taken.

On SQLite there is one writer at a time, and nothing to lock. On PostgreSQL a transaction takes its locks in this order,
and so no two wait for one another:

1. `hold(…, "owner", OWNER)`: whoever counts the sessions of an owner to add one
2. the head row of one session (`record.recording_in`, `record.claim`, `sessions.erase`): whoever writes of that session
3. `hold(…, "workspace", OWNER, ID)`: whoever looks whether a persistent workspace is free to take it
4. rows of that session's turns, then of the session itself
5. an idempotency key's row, last

No transaction takes two of one kind. A session that is being made is nobody else's yet: its own rows count for nothing
here. (`turns.mark_model_request` takes a turn's row and nothing else, `idempotency.forget_old` old keys.)
"""

import hashlib

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

MIGRATION = "migration"


def number(*name: str) -> int:
    """The 64 bits by which PostgreSQL knows the lock of this name. Two names that share them only wait needlessly."""
    digest = hashlib.sha256("\0".join(("cc-docker", *name)).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


async def hold(connection: AsyncConnection, *name: str) -> None:
    """Hold the lock of this name until the transaction ends; what is read from now on is what its last holder left."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(number(*name))))
