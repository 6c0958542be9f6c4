"""Sessions, turns and messages as lines of a list (pure)."""

from datetime import datetime

from cc_client.models import Message, Session, Turn
from cc_client.render.clean import one_line
from cc_client.render.ends import Line
from cc_client.render.values import about, cost, plural, seconds, text_of

_STATUS_STYLES = {"running": "green", "starting": "green", "waiting": "yellow", "failed": "red", "stopped": "dim"}
_ROLES = {
    "text": "● ",
    "thinking": "✻ ",
    "tool_use": "⏺ ",
    "tool_result": "  ✓ ",
    "error": "✗ ",
    "notice": "· ",
}


def age(since: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits: `5 min`."""
    passed = max(0, int((now - since).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed // size} {unit}"
    return f"{passed} s"


def session_line(session: Session, now: datetime) -> list[Line]:
    """One session of the list."""
    model = session.config.get("model")
    rest = "  ".join(one_line(str(part), 60) for part in (session.title, model, session.reason) if part)
    return [
        (f"{session.session_id}  ", ""),
        (f"{session.status:<9}", _STATUS_STYLES.get(session.status, "")),
        (f"{age(session.created_at, now):>7} ago  ", "dim"),
        (rest + "\n", ""),
    ]


def session_lines(session: Session) -> list[Line]:
    """All that is known of a session."""
    workspace = session.workspace
    metadata = "  ".join(f"{key}={value}" for key, value in session.metadata.items())
    config = "  ".join(f"{key}={value}" for key, value in session.config.items() if value not in (None, [], {}))
    rows = [
        ("session", session.session_id),
        ("title", session.title),
        ("status", session.status + (f" ({session.reason})" if session.reason else "")),
        ("created", session.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")),
        ("started", f"{plural(session.incarnation, 'time')}"),
        ("runs in", session.container_id),
        ("workspace", " ".join(str(workspace[key]) for key in ("type", "id") if workspace.get(key))),
        ("config", config),
        ("metadata", metadata),
        ("events", session.events_url),
    ]
    return [(f"{label:<10} {one_line(str(value))}\n", "") for label, value in rows if value]


def turn_lines(turn: Turn) -> list[Line]:
    """One turn of a session: its prompt, how it ended, and the first words of its answer."""
    style = {"completed": "green", "failed": "red", "interrupted": "yellow", "canceled": "yellow"}.get(turn.status, "")
    said = turn.error.message if turn.error else turn.result or turn.reason
    facts = " · ".join(part for part in (seconds(turn.duration_ms), cost(turn.cost_usd)) if part)
    lines = [
        (f"\n{turn.number:>3}  ", "dim"),
        (f"{turn.status:<11} ", style),
        (f"{turn.turn_id}  {facts}".rstrip() + "\n", "dim"),
        (f"     › {one_line(text_of(turn.content), 100)}\n", "bold"),
    ]
    return [*lines, (f"     {one_line(said, 200)}\n", "")] if said else lines


def message_lines(message: Message) -> list[Line]:
    """One step of the conversation."""
    words = text_of(message.content).strip()
    if message.kind == "text" and message.role == "user":
        return [("\n› ", "bold"), (_indented(words, 2), "bold")]
    mark = "  ✗ " if message.kind == "tool_result" and message.is_error else _ROLES.get(message.kind, "· ")
    if message.kind in {"tool_use", "tool_result"}:
        told = _call(message) if message.kind == "tool_use" else one_line(words, 160) or "(no output)"
        style = "red" if message.is_error else "dim"
        return [(("\n" if message.kind == "tool_use" else "") + f"{mark}{told}\n", style)]
    style = {"thinking": "dim italic", "error": "red", "notice": "dim"}.get(message.kind, "")
    return [(f"\n{mark}", style or "cyan"), (_indented(words, len(mark)), style)] if words else []


def _call(message: Message) -> str:
    block = message.content[0] if message.content else {}
    name = message.name or str(block.get("name", ""))
    return one_line(f"{name}  {about(name, block.get('input', {}))}", 160)


def _indented(text: str, columns: int) -> str:
    return text.replace("\n", "\n" + " " * columns) + "\n"
