"""Queries over sessions. Each takes a connection of `Database`, and so composes into one transaction."""

from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import RowMapping, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.errors import Fenced
from cc_gateway.models import Session, SessionConfig, SessionStatus, TurnStatus, Workspace, now
from cc_gateway.stores.schema import events, heads, sessions, turns
from cc_gateway.stores.sqlite_inline import LONG

ERASED_AT_ONCE: Final = 10_000

_GET: Final = select(sessions).where(sessions.c.id == bindparam("session_id"))
_GET_OWN: Final = _GET.where(sessions.c.owner == bindparam("by_owner"), sessions.c.deleted_at.is_(None))
_CHANGE: Final = update(sessions).where(sessions.c.id == bindparam("session_id"))


def _to_session(row: RowMapping) -> Session:
    fields = dict(row)
    fields["workspace"] = Workspace(**{name: fields.pop(f"workspace_{name}") for name in Workspace.model_fields})
    fields["status"] = SessionStatus(fields["status"])
    fields["metadata"] = orjson.loads(fields["metadata"])
    fields["config"] = SessionConfig.model_validate_json(fields["config"])
    return Session(**fields)


async def add(connection: AsyncConnection, session: Session) -> None:
    await connection.execute(
        insert(sessions).values(
            id=session.id,
            owner=session.owner,
            status=session.status.value,
            reason=session.reason,
            title=session.title,
            metadata=orjson.dumps(session.metadata).decode(),
            config=session.config.model_dump_json(exclude_unset=True),
            **{f"workspace_{name}": value for name, value in session.workspace.model_dump().items()},
            created_at=session.created_at,
            updated_at=session.updated_at,
            stop_requested=session.stop_requested,
            incarnation=session.incarnation,
            ready=session.ready,
            failed_starts=session.failed_starts,
        )
    )
    await connection.execute(
        insert(heads).values(session_id=session.id, last_seq=0, epoch=0, incarnation=session.incarnation, outbox_n=0)
    )


async def get(connection: AsyncConnection, session_id: str, *, owner: str | None = None) -> Session | None:
    """The session, deleted ones included only where no owner asks."""
    query = _GET if owner is None else _GET_OWN
    names = {"session_id": session_id} if owner is None else {"session_id": session_id, "by_owner": owner}
    row = (await connection.execute(query, names)).mappings().one_or_none()
    return None if row is None else _to_session(row)


async def page(
    connection: AsyncConnection,
    owner: str,
    *,
    status: SessionStatus | None,
    labels: dict[str, str],
    before: str | None,
    limit: int,
) -> list[Session]:
    """Sessions of an owner, newest first; `labels` must be equal to the metadata's values as text."""
    query = select(sessions).where(sessions.c.owner == owner, sessions.c.deleted_at.is_(None))
    if status is not None:
        query = query.where(sessions.c.status == status.value)
    found: list[Session] = []
    while True:
        batch = query if before is None else query.where(sessions.c.id < before)
        rows = (await connection.execute(batch.order_by(sessions.c.id.desc()).limit(limit))).mappings().all()
        matching = [s for s in map(_to_session, rows) if _matches(s, labels)]
        found += matching[: limit - len(found)]
        if len(found) == limit or len(rows) < limit:
            return found
        before = rows[-1]["id"]


def _matches(session: Session, labels: dict[str, str]) -> bool:
    def as_text(value: Any) -> str:
        return value if isinstance(value, str) else orjson.dumps(value).decode()

    return all(key in session.metadata and as_text(session.metadata[key]) == text for key, text in labels.items())


async def count(connection: AsyncConnection, owner: str) -> int:
    query = select(func.count()).where(sessions.c.owner == owner, sessions.c.deleted_at.is_(None))
    return (await connection.execute(query)).scalar_one()


def storable(text: str) -> str:
    """A reason as any database takes it: what a container says may hold NUL, and be long."""
    return text.replace("\x00", "\\0")[:2000]


async def change(connection: AsyncConnection, session_id: str, **values: Any) -> None:
    """Set columns; `status` may be a `SessionStatus`, `metadata` and `config` their objects."""
    if isinstance(status := values.get("status"), SessionStatus):
        values["status"] = status.value
    if isinstance(metadata := values.get("metadata"), dict):
        values["metadata"] = orjson.dumps(metadata).decode()
    if isinstance(reason := values.get("reason"), str):
        values["reason"] = storable(reason)
    if isinstance(config := values.get("config"), SessionConfig):
        values["config"] = config.model_dump_json(exclude_unset=True)
    await connection.execute(_CHANGE, {"session_id": session_id, "updated_at": now(), **values})


_WITH_TURNS = select(turns.c.session_id).where(turns.c.status.in_((TurnStatus.QUEUED.value, TurnStatus.RUNNING.value)))


async def wanted(connection: AsyncConnection) -> list[str]:
    """Sessions that the reconciler has to look at: all but those that rest with nothing left to do."""
    resting = (SessionStatus.ASLEEP.value, SessionStatus.STOPPED.value, SessionStatus.FAILED.value)
    query = select(sessions.c.id).where(
        sessions.c.status.not_in(resting)
        | sessions.c.handle.is_not(None)
        | sessions.c.deleted_at.is_not(None)
        | sessions.c.id.in_(_WITH_TURNS)
    )
    return list((await connection.execute(query)).scalars())


async def in_same_workspace(connection: AsyncConnection, session: Session) -> str | None:
    """Another session that works in this one's persistent workspace: one that has a place to run or will get one."""
    away = (SessionStatus.STOPPED.value, SessionStatus.FAILED.value)
    query = select(sessions.c.id).where(
        sessions.c.owner == session.owner,
        sessions.c.workspace_id == session.workspace.id,
        sessions.c.id != session.id,
        sessions.c.deleted_at.is_(None),
        sessions.c.status.not_in(away) | sessions.c.id.in_(_WITH_TURNS),
    )
    return (await connection.execute(query.limit(1))).scalar_one_or_none()


async def counts_by_status(connection: AsyncConnection) -> dict[str, int]:
    query = select(sessions.c.status, func.count()).where(sessions.c.deleted_at.is_(None)).group_by(sessions.c.status)
    return dict((await connection.execute(query)).tuples().all())


async def begin_incarnation(connection: AsyncConnection, session: Session, *, redis_hash: str, at: datetime) -> int:
    """Number a new life of the session's wrapper. From here on, whatever an older one says is fenced off.

    Raises:
        Fenced: another gateway has numbered one since `session` was read.
    """
    incarnation = session.incarnation + 1
    numbered = await connection.execute(
        update(heads)
        .where(heads.c.session_id == session.id, heads.c.incarnation == session.incarnation)
        .values(incarnation=incarnation, outbox_n=0)
    )
    if numbered.rowcount == 0:
        raise Fenced(f"incarnation {session.incarnation} of {session.id} is over")
    await change(
        connection,
        session.id,
        status=SessionStatus.STARTING,
        reason=None,
        incarnation=incarnation,
        incarnation_started_at=at,
        handle=None,
        ready=False,
        idle_since=None,
        redis_hash=redis_hash,
    )
    return incarnation


async def erase(connection: AsyncConnection, session_id: str) -> None:
    """Remove the session and all that hangs on it: the head first, which is whose lock writers of the session wait for.

    Events go in slices: a record may be so long that one statement would take longer than it may.
    """
    gone = delete(heads).where(heads.c.session_id == session_id).returning(heads.c.last_seq)
    last_seq = (await connection.execute(gone)).scalar_one_or_none() or 0
    for end in range(ERASED_AT_ONCE, last_seq + ERASED_AT_ONCE, ERASED_AT_ONCE):
        part = delete(events).prefix_with(LONG).where(events.c.session_id == session_id, events.c.seq <= end)
        await connection.execute(part)
    await connection.execute(delete(sessions).prefix_with(LONG).where(sessions.c.id == session_id))
