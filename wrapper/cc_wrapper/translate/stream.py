"""What streams: `stream_event` lines into spans of model requests and previews (pure, with state for ids).

A preview announces the id that the whole block's event will carry. The whole `assistant` line of a block comes before
the block's stop. A message that is cut off ends without a stop reason or (2.1.197) never: then its span is closed as
an error when the next thing comes.
Streams of sub-agents run beside the main one: each parent call has its own open message.
"""

from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from cc_protocol.events import (
    ContentDelta,
    EventDelta,
    EventStart,
    ModelRequestEnd,
    ModelRequestStart,
    ModelUsage,
    PreviewTarget,
)
from cc_protocol.ids import EVENT, new_id
from cc_protocol.outbox import Claim
from cc_wrapper.translate.meaning import Meaning
from cc_wrapper.translate.values import JsonObject, count, merged, obj, text, usage, word

Parent = str | None

_EVENT_OF_BLOCK: Final = {
    "text": "agent.message",
    "thinking": "agent.thinking",
    "redacted_thinking": "agent.thinking",
    "tool_use": "agent.tool_use",
}
_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking"}


@dataclass(slots=True)
class _Announced:
    kind: str
    event_id: str
    cli_tool_use_id: str | None


@dataclass(slots=True)
class _OpenMessage:
    id: str | None
    model: str | None
    span_id: str | None
    usage: ModelUsage
    stop_reason: str | None = None
    blocks: dict[int, _Announced] = field(default_factory=dict)
    waiting: list[_Announced] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LastRequest:
    """The last model request of the main conversation: how full its context was."""

    model: str | None
    usage: ModelUsage


class Streams:
    def __init__(self) -> None:
        self._open: dict[Parent, _OpenMessage] = {}
        self.last_request: LastRequest | None = None

    def take(self, event: JsonObject, cli_parent: Parent, parent_event: Parent) -> Meaning | None:
        """The meaning of one streamed event; None for a kind that has none."""
        kind = event.get("type")
        if kind == "message_start":
            return Meaning(claims=self._start(obj(event.get("message")), cli_parent, parent_event))
        message = self._open.get(cli_parent)
        if message is None:
            return Meaning()
        if kind == "content_block_start":
            return Meaning(previews=_announce(message, event))
        if kind == "content_block_delta":
            return Meaning(previews=_delta(message, event))
        if kind == "message_delta":
            message.usage = merged(message.usage, event.get("usage"))
            message.stop_reason = word(obj(event.get("delta")).get("stop_reason"))
        elif kind == "message_stop":
            return Meaning(claims=self.end(cli_parent, is_error=message.stop_reason is None))
        return Meaning() if kind in {"message_delta", "content_block_stop", "ping"} else None

    def _start(self, message: JsonObject, cli_parent: Parent, parent_event: Parent) -> list[Claim]:
        claims = self.end(cli_parent, is_error=True)
        model, span_id = text(message.get("model")), new_id(EVENT)
        self._open[cli_parent] = _OpenMessage(text(message.get("id")), model, span_id, usage(message.get("usage")))
        body = ModelRequestStart(model=model, parent_tool_use_id=parent_event)
        return [*claims, Claim(id=span_id, body=body)]

    def end(self, cli_parent: Parent, *, is_error: bool) -> list[Claim]:
        """Close the request that is open under this parent, if one is."""
        message = self._open.get(cli_parent)
        if message is None or message.span_id is None:
            return []
        span_id, message.span_id = message.span_id, None
        if cli_parent is None and not is_error:
            self.last_request = LastRequest(message.model, message.usage)
        body = ModelRequestEnd(
            model_request_start_id=span_id,
            is_error=is_error,
            model_usage=message.usage,
            stop_reason=message.stop_reason,
        )
        return [Claim(id=new_id(EVENT), body=body)]

    def end_all(self) -> list[Claim]:
        """Close whatever is open: a run is over, or `claude` is."""
        claims = [claim for parent in list(self._open) for claim in self.end(parent, is_error=True)]
        self._open.clear()
        return claims

    def whole(self, message: JsonObject, cli_parent: Parent) -> list[Claim]:
        """A whole `assistant` line came. Of another message than the open one: that was cut off."""
        current = self._open.get(cli_parent)
        if current is not None and current.id == text(message.get("id")):
            return []
        if cli_parent is None and message.get("model") != "<synthetic>":
            self.last_request = LastRequest(text(message.get("model")), usage(message.get("usage")))
        return self.end(cli_parent, is_error=True)

    def event_id(self, message_id: JsonValue, cli_parent: Parent, kind: str, cli_tool_use_id: str | None) -> str:
        """The id that was announced for this block, or a new one."""
        message = self._open.get(cli_parent)
        if message is not None and message.id == message_id:
            for announced in message.waiting:
                if (announced.kind, announced.cli_tool_use_id) == (_EVENT_OF_BLOCK.get(kind), cli_tool_use_id):
                    message.waiting.remove(announced)
                    return announced.event_id
        return new_id(EVENT)


def _announce(message: _OpenMessage, event: JsonObject) -> list[EventStart | EventDelta]:
    block, index = obj(event.get("content_block")), count(event.get("index"))
    kind = _EVENT_OF_BLOCK.get(text(block.get("type")) or "")
    if kind is None or index is None:
        return []
    name, call = (text(block.get("name")), text(block.get("id"))) if kind == "agent.tool_use" else (None, None)
    announced = _Announced(kind, new_id(EVENT), call)
    message.blocks[index] = announced
    message.waiting.append(announced)
    if name is not None and name.startswith("mcp__"):
        kind = "agent.mcp_tool_use"
    return [EventStart(event=PreviewTarget(type=kind, id=announced.event_id, name=name))]


def _delta(message: _OpenMessage, event: JsonObject) -> list[EventStart | EventDelta]:
    delta, announced = obj(event.get("delta")), message.blocks.get(count(event.get("index")) or 0)
    kind = _DELTAS.get(text(delta.get("type")) or "")
    piece = text(delta.get(kind)) if kind else None
    if announced is None or kind is None or not piece:
        return []
    content: JsonObject = {"type": kind, kind: piece}
    return [EventDelta(event_id=announced.event_id, delta=ContentDelta(content=content))]


def coalesced(previews: list[EventStart | EventDelta]) -> list[EventStart | EventDelta]:
    """Neighbouring deltas of one event, made one: what came in one read goes out in one message."""
    out: list[EventStart | EventDelta] = []
    for preview in previews:
        last = out[-1] if out else None
        if isinstance(preview, EventDelta) and isinstance(last, EventDelta) and last.event_id == preview.event_id:
            out[-1] = _joined(last, preview)
        else:
            out.append(preview)
    return out


def _joined(first: EventDelta, then: EventDelta) -> EventDelta:
    kind = str(first.delta.content["type"])
    content: JsonObject = {"type": kind, kind: f"{first.delta.content[kind]}{then.delta.content.get(kind, '')}"}
    return EventDelta(event_id=first.event_id, delta=ContentDelta(content=content))
