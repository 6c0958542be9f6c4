"""Events, sessions and messages as lines of a list, and what `run` says around the turn."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cc_client import Event
from cc_client.locate import Gateway
from cc_client.models import GatewayFile
from cc_client.render import notes
from cc_client.render.lines import event_line, gist
from cc_client.render.listing import age
from client.stub_gateway import event, text


@pytest.mark.parametrize(
    ("told", "item"),
    [
        ("hello you", event(1, "agent.message", content=text("hello\nyou"))),
        ("Bash ls", event(1, "agent.tool_use", name="Bash", input={"command": "ls"})),
        ("✗ no", event(1, "agent.tool_result", content=text("no"), is_error=True)),
        ("completed · 1.0 s", event(1, "turn.completed", duration_ms=1000)),
        (
            "end_turn interrupted",
            event(1, "session.status_idle", stop_reason={"type": "end_turn", "detail": "interrupted"}),
        ),
        (
            "12 tokens in, 3 out",
            event(1, "span.model_request_end", model_usage={"input_tokens": 12, "output_tokens": 3}),
        ),
        ("system/init", event(1, "cli.event", name="system/init", line={})),
        ("one two", event(1, "session.setup_output", text="one\ntwo\n")),
        ("the setup script is done (1.0 s)", event(1, "session.setup_completed", exit_code=0, duration_ms=1000)),
        ('{"incarnation": 1, "attempt": 1}', event(1, "turn.started", incarnation=1, attempt=1)),
        ('{"anything": 1}', event(1, "turn.of_tomorrow", anything=1)),
        ("", event(1, "session.status_running")),
    ],
)
def test_each_event_has_a_gist(told: str, item: dict[str, Any]) -> None:
    assert gist(item["type"], item) == told


def test_a_line_of_the_record_is_numbered_and_no_wider_than_asked() -> None:
    line, style = event_line(Event.of(event(7, "agent.message", content=text("x" * 200))), 80)
    assert line.split()[0] == "7"
    assert "agent.message" in line
    assert len(line) == 80
    assert style == "cyan"


def test_no_escape_sequence_reaches_a_list() -> None:
    line, _ = event_line(Event.of(event(1, "x\x1b]0;t\x07y", z="\x1b[31m", content=text("\x1b[2J"))))
    assert "\x1b" not in line


def test_ages_are_told_in_the_largest_unit() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert [age(now - timedelta(seconds=s), now) for s in (-5, 59, 60, 7200, 200_000)] == [
        "0 s", "59 s", "1 min", "2 h", "2 d",
    ]  # fmt: skip


def _gateway(**fields: Any) -> Gateway:
    known = GatewayFile(url="http://127.0.0.1:8080", pid=1, token="tok", driver="process", **fields)
    return Gateway(known.url, known.token, known)


def _text(lines: list[tuple[str, str]]) -> str:
    return "".join(piece for piece, _ in lines)


def test_the_scripted_model_is_named_with_the_way_to_a_real_one() -> None:
    told = _text(notes.before(_gateway(model="scripted model", isolated=True), started=True))
    assert "scripted model" in told
    assert "ANTHROPIC_API_KEY, CLAUDE_CODE_OAUTH_TOKEN or CC_MODEL_URL" in told
    assert "nothing is isolated" not in told


def test_a_real_model_is_named_and_missing_isolation_is_said_plainly() -> None:
    told = _text(notes.before(_gateway(model="api.anthropic.com", scripted=False, isolated=False), started=False))
    assert "api.anthropic.com" in told
    assert "scripted" not in told
    assert "nothing is isolated" in told


def test_afterwards_there_is_a_token_and_a_line_to_copy(tmp_path: Path) -> None:
    told = _text(notes.after(_gateway(), "sesn_1", command="cc-docker"))
    assert "export CC_TOKEN=tok\n" in told
    assert "curl -sS http://127.0.0.1:8080/api/v1/sessions/sesn_1/chat" in told
    assert "cc-docker chat sesn_1\n" in told
