"""Idempotency keys: which request of an owner made which thing. Written in the transaction that makes it."""

import hashlib
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.errors import Conflict
from cc_gateway.models import now
from cc_gateway.stores.schema import idempotency

KEPT = timedelta(days=7)


def fingerprint(operation: str, body: bytes) -> str:
    return hashlib.sha256(operation.encode() + b"\0" + body).hexdigest()


def _reused() -> Conflict:
    return Conflict(
        "this Idempotency-Key was used for another request: take a new key for a new request",
        code="idempotency_key_reused",
    )


async def find(connection: AsyncConnection, owner: str, key: str, mark: str) -> str | None:
    """The id of what this key made, if it made something. Raises `Conflict` if another request used the key."""
    query = select(idempotency).where(idempotency.c.owner == owner, idempotency.c.key == key)
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        return None
    if row["fingerprint"] != mark:
        raise _reused()
    return str(row["resource_id"])


async def keep(connection: AsyncConnection, owner: str, key: str, mark: str, resource_id: str) -> None:
    """Bind the key to what was made, as the last thing of its transaction.

    Requests that are the same wait for one another before they look for the key (for the owner's lock, or the session's head
    row): so one that took it meanwhile was another request, and is a `Conflict` too.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    kept = await connection.execute(
        insert(idempotency)
        .values(owner=owner, key=key, fingerprint=mark, resource_id=resource_id, created_at=now())
        .on_conflict_do_nothing()
    )
    if kept.rowcount == 0:
        raise _reused()


async def forget_old(connection: AsyncConnection) -> None:
    await connection.execute(delete(idempotency).where(idempotency.c.created_at < now() - KEPT))
