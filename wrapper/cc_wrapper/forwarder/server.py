"""Connections of the forwarder: requests are parsed one by one, responses are copied as they come.

Above it: `claude`, and any process that can reach 127.0.0.1, which is why each request must show the nonce. Below it:
the gateway's socket. It knows nothing of what the requests mean. While the gateway is away it answers 503, which the CLI
tries again.
"""

import asyncio
import contextlib
import logging
import secrets
from pathlib import Path
from typing import Final, Self

import orjson

from cc_wrapper.claude.command import Endpoint
from cc_wrapper.forwarder.head import BadRequestError, Head, chunk_size, parse_head

_HEAD_LIMIT: Final = 64 * 1024
_CONNECTIONS: Final = 64
_IDLE: Final = 600.0
_CHUNK: Final = 64 * 1024

_ERRORS: Final = {
    400: ("Bad Request", "invalid_request_error", "The forwarder could not read this request."),
    401: ("Unauthorized", "authentication_error", "This address serves the session's own claude alone."),
    503: ("Service Unavailable", "api_error", "The gateway cannot be reached."),
}

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """This request is answered here."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Forwarder:
    def __init__(self, gateway_socket: Path, token: str) -> None:
        self._socket = gateway_socket
        self._token = token
        self._nonce = secrets.token_urlsafe(32)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_LIMIT)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def endpoint(self) -> Endpoint:
        assert self._server is not None
        return Endpoint(f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}", self._nonce)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self._socket, reader, writer)
        try:
            if len(self._tasks) > _CONNECTIONS:
                raise RefusedError(503)
            while (head := await connection.next_head()) is not None:
                if not head.carries(self._nonce):
                    raise RefusedError(401)
                await connection.forward(head, self._token)
        except RefusedError as refused:
            await connection.refuse(refused.status)
        except BadRequestError:
            await connection.refuse(400)
        except (OSError, EOFError, TimeoutError):
            log.debug("connection ended early")
        finally:
            await connection.close()


class _Connection:
    """One connection of `claude`, and the one to the gateway that belongs to it."""

    def __init__(self, socket: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._socket = socket
        self._reader, self._writer = reader, writer
        self._gateway: asyncio.StreamWriter | None = None
        self._responses: asyncio.Task[None] | None = None

    async def next_head(self) -> Head | None:
        try:
            async with asyncio.timeout(_IDLE):
                return parse_head(await self._reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise BadRequestError("the head is too long") from None

    async def forward(self, head: Head, token: str) -> None:
        gateway = await self._connected()
        gateway.write(head.with_token(token))
        if head.chunked:
            await self._copy_chunked(gateway)
        else:
            await self._copy(gateway, head.content_length)
        await gateway.drain()

    async def _connected(self) -> asyncio.StreamWriter:
        if self._gateway is None:
            try:
                reader, self._gateway = await asyncio.open_unix_connection(str(self._socket), limit=_CHUNK)
            except OSError:
                raise RefusedError(503) from None
            self._responses = asyncio.create_task(self._copy_responses(reader))
        return self._gateway

    async def _copy(self, gateway: asyncio.StreamWriter, size: int) -> None:
        while size > 0:
            async with asyncio.timeout(_IDLE):
                piece = await self._reader.read(min(size, _CHUNK))
                if not piece:
                    raise EOFError
                gateway.write(piece)
                await gateway.drain()
            size -= len(piece)

    async def _copy_chunked(self, gateway: asyncio.StreamWriter) -> None:
        while True:
            line = await self._line()
            size = chunk_size(line)
            gateway.write(line)
            if size == 0:
                break
            await self._copy(gateway, size + 2)
        while (trailer := await self._line()) != b"\r\n":
            gateway.write(trailer)
        gateway.write(b"\r\n")

    async def _line(self) -> bytes:
        async with asyncio.timeout(_IDLE):
            try:
                return await self._reader.readuntil(b"\r\n")
            except asyncio.LimitOverrunError:
                raise BadRequestError("a line is too long") from None

    async def _copy_responses(self, gateway: asyncio.StreamReader) -> None:
        """Bytes from the gateway to `claude`, as they come; the end of the one ends the other."""
        with contextlib.suppress(OSError):
            while piece := await gateway.read(_CHUNK):
                self._writer.write(piece)
                await self._writer.drain()
        self._writer.close()

    async def refuse(self, status: int) -> None:
        """Answer here, unless the gateway may be in the middle of an answer; then only the end is left."""
        if self._gateway is None:
            reason, kind, message = _ERRORS[status]
            body = orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})
            self._writer.write(
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(5):
                    await self._writer.drain()

    async def close(self) -> None:
        if self._responses is not None:
            self._responses.cancel()
        for writer in (self._gateway, self._writer):
            if writer is not None:
                writer.close()
