"""`WS /sessions/{id}/stream`: follow a session, and talk to it, over one connection.

The server sends recorded events, previews, and frames of its own whose type begins with `stream.`. The client sends
`prompt`, `interrupt` and `ping`. A client that does not read is cut with 4008 and comes back with its cursor.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import orjson
import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cc_gateway.api.deps import Services, services
from cc_gateway.api.errors import as_dict
from cc_gateway.api.requests import Prompt
from cc_gateway.errors import CCError, InvalidRequest, NotFound, Unauthenticated, Unavailable
from cc_gateway.models import Session
from cc_gateway.stores.idempotency import fingerprint

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/sessions/{session_id}", tags=["events"])

SEND_SECONDS: Final = 30.0
SUBPROTOCOL: Final = "cc-docker"
BEARER: Final = "bearer."
CLOSE_CODES: Final[dict[type[CCError], int]] = {Unauthenticated: 4401, InvalidRequest: 4400, NotFound: 4404}
CLOSE_SLOW: Final = 4008
CLOSE_TRY_AGAIN: Final = 1013


class PromptFrame(Prompt):
    type: Literal["prompt"]
    ref: str | None = Field(None, max_length=255, description="Comes back with the answer.")
    idempotency_key: str | None = Field(None, min_length=1, max_length=255)


class InterruptFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["interrupt"]
    turn_id: str | None = None
    ref: str | None = Field(None, max_length=255)


class PingFrame(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["ping"]
    ref: str | None = Field(None, max_length=255)


FRAME: TypeAdapter[PromptFrame | InterruptFrame | PingFrame] = TypeAdapter(
    Annotated[PromptFrame | InterruptFrame | PingFrame, Field(discriminator="type")]
)


@router.websocket("/stream")
async def stream(socket: WebSocket, session_id: str) -> None:
    deps = services(socket)
    try:
        session, after, previews = await _admit(socket, deps, session_id)
    except CCError as error:
        code = next((code for kind, code in CLOSE_CODES.items() if isinstance(error, kind)), CLOSE_TRY_AGAIN)
        await socket.accept()
        await socket.send_text(orjson.dumps({"type": "stream.error", "ref": None, "error": as_dict(error)}).decode())
        await socket.close(code, error.message[:120])
        return
    offered = socket.scope.get("subprotocols", [])
    await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    await _Conversation(socket, deps, session).run(after, previews)


async def _admit(socket: WebSocket, deps: Services, session_id: str) -> tuple[Session, int, bool]:
    """Who it is, what they want to follow, and from where. The token never stands in the address."""
    origin = socket.headers.get("origin")
    if origin and urlsplit(origin).netloc != socket.headers.get("host"):
        raise Unauthenticated("this origin may not connect")
    principal = deps.tokens.verify_user(_token(socket))
    session = await deps.sessions.get(principal.subject, session_id)
    after = socket.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise InvalidRequest("`after` must be the number of an event")
    return session, int(after), socket.query_params.get("previews", "true").lower() not in ("false", "0", "no")


def _token(socket: WebSocket) -> str:
    header = socket.headers.get("authorization", "")
    if header.lower().startswith("bearer "):
        return header[7:]
    for offered in socket.scope.get("subprotocols", []):  # browsers cannot set headers
        if offered.startswith(BEARER):
            return str(offered[len(BEARER) :])
    raise Unauthenticated("a token is needed: `Authorization: Bearer …`, or the subprotocol `bearer.…`")


class _Conversation:
    """One connection: a task that sends, and a loop that takes what the client says."""

    def __init__(self, socket: WebSocket, deps: Services, session: Session) -> None:
        self._socket = socket
        self._deps = deps
        self._session = session
        self._sending = asyncio.Lock()

    async def run(self, after: int, previews: bool) -> None:
        sender = asyncio.create_task(self._send_feed(after, previews))
        receiver = asyncio.create_task(self._receive())
        try:
            await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sender, receiver):
                task.cancel()
            results = await asyncio.gather(sender, receiver, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(
                result, WebSocketDisconnect | TimeoutError | Unavailable
            ):
                log.warning("websocket_failed", session_id=self._session.id, error=repr(result))
        code, reason = _closing(results)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
            await self._socket.close(code, reason)

    async def _send_feed(self, after: int, previews: bool) -> None:
        last_seq = await self._deps.reader.last_seq(self._session.id)
        await self._send({"type": "stream.ready", "session_id": self._session.id, "last_seq": last_seq})
        async for item in self._deps.feed.follow(self._session.id, after=after, previews=previews):
            await self._send_text(item.json.decode())

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or ""  # a binary frame has none
            ref: str | None = None
            try:
                frame = _parse(text)
                ref = frame.ref
                await self._send(await self._obey(frame, text) | {"ref": ref})
            except CCError as error:
                await self._send({"type": "stream.error", "ref": ref, "error": as_dict(error)})

    async def _obey(self, frame: PromptFrame | InterruptFrame | PingFrame, text: str) -> dict[str, Any]:
        session = self._session
        if isinstance(frame, PingFrame):
            return {"type": "stream.pong"}
        if isinstance(frame, InterruptFrame):
            turn_id = await self._deps.turns.interrupt(session.id, frame.turn_id)
            return {"type": "stream.accepted", "turn_id": turn_id}
        key = frame.idempotency_key
        mark = (key, fingerprint(f"WS {session.id}", orjson.dumps(frame.blocks()))) if key else None
        turn = await self._deps.turns.submit(session.owner, session.id, frame.blocks(), key=mark)
        return {"type": "stream.accepted", "turn_id": turn.id}

    async def _send(self, frame: dict[str, Any]) -> None:
        await self._send_text(orjson.dumps(frame).decode())

    async def _send_text(self, text: str) -> None:
        async with asyncio.timeout(SEND_SECONDS), self._sending:
            await self._socket.send_text(text)


def _closing(results: Iterable[Any]) -> tuple[int, str]:
    """With which code and words a connection ends whose tasks ended like this (pure)."""
    if any(isinstance(result, TimeoutError) for result in results):
        return CLOSE_SLOW, "too slow: come back with your cursor"
    for result in results:
        if isinstance(result, Unavailable):
            return CLOSE_TRY_AGAIN, result.message[:120]
    return 1000, ""


def _parse(text: str) -> PromptFrame | InterruptFrame | PingFrame:
    if not text:
        raise InvalidRequest("frames are JSON, as text")
    try:
        return FRAME.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{place}: {first['msg']}" if place else first["msg"]) from None
