"""The scripted model's HTTP side: Anthropic's Messages API answered from a script.

Above it: whoever serves it (the gateway, a test's uvicorn). Below: player.py, which sends, and the pure modules,
which decide what to say. It checks requests as the API does, and knows no other part of the gateway.
"""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from itertools import count
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .attempts import Attempts
from .conversation import Conversation, Json, read_conversation
from .demo import closing_step, demo_step
from .player import ClientGone, Wire, play
from .reply import build_reply, tokens
from .scenario import Scenario, Step
from .source import ScenarioError, parse_script
from .sse import error_body

OnRequest = Callable[[Json, Mapping[str, str]], None]

_MAX_BODY = 32 * 1024 * 1024  # the API's own limit
_UNKNOWN_MODEL = "unknown-"


def create_scripted_app(scenario: Scenario | None = None, *, on_request: OnRequest | None = None) -> Starlette:
    """An ASGI app that speaks the Messages API. `on_request` sees each message request's body and headers."""
    routes = [
        Route("/v1/messages", _Messages(scenario or Scenario(rules=[]), on_request), methods=["POST"]),
        Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
        # The CLI's pre-connect: `HEAD /` in 2.1.197, `HEAD /api/hello` in 2.1.329.
        Route("/", _alive, methods=["GET"]),
        Route("/api/hello", _alive, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, _Refused: _refusal})


class _Refused(Exception):
    """A request that the API would not answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Messages:
    """POST /v1/messages, as raw ASGI: it may leave an answer unfinished."""

    def __init__(self, scenario: Scenario, on_request: OnRequest | None) -> None:
        self._scenario = scenario
        self._on_request = on_request
        self._attempts = Attempts()
        self._requests = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        wire = Wire(receive, send, f"req_scripted{next(self._requests):012d}")
        try:
            raw = await _read(request)
            body = _parse(raw)
            if self._on_request:
                self._on_request(body, request.headers)
            _check(body, needs_max_tokens=True)
            await self._answer(wire, body, raw, _session(body, request.headers))
        except _Refused as refused:
            await wire.json(refused.status, error_body(refused.status, str(refused), wire.request_id))
        except ScenarioError as error:
            await wire.json(400, error_body(400, str(error), wire.request_id))
        except (ClientGone, ClientDisconnect):
            return

    async def _answer(self, wire: Wire, body: Json, raw: bytes, session: str) -> None:
        talk = read_conversation(body)
        step = self._step(talk)
        fault, before = self._attempts.next_fault(step, talk.place(session))
        reply = build_reply(step, talk, model=body["model"], digest=_digest(raw, before), request_chars=len(raw))
        await play(wire, reply, step, fault, streaming=body.get("stream") is True)

    def _step(self, talk: Conversation) -> Step:
        """The script in the prompt comes first, then the rules given at start, then the demonstration."""
        if talk.compaction:
            return demo_step(talk)
        source = talk.prompt.script
        steps = parse_script(source) if source else self._scenario.steps_for(talk.prompt.words)
        if steps is None:
            return demo_step(talk)
        return steps[talk.step] if talk.step < len(steps) else closing_step()


async def _count_tokens(request: Request) -> Response:
    raw = await _read(request)
    _check(_parse(raw), needs_max_tokens=False)
    return _json(200, orjson.dumps({"input_tokens": tokens(len(raw))}))


async def _alive(request: Request) -> Response:
    return _json(200, b"{}")


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _json(status, error_body(status, f"{request.method} {request.url.path}: not here", "req_scripted"))


async def _refusal(request: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, _Refused) else 500
    return _json(status, error_body(status, str(error), "req_scripted"))


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, {"request-id": "req_scripted"}, "application/json")


async def _read(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MAX_BODY:
            raise _Refused(413, f"Request exceeds the maximum size of {_MAX_BODY} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(raw: bytes) -> Json:
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _Refused(400, f"The request body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise _Refused(400, "The request body is not an object")
    return body


def _check(body: Json, *, needs_max_tokens: bool) -> None:
    model, messages, limit = body.get("model"), body.get("messages"), body.get("max_tokens")
    if not isinstance(model, str) or not model:
        raise _Refused(400, "model: Field required")
    if model.startswith(_UNKNOWN_MODEL):
        raise _Refused(404, f"model: {model}")
    if not isinstance(messages, list) or not messages:
        raise _Refused(400, "messages: at least one message is required")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
            raise _Refused(400, f"messages.{index}.role: Input should be 'user', 'assistant' or 'system'")
        if not isinstance(message.get("content"), str | list):
            raise _Refused(400, f"messages.{index}.content: Input should be a string or a list")
    if needs_max_tokens and (not isinstance(limit, int) or limit < 1):
        raise _Refused(400, "max_tokens: Field required, greater than or equal to 1")


def _session(body: Json, headers: Headers) -> str:
    """Whose conversation this is; the CLI says so in headers, and in metadata."""
    named = [headers.get("x-claude-code-session-id", ""), headers.get("x-claude-code-agent-id", "")]
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else ""
    return "\0".join([*named, str(user)])


def _digest(raw: bytes, before: int) -> str:
    """What ids are made of. Another attempt at the same request is another message."""
    return blake2b(raw, digest_size=11, salt=before.to_bytes(8, "big")).hexdigest()
