"""A process full of listeners: `python -m bench.listening KIND HOST PORT PATH COUNT FIRST LAST`, the token on stdin.

It opens COUNT connections to a session's event stream, says `ready` once all of them listen, and when every one of them
has got the events FIRST to LAST, each once and in order, says when the first and the last of them came. It is as light
as can be (frames are cut and looked into, not parsed), so that what is measured is the gateway and not this process.
"""

import asyncio
import base64
import json
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import cast

SECONDS = 300.0
TEXT, PING, PONG = 1, 9, 10
SEQ = b'"seq":'


class Wrong(Exception):
    """An event is missing, or came twice; or the gateway refused."""


class Listener(asyncio.Protocol):
    """One connection. A kind of stream says how events are found in what comes."""

    def __init__(self, request: bytes, first: int, last: int, on_change: Callable[[], None]) -> None:
        self._request = request
        self._next = first
        self._last = last
        self._buffer = bytearray()
        self._head_read = False
        self._on_change = on_change
        self.transport: asyncio.Transport
        self.listening = False
        self.first_at = self.last_at = 0
        self.error: str | None = None

    @property
    def done(self) -> bool:
        return self._next > self._last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class is none of its subclasses
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            if not self._head_read:
                self._read_head()
            if self._head_read:
                self.cut(self._buffer)
        except Wrong as error:
            self._fail(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done:
            self._fail(f"the connection ended: {exc}")

    def _fail(self, why: str) -> None:
        self.error = self.error or why
        self._on_change()

    def _read_head(self) -> None:
        head, found, _ = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        status = bytes(head.split(b" ", 2)[1])
        if status not in (b"101", b"200"):
            raise Wrong(f"refused with {status.decode()}")
        del self._buffer[: len(head) + 4]
        self._head_read = True

    def now_listening(self) -> None:
        self.listening = True
        self._on_change()

    def took(self, seq: int) -> None:
        if seq != self._next:
            raise Wrong(f"event {seq} came where {self._next} should have")
        self.first_at = self.first_at or time.monotonic_ns()
        self._next += 1
        if self.done:
            self.last_at = time.monotonic_ns()
            self._on_change()

    def cut(self, buffer: bytearray) -> None:
        raise NotImplementedError


class WebSocketListener(Listener):
    def cut(self, buffer: bytearray) -> None:
        at = 0
        while (frame := _frame(buffer, at)) is not None:
            opcode, start, end = frame
            at = end
            if opcode == PING:
                self._pong(bytes(buffer[start:end]))
            elif opcode == TEXT:
                found = buffer.find(SEQ, start, min(end, start + 120))
                if found >= 0:
                    self.took(int(buffer[found + len(SEQ) : buffer.index(b",", found)]))
                elif buffer.find(b"stream.ready", start, end) >= 0:
                    self.now_listening()
        del buffer[:at]

    def _pong(self, payload: bytes) -> None:
        self.transport.write(bytes((0x80 | PONG, 0x80 | len(payload))) + b"\0\0\0\0" + payload)


def _frame(buffer: bytearray, at: int) -> tuple[int, int, int] | None:
    """Opcode, and where the payload of the frame at `at` begins and ends; None where it is not all there."""
    if len(buffer) < at + 2:
        return None
    size, start = buffer[at + 1] & 0x7F, at + 2
    if size > 125:
        kind = "!H" if size == 126 else "!Q"
        start += struct.calcsize(kind)
        if len(buffer) < start:
            return None
        (size,) = struct.unpack_from(kind, buffer, at + 2)
    return (buffer[at] & 0x0F, start, start + size) if len(buffer) >= start + size else None


class SseListener(Listener):
    def cut(self, buffer: bytearray) -> None:
        if not self.listening and buffer.find(b": connected") >= 0:
            self.now_listening()
        at = 0
        while (found := buffer.find(b"\nid: ", at)) >= 0 and (end := buffer.find(b"\n", found + 1)) >= 0:
            self.took(int(buffer[found + 5 : end]))
            at = end
        del buffer[: max(at, len(buffer) - 64 if buffer.find(b"\nid: ", at) < 0 else at)]


def _request(kind: str, host: str, port: int, path: str, token: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", f"Authorization: Bearer {token}"]
    if kind == "ws":
        key = base64.b64encode(os.urandom(16)).decode()
        lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    return "\r\n".join([*lines, "", ""]).encode()


async def listen(kind: str, host: str, port: int, path: str, count: int, first: int, last: int) -> None:
    request = _request(kind, host, port, path, sys.stdin.readline().strip())
    changed = asyncio.Event()
    make = WebSocketListener if kind == "ws" else SseListener
    listeners = [make(request, first, last, changed.set) for _ in range(count)]
    for listener in listeners:
        await asyncio.get_running_loop().create_connection(lambda one=listener: one, host, port)  # type: ignore[misc]

    async def all_of(holds: Callable[[Listener], bool]) -> None:
        while not all(holds(listener) for listener in listeners):
            if error := next((one.error for one in listeners if one.error), None):
                raise Wrong(error)
            changed.clear()
            await changed.wait()

    async with asyncio.timeout(SECONDS):
        await all_of(lambda listener: listener.listening)
        print("ready", flush=True)
        await all_of(lambda listener: listener.done)
    span = {"first_ns": min(one.first_at for one in listeners), "last_ns": max(one.last_at for one in listeners)}
    print(json.dumps(span), flush=True)


if __name__ == "__main__":
    import uvloop

    kind, host, port, path, *numbers = sys.argv[1:]
    count, first, last = map(int, numbers)
    uvloop.run(listen(kind, host, int(port), path, count, first, last))
