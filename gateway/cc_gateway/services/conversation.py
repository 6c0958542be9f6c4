"""The conversation as a person reads it, derived from events (pure)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from cc_gateway.models import RecordedEvent

Role = Literal["user", "assistant", "tool", "system"]
Kind = Literal["text", "thinking", "tool_use", "tool_result", "error", "notice"]

TYPES: Final = (
    "user.message",
    "user.interrupt",
    "agent.message",
    "agent.thinking",
    "agent.tool_use",
    "agent.mcp_tool_use",
    "agent.tool_result",
    "agent.mcp_tool_result",
    "agent.thread_context_compacted",
    "turn.failed",
    "turn.interrupted",
)


@dataclass(frozen=True)
class Step:
    """One thing said or done."""

    id: str
    seq: int
    turn_id: str | None
    at: datetime
    role: Role
    kind: Kind
    content: list[dict[str, Any]]
    name: str | None = None
    tool_use_id: str | None = None
    is_error: bool = False


def to_step(event: RecordedEvent) -> Step:
    """The step that an event of `TYPES` is."""
    body = orjson.loads(event.data)
    role, kind, content = _read(event.type, body)
    return Step(
        id=event.id,
        seq=event.seq,
        turn_id=event.turn_id,
        at=event.processed_at,
        role=role,
        kind=kind,
        content=content,
        name=_tool_name(body),
        tool_use_id=body.get("tool_use_id") or body.get("mcp_tool_use_id"),
        is_error=bool(body.get("is_error")) or kind == "error",
    )


def _read(event_type: str, body: dict[str, Any]) -> tuple[Role, Kind, list[dict[str, Any]]]:
    match event_type:
        case "user.message":
            return "user", "text", body["content"]
        case "agent.message":
            return "assistant", "text", body["content"]
        case "agent.thinking":
            return "assistant", "thinking", _text(body.get("thinking", ""))
        case "agent.tool_use" | "agent.mcp_tool_use":
            return "assistant", "tool_use", [{"type": "tool_use", "name": _tool_name(body), "input": body["input"]}]
        case "agent.tool_result" | "agent.mcp_tool_result":
            return "tool", "tool_result", body["content"]
        case "turn.failed":
            return "system", "error", _text(body["error"]["message"])
        case "turn.interrupted":
            return "system", "notice", _text(f"The turn was interrupted ({body.get('reason', 'unknown')}).")
        case "agent.thread_context_compacted":
            return "system", "notice", _text("The conversation was compacted.")
        case _:
            return "system", "notice", _text("An interrupt was asked for.")


def _tool_name(body: dict[str, Any]) -> str | None:
    name = body.get("name")
    server = body.get("mcp_server_name")
    return f"{server}: {name}" if server and name else name


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]
