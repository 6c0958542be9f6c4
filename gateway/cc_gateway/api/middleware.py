"""What every request passes: an id of its own, a limit on its body, a line in the log and in the metrics. Plain ASGI."""

import secrets
import time
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog
from prometheus_client import Counter, Histogram

from cc_gateway.internal import ASGIApp, Receive, Scope, Send

log = structlog.get_logger(__name__)

REQUESTS = Counter("cc_http_requests_total", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram("cc_http_request_seconds", "Time until an answer began", ["method", "route"])


class _TooLarge(Exception):
    pass


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
        answered = False

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message.get("headers", []), (b"request-id", request_id.encode())]
                _count(scope, message["status"], time.perf_counter() - begun)
            await send(message)

        try:
            await self._app(scope, self._limited(scope, receive), answer)
        except _TooLarge:
            if not answered:
                await self._refuse(answer, request_id)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        left = self._max_body_bytes
        too_large = announced.isdigit() and int(announced) > left

        async def limited() -> MutableMapping[str, Any]:
            nonlocal left
            if too_large:
                raise _TooLarge
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _TooLarge
            return message

        return limited

    async def _refuse(self, send: Send, request_id: str) -> None:
        message = f"the request's body is too large: {self._max_body_bytes} bytes are allowed"
        error = {"code": "payload_too_large", "message": message, "details": {"limit": self._max_body_bytes}}
        body = orjson.dumps({"error": error, "request_id": request_id})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _count(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "other")
    REQUESTS.labels(scope["method"], route, status).inc()
    SECONDS.labels(scope["method"], route).observe(seconds)
    log.debug("request", method=scope["method"], path=scope["path"], status=status, ms=round(seconds * 1000, 1))
