"""Queries over turns: the table is the queue, and every change of state is conditional on the state before."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import RowMapping, Select, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.models import ENDED, LIVE, Turn, TurnState, TurnStatus, now
from cc_gateway.stores.schema import sessions, turns

_STATE = [column for column in turns.c if column.name not in ("content", "outcome")]

_OF_SESSION: Final = turns.c.session_id == bindparam("of_session")
_OF_TURN: Final = turns.c.id == bindparam("turn_id")
_QUEUED: Final = turns.c.status == TurnStatus.QUEUED.value
_RUNNING: Final = turns.c.status == TurnStatus.RUNNING.value
_ANOTHER: Final = turns.alias()
_ANOTHER_RUNS: Final = (
    select(_ANOTHER.c.id)
    .where(_ANOTHER.c.session_id == turns.c.session_id, _ANOTHER.c.status == TurnStatus.RUNNING.value)
    .exists()
)
_ADD: Final = insert(turns)
_LAST: Final = select(func.coalesce(func.max(turns.c.number), 0)).where(_OF_SESSION)
_GET: Final = select(turns).where(_OF_SESSION, _OF_TURN)
_COUNT_QUEUED: Final = select(func.count()).where(_OF_SESSION, _QUEUED)
_CONTENT: Final = select(turns.c.content).where(_OF_TURN)
_FIRST: Final = select(*_STATE).where(_OF_SESSION).order_by(turns.c.number).limit(1)
_FIRST_RUNNING: Final = _FIRST.where(_RUNNING)
_FIRST_QUEUED: Final = _FIRST.where(_QUEUED)
_FIRST_TWO: Final = select(*_STATE).where(_OF_SESSION, _RUNNING | _QUEUED).order_by(_QUEUED, turns.c.number).limit(2)
_START: Final = (
    update(turns)
    .where(_OF_TURN, _QUEUED, ~_ANOTHER_RUNS)
    .values(
        status=TurnStatus.RUNNING.value,
        incarnation=bindparam("on_incarnation"),
        started_at=bindparam("at"),
        attempt=turns.c.attempt + 1,
        model_requested=False,
    )
)
_END: Final = (
    update(turns)
    .where(_OF_TURN)
    .values(status=bindparam("how"), ended_at=bindparam("at"), outcome=bindparam("with_outcome"))
)
_END_QUEUED: Final = _END.where(_QUEUED)
_END_RUNNING: Final = _END.where(_RUNNING, turns.c.incarnation == bindparam("on_incarnation"))
_MARK_MODEL_REQUEST: Final = (
    update(turns)
    .where(
        _OF_SESSION, _RUNNING, turns.c.incarnation == bindparam("on_incarnation"), turns.c.model_requested.is_(False)
    )
    .values(model_requested=True)
)


def _to_state(row: RowMapping) -> TurnState:
    return TurnState(**{**row, "status": TurnStatus(row["status"])})


def _to_turn(row: RowMapping) -> Turn:
    fields = dict(row)
    fields["status"] = TurnStatus(fields["status"])
    fields["content"] = orjson.loads(fields["content"])
    fields["outcome"] = orjson.loads(fields["outcome"])
    return Turn(**fields)


async def add(
    connection: AsyncConnection,
    turn_id: str,
    session_id: str,
    content: list[dict[str, Any]],
    *,
    created_at: datetime | None = None,
) -> Turn:
    """Queue a turn behind all others of its session; the caller holds the session's head row."""
    number = (await connection.execute(_LAST, {"of_session": session_id})).scalar_one() + 1
    turn = Turn(
        id=turn_id,
        session_id=session_id,
        number=number,
        status=TurnStatus.QUEUED,
        content=content,
        created_at=created_at or now(),
        started_at=None,
        ended_at=None,
        incarnation=None,
        attempt=0,
        model_requested=False,
        interrupt_reason=None,
        interrupted_at=None,
        outcome={},
    )
    row = {column.name: getattr(turn, column.name) for column in turns.c}
    row |= {"status": turn.status.value, "content": orjson.dumps(content).decode(), "outcome": "{}"}
    await connection.execute(_ADD, row)
    return turn


async def get(connection: AsyncConnection, session_id: str, turn_id: str) -> Turn | None:
    row = (await connection.execute(_GET, {"of_session": session_id, "turn_id": turn_id})).mappings().one_or_none()
    return None if row is None else _to_turn(row)


async def first(connection: AsyncConnection, session_id: str) -> Turn | None:
    found = await page(connection, session_id, status=None, after=0, limit=1)
    return found[0] if found else None


async def page(
    connection: AsyncConnection, session_id: str, *, status: TurnStatus | None, after: int, limit: int
) -> list[Turn]:
    query = select(turns).where(turns.c.session_id == session_id, turns.c.number > after)
    if status is not None:
        query = query.where(turns.c.status == status.value)
    rows = (await connection.execute(query.order_by(turns.c.number).limit(limit))).mappings()
    return [_to_turn(row) for row in rows]


async def queued(connection: AsyncConnection, session_id: str) -> int:
    return (await connection.execute(_COUNT_QUEUED, {"of_session": session_id})).scalar_one()


async def content(connection: AsyncConnection, turn_id: str) -> list[dict[str, Any]]:
    """What was asked."""
    text = (await connection.execute(_CONTENT, {"turn_id": turn_id})).scalar_one()
    blocks: list[dict[str, Any]] = orjson.loads(text)
    return blocks


async def running(connection: AsyncConnection, session_id: str) -> TurnState | None:
    return await _first(connection, session_id, _FIRST_RUNNING)


@dataclass(frozen=True)
class Live:
    """The incarnation that a session has now, and whether the model has heard of its turn (None: no turn runs)."""

    incarnation: int
    model_requested: bool | None


_LIVE = (
    select(sessions.c.incarnation, turns.c.model_requested)
    .select_from(sessions)
    .outerjoin(turns, (turns.c.session_id == sessions.c.id) & (turns.c.status == TurnStatus.RUNNING.value))
    .where(
        sessions.c.id == bindparam("session_id"),
        sessions.c.deleted_at.is_(None),
        sessions.c.status.in_([status.value for status in LIVE]),
    )
)


async def live(connection: AsyncConnection, session_id: str) -> Live | None:
    """What every model request is checked against: one short query."""
    row = (await connection.execute(_LIVE, {"session_id": session_id})).one_or_none()
    return None if row is None else Live(*row)


async def next_queued(connection: AsyncConnection, session_id: str) -> TurnState | None:
    return await _first(connection, session_id, _FIRST_QUEUED)


async def next_two(connection: AsyncConnection, session_id: str) -> tuple[TurnState | None, TurnState | None]:
    """The turn that runs, and the first that waits."""
    rows = (await connection.execute(_FIRST_TWO, {"of_session": session_id})).mappings()
    found = [_to_state(row) for row in rows]
    running = next((turn for turn in found if turn.status == TurnStatus.RUNNING), None)
    return running, next((turn for turn in found if turn.status == TurnStatus.QUEUED), None)


async def _first(connection: AsyncConnection, session_id: str, query: Select[Any]) -> TurnState | None:
    row = (await connection.execute(query, {"of_session": session_id})).mappings().one_or_none()
    return None if row is None else _to_state(row)


async def start(connection: AsyncConnection, turn_id: str, incarnation: int) -> bool:
    """queued → running on this incarnation. False where it is queued no more, or another of its session runs.

    The caller holds the session's head row; an index keeps a second turn from running even where it does not.
    """
    result = await connection.execute(_START, {"turn_id": turn_id, "on_incarnation": incarnation, "at": now()})
    return result.rowcount == 1


async def requeue(connection: AsyncConnection, turn_id: str, incarnation: int) -> bool:
    """running → queued: only for a turn of which the model has seen nothing, so that no side effect runs twice."""
    result = await connection.execute(
        update(turns)
        .where(
            turns.c.id == turn_id,
            turns.c.status == TurnStatus.RUNNING.value,
            turns.c.incarnation == incarnation,
            turns.c.model_requested.is_(False),
        )
        .values(status=TurnStatus.QUEUED.value, incarnation=None, started_at=None)
    )
    return result.rowcount == 1


async def end(
    connection: AsyncConnection,
    turn_id: str,
    status: TurnStatus,
    outcome: dict[str, Any],
    *,
    incarnation: int | None,
) -> bool:
    """Give a turn its one end. False where it has one already or runs on another incarnation.

    `incarnation` None ends a queued turn, a number one that runs on it.
    """
    assert status in ENDED
    names = {"turn_id": turn_id, "how": status.value, "at": now(), "with_outcome": orjson.dumps(outcome).decode()}
    if incarnation is None:
        result = await connection.execute(_END_QUEUED, names)
    else:
        result = await connection.execute(_END_RUNNING, names | {"on_incarnation": incarnation})
    return result.rowcount == 1


async def mark_interrupt(connection: AsyncConnection, turn_id: str, reason: str, at: datetime) -> bool:
    """Note that this running turn is to end. The first reason stays."""
    result = await connection.execute(
        update(turns)
        .where(turns.c.id == turn_id, turns.c.status == TurnStatus.RUNNING.value, turns.c.interrupt_reason.is_(None))
        .values(interrupt_reason=reason, interrupted_at=at)
    )
    return result.rowcount == 1


async def mark_model_request(connection: AsyncConnection, session_id: str, incarnation: int) -> None:
    """Note that the model has heard of the turn that runs: from now on it is never run again by itself."""
    await connection.execute(_MARK_MODEL_REQUEST, {"of_session": session_id, "on_incarnation": incarnation})


async def all_queued(connection: AsyncConnection, session_id: str) -> list[TurnState]:
    query = select(*_STATE).where(turns.c.session_id == session_id, turns.c.status == TurnStatus.QUEUED.value)
    return [_to_state(row) for row in (await connection.execute(query.order_by(turns.c.number))).mappings()]
