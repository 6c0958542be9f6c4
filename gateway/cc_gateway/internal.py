"""The internal front door: two unix sockets a session, in a folder of its own that is mounted read-only.

`gateway.sock` speaks HTTP and serves the ASGI application that it is given, with the session's id in the scope: what is
served on it may trust that and nothing else. `redis.sock` is a pipe to Redis, where the session's own ACL user is all that
can log in. Both are bound under a temporary name and renamed, so that a restart takes over without a gap.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from uvicorn.server import ServerState

from cc_gateway.errors import StartupError
from cc_protocol.launch import GATEWAY_SOCKET, REDIS_SOCKET

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

SESSION_KEY = "cc.session_id"
MAX_CONNECTIONS = 64
PIPE_CHUNK = 64 * 1024
LONGEST_PATH = 107  # sun_path, less its final zero


class HttpSocket:
    """Serves an ASGI application on a unix socket, in this event loop, to a limited number of connections."""

    def __init__(self, server: asyncio.Server, state: ServerState) -> None:
        self._server = server
        self._state = state

    @classmethod
    async def open(cls, app: ASGIApp, path: Path, *, max_connections: int = 10_000) -> "HttpSocket":
        config = uvicorn.Config(
            app, lifespan="off", ws="none", access_log=False, log_config=None, timeout_keep_alive=75
        )
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            if len(state.connections) >= max_connections:
                return _Refuse()
            return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]

        return cls(await _bind(path, lambda name: loop.create_unix_server(protocol, name, backlog=128)), state)

    def close(self) -> None:
        """Stop listening, and cut what is connected."""
        self._server.close()
        for connection in list(self._state.connections):
            if transport := getattr(connection, "transport", None):
                transport.abort()


class _Refuse(asyncio.Protocol):
    """What meets a connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def _bind(path: Path, create: Callable[[str], Awaitable[asyncio.Server]]) -> asyncio.Server:
    temporary = f"{path}~"
    if len(os.fsencode(temporary)) > LONGEST_PATH:
        raise StartupError(f"socket path too long ({path}): choose a shorter CC_DATA_DIR", code="path_too_long")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    server = await create(temporary)
    os.chmod(temporary, 0o666)  # noqa: S103 - the folder says who may reach it
    os.rename(temporary, path)
    return server


class SessionDoors:
    """Opens and closes the sockets of sessions. Opening twice keeps what is open."""

    def __init__(self, app: ASGIApp, open_redis: Connect) -> None:
        self._app = app
        self._open_redis = open_redis
        self._open: dict[str, tuple[HttpSocket, asyncio.Server]] = {}
        self._pipes: dict[str, set[asyncio.Task[None]]] = {}

    def is_open(self, session_id: str) -> bool:
        return session_id in self._open

    async def open(self, session_id: str, folder: Path) -> None:
        if self.is_open(session_id):
            return

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope[SESSION_KEY] = session_id
            await self._app(scope, receive, send)

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._pipe(session_id, reader, writer)

        http = await HttpSocket.open(app, folder / GATEWAY_SOCKET, max_connections=MAX_CONNECTIONS)
        redis = await _bind(folder / REDIS_SOCKET, lambda name: asyncio.start_unix_server(pipe, name))
        self._open[session_id] = (http, redis)

    async def close(self, session_id: str) -> None:
        """Stop listening and cut what is connected."""
        for server in self._open.pop(session_id, ()):
            server.close()
        for task in self._pipes.pop(session_id, set()):
            task.cancel()

    async def close_all(self) -> None:
        for session_id in list(self._open):
            await self.close(session_id)

    async def _pipe(self, session_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks = self._pipes.setdefault(session_id, set())
        task = asyncio.current_task()
        if task is None or len(tasks) >= MAX_CONNECTIONS:
            writer.close()
            return
        tasks.add(task)
        try:
            upstream_reader, upstream_writer = await self._open_redis()
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, upstream_writer))
                group.create_task(_copy(upstream_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy until the end, with the target's backpressure; then end both directions."""
    try:
        while chunk := await source.read(PIPE_CHUNK):
            target.write(chunk)
            await target.drain()
    finally:
        target.close()
