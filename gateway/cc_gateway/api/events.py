"""The record: as pages, as messages, and as a stream of server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import format_sse_event

from cc_gateway.api.answers import EventList, Message, MessageList
from cc_gateway.api.deps import Deps, OwnSession
from cc_gateway.api.errors import documented
from cc_gateway.errors import InvalidRequest
from cc_gateway.services.feed import FeedItem
from cc_gateway.services.reading import Page

router = APIRouter(prefix="/sessions/{session_id}", tags=["events"])

MAX_SEQ = 2**62
Seq = Annotated[int | None, Query(ge=0, le=MAX_SEQ)]


@router.get("/events", responses=documented(404), response_model=EventList, summary="Read the record")
async def list_events(
    session: OwnSession,
    deps: Deps,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ, description="Only events behind this number.")] = 0,
    before: Annotated[int | None, Query(ge=1, le=MAX_SEQ, description="Only events before this number.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    types: Annotated[
        str | None, Query(max_length=2000, pattern=r"^[^\x00]*$", description="Types, separated by commas.")
    ] = None,
    order: Literal["asc", "desc"] = "asc",
    raw: Annotated[bool, Query(description="Also the CLI's own line, as `raw`.")] = False,
) -> Response:
    """Numbered from 1 without gaps: go on with the last `seq` as `after` (newest first: the last as `before`)."""
    wanted = [kind.strip() for kind in types.split(",") if kind.strip()] if types else []
    page = await deps.reader.events(
        session.id, after=after, before=before, limit=limit, types=wanted, order=order, raw=raw
    )
    return Response(_as_json(page, raw), media_type="application/json")


def _as_json(page: Page, raw: bool) -> bytes:
    """The answer, made of the events' own bytes: they were parsed when they were recorded."""
    data = b",".join(event.to_json(raw=raw) for event in page.events)
    tail = orjson.dumps({"last_seq": page.last_seq, "next_after": page.following})
    return b'{"data":[' + data + b"]," + tail[1:]


@router.get("/messages", responses=documented(404), summary="Read the conversation")
async def list_messages(
    session: OwnSession,
    deps: Deps,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=20, description="`next_cursor` of the page before.")] = None,
) -> MessageList:
    """What was said and done, as a person reads it, oldest first; derived from the events."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and int(cursor) < MAX_SEQ):
        raise InvalidRequest("`cursor` is not one of ours: give `next_cursor` of the page before", code="bad_cursor")
    steps, following = await deps.reader.conversation(session.id, after=int(cursor or 0), limit=limit)
    next_cursor = None if following is None else str(following)
    return MessageList(data=[Message(**asdict(step)) for step in steps], next_cursor=next_cursor)


@router.get(
    "/events/stream",
    responses=documented(404) | {200: {"content": {"text/event-stream": {}}, "description": "Events, one a frame."}},
    response_class=StreamingResponse,
    summary="Follow (server-sent events)",
)
async def stream_events(
    request: Request,
    session: OwnSession,
    deps: Deps,
    after: Seq = None,
    previews: Annotated[bool, Query(description="Also token deltas (`event_start`, `event_delta`).")] = True,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> StreamingResponse:
    """From `after` (or `Last-Event-ID`) on, each event once and in order: `event:` its type, `id:` its `seq`.

    A comment every 15 seconds keeps the connection. It ends when the session is deleted.
    """
    cursor = after if after is not None else _last_event_id(last_event_id)
    items = deps.feed.follow(session.id, after=cursor, previews=previews)
    return StreamingResponse(
        _frames(items, deps.limits.heartbeat_seconds),
        media_type="text/event-stream",
        headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
    )


def _last_event_id(value: str | None) -> int:
    if value is None or value == "":
        return 0
    if not (value.isascii() and value.isdigit() and int(value) <= MAX_SEQ):
        raise InvalidRequest("`Last-Event-ID` must be the number of an event", code="bad_cursor")
    return int(value)


async def _frames(items: AsyncIterator[FeedItem], heartbeat: float) -> AsyncIterator[bytes]:
    yield format_sse_event(comment="connected")
    following: asyncio.Task[FeedItem] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_next(items))
            done, _ = await asyncio.wait({following}, timeout=heartbeat)
            if not done:
                yield format_sse_event(comment="heartbeat")
                continue
            try:
                item = following.result()
            except StopAsyncIteration:
                return
            following = None
            number = None if item.seq is None else str(item.seq)
            yield format_sse_event(data_str=item.json.decode(), event=item.type, id=number)
    finally:
        if following:
            following.cancel()


async def _next(items: AsyncIterator[FeedItem]) -> FeedItem:
    return await anext(items)
