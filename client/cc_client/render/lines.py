"""A recorded event, or a message, as one line of a list (pure)."""

import json
from collections.abc import Mapping
from typing import Any, Final

from cc_client.models import Event
from cc_client.render.clean import one_line
from cc_client.render.ends import error_line, fill, status_line, turn_end
from cc_client.render.values import about, text_of, tokens

_STYLES: Final = (
    ("user.", "bold"),
    ("agent.thinking", "dim"),
    ("agent.", "cyan"),
    ("turn.failed", "red"),
    ("turn.", "green"),
    ("session.error", "red"),
    ("session.status_failed", "red"),
)
_ENVELOPE: Final = {"v", "id", "seq", "session_id", "turn_id", "processed_at", "source", "type", "raw"}


def event_line(event: Event, width: int = 0) -> tuple[str, str]:
    """`  7  10:00:00  agent.message  hello` and its style."""
    clock = event.processed_at.astimezone().strftime("%H:%M:%S")
    kind = one_line(event.type)
    line = f"{event.seq:>5}  {clock}  {kind:<26}  {gist(event.type, event.data)}".rstrip()
    style = next((style for start, style in _STYLES if event.type.startswith(start)), "")
    return (line if not width or len(line) <= width else line[: width - 1] + "…"), style


def gist(kind: str, data: Mapping[str, Any]) -> str:
    """What an event says, on one line."""
    if kind in {"agent.message", "user.message"}:
        return one_line(text_of(data.get("content")))
    if kind == "agent.thinking":
        return one_line(str(data.get("thinking") or ""))
    if kind in {"agent.tool_use", "agent.mcp_tool_use"}:
        server, name = data.get("mcp_server_name"), str(data.get("name", ""))
        return one_line(f"{f'{server}: ' if server else ''}{name}  {about(name, data.get('input'))}")
    if kind in {"agent.tool_result", "agent.mcp_tool_result"}:
        return ("✗ " if data.get("is_error") else "✓ ") + one_line(text_of(data.get("content") or []))
    if kind.startswith("turn.") and kind not in {"turn.queued", "turn.started"}:
        return _end(data)
    return _quiet(kind, data)


def _end(data: Mapping[str, Any]) -> str:
    try:
        return turn_end(data)[0].partition(" ")[2]
    except KeyError:
        return _fields(data)


def _quiet(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "session.error":
        return error_line(data.get("error"))[0]
    if kind == "session.usage":
        return "; ".join(part for part in (tokens(data.get("usage")), fill(data.get("context"))) if part)
    if kind == "span.model_request_start":
        return one_line(str(data.get("model") or ""))
    if kind == "span.model_request_end":
        return tokens(data.get("model_usage")) + (" (cut off)" if data.get("is_error") else "")
    if kind == "cli.event":
        return one_line(str(data.get("name", "")))
    if kind == "session.setup_output":
        return one_line(str(data.get("text") or ""))
    if kind == "session.status_idle":
        reason = data.get("stop_reason") or {}
        return one_line(" ".join(str(part) for part in (reason.get("type"), reason.get("detail")) if part))
    told = status_line(data)
    return told[0].removeprefix("· ").removeprefix("✗ ") if told else _fields(data)


def _fields(data: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in data.items() if name not in _ENVELOPE and value is not None}
    return one_line(json.dumps(rest, ensure_ascii=False), 200) if rest else ""
