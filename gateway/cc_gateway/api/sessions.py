"""`/sessions`: make, list, change, stop, interrupt and delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from cc_gateway.api.answers import InterruptOut, SessionList, SessionOut
from cc_gateway.api.deps import Caller, Deps, IdempotencyKey, OwnSession
from cc_gateway.api.errors import documented
from cc_gateway.api.requests import CreateSession, Interrupt, UpdateSession
from cc_gateway.errors import InvalidRequest
from cc_gateway.models import SessionStatus
from cc_protocol.ids import SESSION, is_id

router = APIRouter(prefix="/sessions", tags=["sessions"])
LABEL = "metadata."


@router.post("", status_code=201, responses=documented(400, 409, 413, 429), summary="Open a session")
async def create_session(body: CreateSession, caller: Caller, deps: Deps, key: IdempotencyKey) -> SessionOut:
    """Answers as soon as the session is on record; it starts meanwhile. With `prompt` its first turn is queued."""
    session, turn = await deps.sessions.create(
        caller.subject,
        config=body.config,
        workspace=body.workspace,
        title=body.title,
        metadata=body.metadata,
        prompt=[{"type": "text", "text": body.prompt}] if body.prompt else None,
        key=key,
    )
    return SessionOut.of(session, deps.base_url, turn_id=turn.id if turn else None)


@router.get("", responses=documented(), summary="List your sessions")
async def list_sessions(
    request: Request,
    caller: Caller,
    deps: Deps,
    status: SessionStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> SessionList:
    """Newest first. `metadata.KEY=VALUE` keeps those whose metadata has that value; it may be given several times."""
    if cursor is not None and not is_id(cursor, SESSION):
        raise InvalidRequest("`cursor` is not one of ours: give `next_cursor` of the page before", code="bad_cursor")
    labels = {name[len(LABEL) :]: value for name, value in request.query_params.items() if name.startswith(LABEL)}
    found, following = await deps.sessions.page(
        caller.subject, status=status, labels=labels, cursor=cursor, limit=limit
    )
    return SessionList(data=[SessionOut.of(session, deps.base_url) for session in found], next_cursor=following)


@router.get("/{session_id}", responses=documented(404), summary="Look at a session")
async def get_session(session: OwnSession, deps: Deps) -> SessionOut:
    return SessionOut.of(session, deps.base_url)


@router.patch("/{session_id}", responses=documented(400, 404, 413), summary="Change a session")
async def update_session(body: UpdateSession, session: OwnSession, deps: Deps) -> SessionOut:
    """Title and metadata change at once, model and permission mode with the next turn."""
    changes = body.model_dump(exclude_unset=True)
    if not changes:
        raise InvalidRequest("nothing to change: give `title`, `metadata`, `model` or `permission_mode`")
    return SessionOut.of(await deps.sessions.update(session.owner, session.id, changes=changes), deps.base_url)


@router.delete("/{session_id}", status_code=204, responses=documented(404), summary="Delete a session")
async def delete_session(session: OwnSession, deps: Deps) -> None:
    """Ends what runs and forgets conversation and record. A persistent workspace is kept."""
    await deps.sessions.delete(session.owner, session.id)


@router.post("/{session_id}/stop", responses=documented(404), summary="Stop a session")
async def stop_session(session: OwnSession, deps: Deps) -> SessionOut:
    """Interrupts the running turn, cancels queued ones and ends the place where it runs. A prompt starts it again.

    Answers once it is stopped, or after 20 seconds as it is then.
    """
    return SessionOut.of(await deps.sessions.stop(session.owner, session.id), deps.base_url)


@router.get(
    "/{session_id}/logs",
    responses=documented(404) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,  # errors are JSON
    summary="Read what the session's wrapper wrote",
)
async def session_logs(
    session: OwnSession,
    deps: Deps,
    tail: Annotated[int, Query(ge=1, le=5000, description="How many lines, counted from the end.")] = 200,
) -> PlainTextResponse:
    """Plain text for whoever looks for the cause of a failure; kept until the session is deleted. Not the record."""
    return PlainTextResponse(await deps.sessions.logs(session.owner, session.id, tail))


@router.post(
    "/{session_id}/interrupt",
    status_code=202,
    responses=documented(400, 404, 409, 413),
    summary="Interrupt the running turn",
)
async def interrupt_session(
    session: OwnSession, deps: Deps, key: IdempotencyKey, body: Interrupt | None = None
) -> InterruptOut:
    """Asks the agent to end its turn. `turn_id` is null where nothing (or another turn) runs; no harm is done then."""
    owned = (session.owner, *key) if key else None
    turn_id = await deps.turns.interrupt(session.id, body.turn_id if body else None, key=owned)
    return InterruptOut(turn_id=turn_id)
