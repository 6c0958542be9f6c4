"""What every request passes: an id of its own, a limit on its body, a line in the log and in the metrics. Plain ASGI."""

import asyncio
import secrets
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import orjson
import structlog
from prometheus_client import Counter, Histogram

from cc_gateway.internal import ASGIApp, Receive, Scope, Send

log = structlog.get_logger(__name__)

REQUESTS = Counter("cc_http_requests_total", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram("cc_http_request_seconds", "Time until an answer began", ["method", "route"])
DRAIN_SECONDS = 5.0


class _Body:
    """A request's body, which ends where the limit is passed."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit
        self._more = True
        self.too_large = False

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._more = message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.too_large = True
            return {"type": "http.disconnect"}  # not an end: what came so far must not pass for the whole
        return message

    async def read_away(self) -> None:
        """Take in the rest: a client that still sends would be reset before it reads the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._more:
                    self._more = (await self._receive()).get("more_body", False)


class RequestMiddleware:
    """Wraps the application. Every answer carries `request-id`."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope["cc.request_id"] = request_id = "req_" + secrets.token_hex(12)
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        body = _Body(receive, self._max_body_bytes)
        refused = False

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                if body.too_large:  # whatever the application made of a body that was cut off
                    refused = True
                    await self._refuse(scope, body, send)
                    return
                message["headers"] = [*message.get("headers", []), (b"request-id", request_id.encode())]
                _count(scope, message["status"], time.perf_counter() - begun)
            if not refused:
                await send(message)

        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if announced.isdigit() and int(announced) > self._max_body_bytes:
            await self._refuse(scope, body, send)
            return
        await self._app(scope, body.receive, answer)

    async def _refuse(self, scope: Scope, body: _Body, send: Send) -> None:
        await body.read_away()
        request_id: str = scope["cc.request_id"]
        _count(scope, 413, 0.0)
        message = f"the request's body is too large: {self._max_body_bytes} bytes are allowed"
        error = {"code": "payload_too_large", "message": message, "details": {"limit": self._max_body_bytes}}
        answer = orjson.dumps({"error": error, "request_id": request_id})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        headers += [(b"connection", b"close"), (b"request-id", request_id.encode())]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def _count(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "other")
    REQUESTS.labels(scope["method"], route, status).inc()
    SECONDS.labels(scope["method"], route).observe(seconds)
    log.debug("request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 1))
