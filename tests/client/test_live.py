"""What the agent's work looks like: events and previews as the text that a person sees."""

from typing import Any

import pytest

from cc_client import Event, Preview
from cc_client.render.live import LiveView
from client.stub_gateway import event, preview_delta, preview_start, text


def _seen(*items: dict[str, Any], width: int = 0, **options: Any) -> str:
    view = LiveView(width, **options)
    out = []
    for item in items:
        out += [piece for piece, _ in view.take(Event.of(item) if "seq" in item else Preview.of(item))]
    return "".join(out)


def _call(seq: int, name: str, given: dict[str, Any], event_id: str = "sevt_c", **more: Any) -> dict[str, Any]:
    return event(seq, "agent.tool_use", id=event_id, name=name, input=given, cli_tool_use_id="toolu_1", **more)


def _result(seq: int, words: str, answers: str = "sevt_c", **more: Any) -> dict[str, Any]:
    return event(seq, "agent.tool_result", tool_use_id=answers, content=text(words), cli_tool_use_id="toolu_1", **more)


USAGE = {"input_tokens": 1200, "output_tokens": 34, "cache_read_input_tokens": 5000}


@pytest.mark.parametrize(
    ("shown", "item"),
    [
        ("› list the files\n", event(1, "user.message", content=text("list the files"))),
        ("● hello\n", event(1, "agent.message", content=text("hello"))),
        ("✻ hm\n", event(1, "agent.thinking", thinking="hm")),
        ("", event(1, "agent.thinking", thinking="")),
        ("⏺ Bash  ls -la\n", _call(1, "Bash", {"command": "ls -la", "description": "list"})),
        ("⏺ Read  /a/b\n", _call(1, "Read", {"file_path": "/a/b", "limit": 3})),
        ("⏺ Grep  x+ in src\n", _call(1, "Grep", {"pattern": "x+", "path": "src"})),
        ("⏺ Bash  cat <<E … (+2 lines)\n", _call(1, "Bash", {"command": "cat <<E\nx\nE"})),
        ("⏺ Odd  a: 1, b: [2]\n", _call(1, "Odd", {"a": 1, "b": [2]})),
        (
            "⏺ github: search  q: bug\n",
            event(1, "agent.mcp_tool_use", mcp_server_name="github", name="search", input={"q": "bug"}),
        ),
        ("  ✓ a\n    b\n", _result(1, "a\nb\n")),
        ("  ✓ (no output)\n", _result(1, "")),
        ("  ✗ no such file\n", _result(1, "no such file", is_error=True)),
        ("  ✓ 1\n    2\n    3\n    4\n    5\n    … 4 more lines\n", _result(1, "\n".join("123456789"))),
        (
            "  ✓ [image image/png]\n",
            event(
                1,
                "agent.mcp_tool_result",
                mcp_tool_use_id="x",
                content=[{"type": "image", "source": {"media_type": "image/png"}}],
            ),
        ),
        (
            "↻ Overloaded (HTTP 529): trying again, 2 of 10, in 1.5 s\n",
            event(
                1,
                "session.error",
                error={
                    "type": "model_overloaded_error",
                    "message": "Overloaded",
                    "retry_status": {"type": "retrying"},
                    "http_status": 529,
                    "attempt": 2,
                    "max_retries": 10,
                    "retry_delay_ms": 1500,
                },
            ),
        ),
        (
            "✗ no credit\n",
            event(
                1,
                "session.error",
                error={"type": "billing_error", "message": "no credit", "retry_status": {"type": "exhausted"}},
            ),
        ),
        ("  one\n  two\n", event(1, "session.setup_output", text="one\r\n10 %\rtwo\n")),
        ("· the setup script is done (1.5 s)\n", event(1, "session.setup_completed", exit_code=0, duration_ms=1500)),
        (
            "✗ the setup script failed with exit code 3 (1.5 s)\n",
            event(1, "session.setup_completed", exit_code=3, duration_ms=1500),
        ),
        ("✗ the setup script was ended (10 min 0 s)\n", event(1, "session.setup_completed", duration_ms=600_000)),
        ("· starting the session\n", event(1, "session.status_starting", incarnation=1)),
        ("· starting the session again\n", event(1, "session.status_starting", incarnation=2)),
        ("✗ the session failed: no claude\n", event(1, "session.status_failed", reason="no claude")),
        ("· the session was stopped\n", event(1, "session.status_stopped", reason="user")),
        ("· the session fell asleep; a prompt wakes it\n", event(1, "session.status_asleep")),
        ("· waiting for a person\n", event(1, "session.status_waiting")),
        ("· the turn is being interrupted (timeout)\n", event(1, "user.interrupt", reason="timeout")),
        (
            "· the conversation was compacted (12k → 900 tokens)\n",
            event(1, "agent.thread_context_compacted", pre_tokens=12_000, post_tokens=900),
        ),
        (
            "✓ completed · 3.2 s · $0.0123 · 1.2k tokens in (5.0k cached), 34 out\n",
            event(1, "turn.completed", duration_ms=3200, cost_usd=0.0123, usage=USAGE, num_turns=2),
        ),
        (
            "✓ completed: max_turns · 2 min 5 s\n",
            event(1, "turn.completed", stop_reason="max_turns", duration_ms=125_000),
        ),
        (
            "✗ failed: no such model (HTTP 404)\n",
            event(1, "turn.failed", error={"type": "not_found", "message": "no such model", "http_status": 404}),
        ),
        ("■ interrupted\n", event(1, "turn.interrupted", reason="user")),
        ("■ interrupted: timeout\n", event(1, "turn.interrupted", reason="timeout")),
        ("■ canceled\n", event(1, "turn.canceled", reason="user")),
        ("", event(1, "session.status_running")),
        ("", event(1, "cli.event", name="system/init", line={})),
        ("", event(1, "a.type.of.tomorrow", anything=1)),
    ],
)
def test_each_event_reads_well(shown: str, item: dict[str, Any]) -> None:
    assert _seen(item) == shown


def test_the_end_counts_the_requests_that_were_seen_whatever_the_cli_counts() -> None:
    view = LiveView()
    for seq in (1, 2):
        view.take(Event.of(event(seq, "span.model_request_start", model="m")))
    assert "".join(
        text for text, _ in view.take(Event.of(event(3, "turn.interrupted", reason="user", num_turns=7)))
    ) == ("■ interrupted · 2 requests\n")
    assert "request" not in "".join(text for text, _ in view.take(Event.of(event(4, "turn.completed", num_turns=7))))


def test_text_streams_as_it_comes_and_the_final_event_adds_only_what_is_missing() -> None:
    view = LiveView()
    start, first, second = preview_start("sevt_1"), preview_delta("sevt_1", "Hel"), preview_delta("sevt_1", "lo wor")
    final = event(1, "agent.message", id="sevt_1", content=text("Hello world, and more"))
    pieces = [view.take(Preview.of(item)) for item in (start, first, second)]
    assert ["".join(piece for piece, _ in one) for one in pieces] == ["", "", "● Hello"]
    assert "".join(piece for piece, _ in view.take(Event.of(final))) == " world, and more\n"


def test_text_whose_pieces_were_no_prefix_of_it_is_shown_whole() -> None:
    final = event(1, "agent.message", id="sevt_1", content=text("the token is [redacted]"))
    seen = _seen(preview_start("sevt_1"), preview_delta("sevt_1", "the token is 12345 "), final)
    assert seen.endswith("\n● the token is [redacted]\n")


def test_text_of_which_a_piece_was_lost_is_shown_whole() -> None:
    final = event(1, "agent.message", id="sevt_1", content=text("one two three"))
    assert _seen(preview_delta("sevt_1", "two "), final) == "● one two three\n"


def test_an_escape_sequence_cut_over_two_pieces_is_stripped() -> None:
    pieces = [preview_delta("sevt_1", piece) for piece in ("a \x1b]52;c;aGFj", "a2Vk\x07b \x1b[3", "1mred")]
    final = event(1, "agent.message", id="sevt_1", content=text("a \x1b]52;c;aGFja2Vk\x07b \x1b[31mred"))
    assert _seen(preview_start("sevt_1"), *pieces, final) == "● a b red\n"


def test_escape_sequences_are_stripped_wherever_they_hide() -> None:
    evil = "\x1b]52;c;aGFja2Vk\x07"
    items = [
        event(1, "user.message", content=text(evil)),
        event(2, "agent.thinking", thinking=evil),
        _call(3, f"Bash{evil}", {"command": f"ls {evil}"}),
        _result(4, evil),
        event(5, "agent.mcp_tool_use", mcp_server_name=evil, name=evil, input={evil: evil}),
        event(6, "session.error", error={"type": evil, "message": evil, "retry_status": {"type": evil}}),
        event(7, "session.status_failed", reason=evil),
        event(8, "turn.failed", error={"type": evil, "message": evil}, stop_reason=evil),
        event(9, "session.setup_output", text=f"{evil}\n{evil}"),
        event(10, "session.setup_completed", exit_code=0, duration_ms=1),
    ]
    assert "\x1b" not in _seen(*items)
    assert "52;c" not in _seen(*items)


def test_calls_at_once_stand_together_and_their_results_name_them() -> None:
    seen = _seen(
        _call(1, "Bash", {"command": "one"}, "sevt_a"),
        _call(2, "Bash", {"command": "two"}, "sevt_b"),
        _result(3, "2", "sevt_b"),
        _result(4, "1", "sevt_a"),
    )
    assert seen == "⏺ Bash  one\n⏺ Bash  two\n  ✓ Bash two: 2\n  ✓ Bash one: 1\n"


def test_the_work_of_a_sub_agent_is_indented() -> None:
    assert _seen(_call(1, "Read", {"file_path": "x"}, parent_tool_use_id="sevt_p")) == "  ⏺ Read  x\n"


def test_the_lines_of_a_setup_script_stay_whole_and_stand_together() -> None:
    output = [event(n, "session.setup_output", text=piece) for n, piece in enumerate(["one\ntw", "o\n", "thr", "ee"])]
    done = event(9, "session.setup_completed", exit_code=0, duration_ms=100)
    seen = _seen(event(1, "session.status_starting", incarnation=1), *output, done)
    assert seen == "· starting the session\n  one\n  two\n  three\n· the setup script is done (0.1 s)\n"


def test_something_else_in_mid_text_gets_a_line_of_its_own() -> None:
    final = event(2, "agent.message", id="sevt_1", content=text("one two"))
    notice = event(1, "session.status_waiting")
    seen = _seen(
        preview_start("sevt_1"), preview_delta("sevt_1", "one "), notice, preview_delta("sevt_1", "two"), final
    )
    assert seen == "● one\n\n· waiting for a person\n  two\n"


def test_a_text_that_was_cut_off_leaves_room_for_the_next() -> None:
    end = event(1, "span.model_request_end", model_request_start_id="x", is_error=True, model_usage={})
    again = [preview_start("sevt_2"), preview_delta("sevt_2", "whole ")]
    seen = _seen(preview_start("sevt_1"), preview_delta("sevt_1", "cut of"), end, *again)
    assert seen == "● cut of\n\n● whole"


def test_a_result_that_no_message_said_is_shown_at_the_end() -> None:
    assert _seen(event(1, "turn.completed", result="Compacted.")) == "● Compacted.\n\n✓ completed\n"
    said = event(1, "agent.message", content=text("hello"))
    assert _seen(said, event(2, "turn.completed", result="hello")) == "● hello\n\n✓ completed\n"


def test_an_error_that_was_just_shown_is_not_said_twice() -> None:
    error = {"type": "rate_limit", "message": "slow down", "retry_status": {"type": "exhausted"}}
    seen = _seen(event(1, "session.error", error=error), event(2, "turn.failed", error=error))
    assert seen == "✗ slow down\n\n✗ failed: rate_limit\n"


def test_the_prompt_that_was_typed_here_is_not_repeated() -> None:
    assert _seen(event(1, "user.message", turn_id="turn_1", content=text("hi")), own={"turn_1"}) == ""


def test_context_fill_is_told_and_cost_of_the_scripted_model_is_not() -> None:
    usage = event(1, "session.usage", usage=USAGE, context={"used_tokens": 50_000, "max_tokens": 200_000})
    end = event(2, "turn.completed", cost_usd=0.5)
    assert _seen(usage, end) == "✓ completed · $0.5000 · context 25 %\n"
    assert _seen(usage, end, scripted=True) == "✓ completed · context 25 %\n"


def test_nothing_is_wider_than_the_terminal() -> None:
    long = "word " * 60
    items = [event(1, "user.message", content=text(long)), event(2, "agent.message", content=text(long)),
             _call(3, "Bash", {"command": long}), _result(4, long),
             event(5, "turn.failed", error={"type": "x", "message": long})]  # fmt: skip
    assert max(map(len, _seen(*items, width=60).split("\n"))) <= 60
