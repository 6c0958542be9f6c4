"""A gateway in small: a real HTTP and WebSocket server on loopback that keeps sessions and events in memory.

Tests say how it fails: answers that come first (`answers`), and how each WebSocket connection goes (`connections`).
"""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from cc_protocol.ids import EVENT, SESSION, TURN, new_id

AT = "2026-11-21T10:00:00.000000Z"
TOKEN = "good-token"
Json = dict[str, Any]


def event(seq: int, kind: str, session_id: str = "sesn_x", turn_id: str | None = None, **body: Any) -> Json:
    source = "agent" if kind.startswith("agent.") else "gateway"
    envelope = {"v": 1, "id": body.pop("id", new_id(EVENT)), "seq": seq, "session_id": session_id, "turn_id": turn_id}
    return {**envelope, "processed_at": AT, "source": source, "type": kind, **body}


def text(words: str) -> list[Json]:
    return [{"type": "text", "text": words}]


def preview_start(event_id: str, kind: str = "agent.message") -> Json:
    return {"type": "event_start", "event": {"type": kind, "id": event_id}}


def preview_delta(event_id: str, piece: str, kind: str = "text") -> Json:
    delta = {"type": "content_delta", "index": 0, "content": {"type": kind, kind: piece}}
    return {"type": "event_delta", "event_id": event_id, "delta": delta}


@dataclass
class Connection:
    """How a WebSocket connection goes: what it sends (None: the record from `after`), and how it ends."""

    frames: list[Json] | None = None
    after_frames: int | None = None  # break off after so many
    close: int | None = None  # with this code; None and after_frames: the line just breaks


@dataclass
class StubGateway:
    port: int = 0
    sessions: dict[str, Json] = field(default_factory=dict)
    turns: dict[str, list[Json]] = field(default_factory=dict)
    events: dict[str, list[Json]] = field(default_factory=dict)
    ending: str = "completed"
    hold: bool = False  # turns do not end until they are interrupted
    answers: list[Response] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    requests: list[tuple[str, str, Json, Json | None]] = field(default_factory=list)
    afters: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # ------------------------------------------------------------ what happens

    def add_session(self, session_id: str | None = None, **fields: Any) -> str:
        session_id = session_id or new_id(SESSION)
        self.sessions[session_id] = {
            "session_id": session_id, "status": "idle", "title": None, "metadata": {}, "config": {},
            "workspace": {"type": "ephemeral"}, "created_at": AT, "updated_at": AT, "incarnation": 1,
            "new_field_of_a_newer_gateway": 1, **fields,
        }  # fmt: skip
        self.events.setdefault(session_id, [])
        self.turns.setdefault(session_id, [])
        return session_id

    def record(self, session_id: str, kind: str, turn_id: str | None = None, **body: Any) -> Json:
        made = event(len(self.events[session_id]) + 1, kind, session_id, turn_id, **body)
        self.events[session_id].append(made)
        return made

    def prompt(self, session_id: str, words: str) -> Json:
        turn = {"turn_id": new_id(TURN), "session_id": session_id, "number": len(self.turns[session_id]) + 1,
                "status": "running", "content": text(words), "created_at": AT}  # fmt: skip
        self.turns[session_id].append(turn)
        self.record(session_id, "user.message", turn["turn_id"], content=text(words))
        self.record(session_id, "turn.started", turn["turn_id"], incarnation=1, attempt=1)
        self.record(session_id, "agent.message", turn["turn_id"], content=text(f"you said: {words}"))
        if not self.hold:
            self.end(session_id, turn, self.ending)
        return turn

    def end(self, session_id: str, turn: Json, how: str) -> None:
        turn["status"] = how
        more: Json = {"reason": "user"} if how == "interrupted" else {}
        if how == "failed":
            more = {"error": {"type": "overloaded", "message": "the model is overloaded", "http_status": 529}}
        self.record(session_id, f"turn.{how}", turn["turn_id"], duration_ms=1200, cost_usd=0.01, **more)

    # ------------------------------------------------------------ HTTP

    async def handle(self, request: Request) -> Response:
        body = await request.json() if await request.body() else None
        path = request.url.path.removeprefix("/api/v1")
        if path.startswith("/health"):
            return JSONResponse({"status": "ok", "version": "stub"})
        self.requests.append((request.method, path, dict(request.headers), body))
        if self.answers:
            return self.answers.pop(0)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return refusal(401, "unauthenticated", "the token is not valid")
        return self.answer(request.method, path.strip("/").split("/")[1:], dict(request.query_params), body or {})

    def answer(self, method: str, rest: list[str], query: Json, body: Json) -> Response:
        if not rest:
            return self.collection(method, query, body)
        session_id, *rest = rest
        session = self.sessions.get(session_id)
        if session is None:
            return refusal(404, "not_found", f"no such session: {session_id}")
        match method, rest:
            case "GET", []:
                return JSONResponse(session)
            case "DELETE", []:
                del self.sessions[session_id]
                return Response(status_code=204)
            case "POST", ["stop"]:
                session["status"] = "stopped"
                return JSONResponse(session)
            case "POST", ["interrupt"]:
                return self.interrupt(session_id)
            case "POST", ["chat"]:
                turn = self.prompt(session_id, body.get("prompt", ""))
                return JSONResponse(turn, 202 if body.get("stream") or turn["status"] == "running" else 200)
            case "GET", ["turns"]:
                return paged(self.turns[session_id], query)
            case "GET", ["events"]:
                return self.page(session_id, query)
            case "GET", ["messages"]:
                return paged([as_message(one) for one in self.events[session_id] if one["type"] in KINDS], query)
        return refusal(405, "method_not_allowed", "no")

    def collection(self, method: str, query: Json, body: Json) -> Response:
        if method == "GET":
            found = [one for one in self.sessions.values() if query.get("status") in (None, one["status"])]
            return paged(sorted(found, key=lambda one: str(one["session_id"]), reverse=True), query)
        session_id = self.add_session(title=body.get("title"), config=body.get("config") or {})
        turn = self.prompt(session_id, body["prompt"]) if body.get("prompt") else {"turn_id": None}
        return JSONResponse({**self.sessions[session_id], "turn_id": turn["turn_id"]}, 201)

    def interrupt(self, session_id: str) -> Response:
        running = [turn for turn in self.turns[session_id] if turn["status"] == "running"]
        for turn in running:
            self.end(session_id, turn, "interrupted")
        return JSONResponse({"turn_id": running[0]["turn_id"] if running else None}, 202)

    def page(self, session_id: str, query: Json) -> Response:
        after, limit = int(query.get("after", 0)), min(int(query.get("limit", 100)), 3)
        kinds = query["types"].split(",") if query.get("types") else None
        found = [one for one in self.events[session_id] if one["seq"] > after and (not kinds or one["type"] in kinds)]
        data = (found if query.get("order") != "desc" else found[::-1])[:limit]
        following = data[-1]["seq"] if len(data) == limit else None
        return JSONResponse({"data": data, "last_seq": len(self.events[session_id]), "next_after": following})

    # ------------------------------------------------------------ WebSocket

    async def stream(self, socket: WebSocket) -> None:
        await socket.accept()
        session_id, after = socket.path_params["session_id"], int(socket.query_params["after"])
        self.afters.append(after)
        if session_id not in self.sessions:
            error = {"code": "not_found", "message": "no such session", "details": {}}
            await socket.send_json({"type": "stream.error", "ref": None, "error": error})
            await socket.close(4404)
            return
        how = self.connections.pop(0) if self.connections else Connection()
        with contextlib.suppress(Exception):
            await socket.send_json({"type": "stream.ready", "last_seq": len(self.events[session_id])})
            await self.send_all(socket, session_id, after, how)

    async def send_all(self, socket: WebSocket, session_id: str, after: int, how: Connection) -> None:
        sent = 0
        async for frame in self.frames(session_id, after, how):
            if how.after_frames is not None and sent >= how.after_frames:
                break
            await socket.send_json(frame)
            sent += 1
        if how.close is not None:
            await socket.close(how.close)

    async def frames(self, session_id: str, after: int, how: Connection) -> Any:
        if how.frames is not None:
            for frame in how.frames:
                yield frame
            return
        at = after
        while True:
            for one in self.events[session_id][at:]:
                at += 1
                yield one
            await asyncio.sleep(0.01)


KINDS = {"user.message": ("user", "text"), "agent.message": ("assistant", "text")}


def as_message(one: Json) -> Json:
    role, kind = KINDS[one["type"]]
    return {"id": one["id"], "seq": one["seq"], "at": AT, "role": role, "kind": kind, "content": one["content"]}


def paged(items: list[Json], query: Json, size: int = 2) -> Response:
    start = int(query.get("cursor") or 0)
    end = start + min(int(query.get("limit") or size), size)
    return JSONResponse({"data": items[start:end], "next_cursor": str(end) if end < len(items) else None})


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None, **details: Any) -> Response:
    error = {"code": code, "message": message, "details": details}
    return JSONResponse({"error": error, "request_id": f"req_{uuid.uuid4().hex[:8]}"}, status, headers)


@contextlib.contextmanager
def serving(stub: StubGateway) -> Iterator[StubGateway]:
    """Serve it from a thread of its own, on a free port, until the block ends."""
    methods = ["GET", "POST", "PATCH", "DELETE"]
    app = FastAPI(routes=[
        WebSocketRoute("/api/v1/sessions/{session_id}/stream", stub.stream),
        Route("/{path:path}", stub.handle, methods=methods),
    ])  # fmt: skip
    started = threading.Event()
    server = uvicorn.Server(uvicorn.Config(app, port=stub.port, log_level="critical", timeout_graceful_shutdown=1))

    async def serve() -> None:
        task = asyncio.ensure_future(server.serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.005)
        started.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    stub.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
