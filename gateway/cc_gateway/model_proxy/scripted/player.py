"""A reply on its way to the client: waits, deltas, and what goes wrong in between.

Above it: app.py, which chose the reply. It speaks raw ASGI, because dropping a connection in mid-answer is what
frameworks prevent: returning before the response is complete makes the server close the connection.
"""

import asyncio
from collections.abc import Mapping

import orjson
from starlette.types import Receive, Send

from .attempts import Fault
from .reply import Reply
from .scenario import Cut, Failure, Step, StreamError
from .sse import error_body, error_event, status_of, stream


class ClientGone(Exception):
    """The client hung up while it was kept waiting."""


class Wire:
    """One request's connection, its request read to the end."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive = receive
        self._send = send
        self.request_id = request_id

    async def begin(self, status: int, content_type: str, extra: Mapping[str, str]) -> None:
        named = {"content-type": content_type, "request-id": self.request_id, **extra}
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def json(self, status: int, body: bytes, extra: Mapping[str, str] | None = None) -> None:
        await self.begin(status, "application/json", {"content-length": str(len(body)), **(extra or {})})
        await self.write(body, last=True)

    async def pause(self, milliseconds: float) -> None:
        """Wait, but no longer than the client does."""
        if milliseconds <= 0:
            return
        try:
            message = await asyncio.wait_for(self._receive(), milliseconds / 1000)
        except TimeoutError:
            return
        if message["type"] == "http.disconnect":
            raise ClientGone


async def play(wire: Wire, reply: Reply, step: Step, fault: Fault | None, *, streaming: bool) -> None:
    """Send what a step says, or what goes wrong instead."""
    await wire.pause(step.delay_ms)
    if isinstance(fault, Failure):
        await _fail(wire, fault)
    elif streaming:
        await _stream(wire, reply, step, fault)
    else:
        await _send_whole(wire, reply, step, fault)


async def _fail(wire: Wire, failure: Failure) -> None:
    extra = {}
    if failure.retry_after is not None:
        extra["retry-after"] = f"{failure.retry_after:g}"
    if failure.should_retry is not None:
        extra["x-should-retry"] = str(failure.should_retry).lower()
    message = failure.message or f"The scenario asked for an error {failure.status}"
    await wire.json(failure.status, error_body(failure.status, message, wire.request_id, failure.type), extra)


async def _stream(wire: Wire, reply: Reply, step: Step, fault: Cut | StreamError | None) -> None:
    await wire.begin(200, "text/event-stream; charset=utf-8", {"cache-control": "no-cache"})
    deltas = 0
    for event in stream(reply):
        due = deltas >= fault.after_deltas or event.is_ending if fault else False
        if fault and due and not event.is_opening:
            await _break_off(wire, fault)
            return
        if event.is_delta:
            if deltas:
                await wire.pause(step.chunk_delay_ms)
            deltas += 1
        await wire.write(event.data, last=event.is_ending)
        if event.is_opening:
            await wire.pause(step.hang_ms)


async def _break_off(wire: Wire, fault: Cut | StreamError) -> None:
    if isinstance(fault, StreamError):
        await wire.write(error_event(fault.type, fault.message), last=True)


async def _send_whole(wire: Wire, reply: Reply, step: Step, fault: Cut | StreamError | None) -> None:
    await wire.pause(step.hang_ms)
    if isinstance(fault, StreamError):
        status = status_of(fault.type)
        await wire.json(status, error_body(status, fault.message, wire.request_id, fault.type))
        return
    body = orjson.dumps(reply.message())
    if fault is None:
        await wire.json(200, body)
        return
    await wire.begin(200, "application/json", {"content-length": str(len(body))})
    await wire.write(body[: len(body) // 2])
