"""Prompts and their turns: `/sessions/{id}/chat` and `/sessions/{id}/turns`."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Response

from cc_gateway.api.answers import TurnList, TurnOut
from cc_gateway.api.deps import Deps, IdempotencyKey, OwnSession
from cc_gateway.api.errors import documented
from cc_gateway.api.requests import Chat
from cc_gateway.errors import InvalidRequest, Unavailable
from cc_gateway.models import ENDED, TurnStatus

router = APIRouter(prefix="/sessions/{session_id}", tags=["turns"])


@router.post(
    "/chat",
    responses=documented(400, 404, 409, 413, 429) | {202: {"model": TurnOut, "description": "Accepted; it goes on."}},
    summary="Send a prompt",
)
async def chat(body: Chat, session: OwnSession, deps: Deps, key: IdempotencyKey, response: Response) -> TurnOut:
    """Queues a prompt and waits for its end: 200 with result, usage, cost and duration.

    With `stream: true`, or when `timeout_seconds` run out first, it answers 202 with the turn as it is: follow the events.
    A turn that fails is still a 200: its `status` is `failed` and `error` says why.
    """
    turn = await deps.turns.submit(session.owner, session.id, body.blocks(), key=key)
    if not body.stream:
        with suppress(Unavailable):  # it has been accepted: whoever heard otherwise would send it again
            turn = await deps.turns.wait(session.id, turn.id, body.timeout_seconds)
    response.status_code = 200 if turn.status in ENDED else 202
    return TurnOut.of(turn)


@router.get("/turns", responses=documented(404), summary="List turns")
async def list_turns(
    session: OwnSession,
    deps: Deps,
    status: TurnStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=20, description="`next_cursor` of the page before.")] = None,
) -> TurnList:
    """Oldest first."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and int(cursor) < 2**31):
        raise InvalidRequest("`cursor` is not one of ours: give `next_cursor` of the page before", code="bad_cursor")
    found, following = await deps.turns.page(session.id, status=status, after=int(cursor or 0), limit=limit)
    return TurnList(
        data=[TurnOut.of(turn) for turn in found], next_cursor=None if following is None else str(following)
    )


@router.get("/turns/{turn_id}", responses=documented(404), summary="Look at a turn")
async def get_turn(turn_id: str, session: OwnSession, deps: Deps) -> TurnOut:
    return TurnOut.of(await deps.turns.get(session.id, turn_id))


@router.delete("/turns/{turn_id}", responses=documented(404, 409), summary="Cancel a queued turn")
async def cancel_turn(turn_id: str, session: OwnSession, deps: Deps) -> TurnOut:
    """Only a queued turn can be canceled; a running one is interrupted (`POST …/interrupt`)."""
    return TurnOut.of(await deps.turns.cancel(session.id, turn_id))
