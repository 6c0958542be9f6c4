"""The wire: a reply as server-sent events or as one body, and errors in Anthropic's shape.

Pure. Formats: https://docs.anthropic.com/en/docs/build-with-claude/streaming and …/api/errors. Deltas are put
together from bytes that do not change: a large text passes through here in pieces and is copied once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import orjson

from .conversation import Json
from .reply import Content, Reply, signature

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUS_OF = {kind: status for status, kind in ERROR_TYPES.items() if status != 405}
_DELTAS = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": ("input_json_delta", "partial_json"),
}


class Event(NamedTuple):
    """Bytes to send; the app counts deltas and waits between them."""

    data: bytes
    is_delta: bool = False
    is_opening: bool = False
    is_ending: bool = False


def stream(reply: Reply) -> Iterator[Event]:
    yield Event(_event({"type": "message_start", "message": reply.opening()}), is_opening=True)
    yield Event(_event({"type": "ping"}))
    for index, content in enumerate(reply.contents):
        yield from _block(index, content)
    ending = {"stop_reason": reply.stop_reason, "stop_sequence": None}
    yield Event(
        _event({"type": "message_delta", "delta": ending, "usage": reply.usage}) + _event({"type": "message_stop"}),
        is_ending=True,
    )


def error_event(kind: str, message: str) -> bytes:
    return _event({"type": "error", "error": {"type": kind, "message": message}})


def error_body(status: int, message: str, request_id: str, kind: str | None = None) -> bytes:
    error = {"type": kind or ERROR_TYPES.get(status, "api_error"), "message": message}
    return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


def status_of(kind: str) -> int:
    """The HTTP status that says outside a stream what `kind` says inside one."""
    return _STATUS_OF.get(kind, 500)


def _block(index: int, content: Content) -> Iterator[Event]:
    yield Event(_event({"type": "content_block_start", "index": index, "content_block": _opening(content)}))
    kind, key = _DELTAS[content.kind]
    before = _delta_head(index, kind) + b',"%s":' % key.encode()
    for piece in content.pieces:
        yield Event(b"".join((before, orjson.dumps(piece), b"}}\n\n")), is_delta=True)
    if content.kind == "thinking":
        signed = orjson.dumps(signature("".join(content.pieces)))
        yield Event(_delta_head(index, "signature_delta") + b',"signature":' + signed + b"}}\n\n")
    yield Event(_event({"type": "content_block_stop", "index": index}))


def _opening(content: Content) -> Json:
    if content.kind == "tool_use":
        return {"type": "tool_use", "id": content.id, "name": content.name, "input": {}}
    if content.kind == "thinking":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _delta_head(index: int, kind: str) -> bytes:
    head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%s"'
    return head % (index, kind.encode())


def _event(data: Json) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (data["type"].encode(), orjson.dumps(data))
