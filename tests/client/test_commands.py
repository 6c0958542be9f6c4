"""The commands on sessions: what they print, and the status they leave with."""

import json
import os
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cc_client.cli.app import app
from client.stub_gateway import TOKEN, StubGateway, refusal


@pytest.fixture(autouse=True)
def _known(data_dir: Path, stub: StubGateway) -> None:
    known = {"url": stub.url, "pid": os.getpid(), "token": TOKEN, "model": "m", "isolated": True, "driver": "process"}
    (data_dir / "gateway.json").write_text(json.dumps(known))


def _call(*arguments: str, input: str | None = None) -> Result:
    result: Result = CliRunner().invoke(app, arguments, input=input)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_every_command_has_a_line_of_help_and_an_example() -> None:
    listed = _call("--help").output
    for name in (
        "serve",
        "token",
        "run",
        "chat",
        "sessions",
        "show",
        "messages",
        "events",
        "logs",
        "interrupt",
        "stop",
        "rm",
    ):
        assert f"  {name} " in listed
    assert "..." not in listed.split("Commands:")[1]
    for name in ("run", "chat", "sessions", "show", "messages", "events", "logs", "interrupt", "stop", "rm"):
        assert f"Example: cc-docker {name}" in _call(name, "--help").output


def test_sessions_are_listed_with_status_and_title(stub: StubGateway) -> None:
    ids = [stub.add_session(title=f"number {n}") for n in range(3)]
    stub.sessions[ids[0]]["status"] = "stopped"
    result = _call("sessions")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == sorted(ids, reverse=True)
    assert "number 2" in result.output
    assert _call("sessions", "--status", "stopped").output.startswith(ids[0])
    assert [json.loads(line)["session_id"] for line in _call("sessions", "--json").output.splitlines()]


def test_no_sessions_is_said(stub: StubGateway) -> None:
    assert "no sessions" in _call("sessions").output


def test_an_id_may_be_its_beginning_or_its_end(stub: StubGateway) -> None:
    session_id = stub.add_session()
    for part in (session_id, session_id[-6:], session_id[:20], session_id[5:20], session_id[-6:].upper()):
        assert session_id in _call("show", part).output


def test_an_id_that_means_none_or_several_is_an_error(stub: StubGateway) -> None:
    for _ in range(2):
        stub.add_session()
    result = _call("show", "sesn_")
    assert result.exit_code == 2
    assert "2 sessions" in result.output
    result = _call("show", "zzzz")
    assert result.exit_code == 2
    assert "cc-docker sessions" in result.output


def test_show_tells_the_turns_and_messages_the_conversation(stub: StubGateway) -> None:
    session_id = stub.add_session(title="a title")
    stub.prompt(session_id, "hello")
    shown = _call("show", session_id).output
    assert "a title" in shown
    assert "› hello" in shown
    assert "completed" in shown
    assert _call("messages", session_id).output == "\n› hello\n\n● you said: hello\n"


def test_events_are_printed_as_lines_or_as_json(stub: StubGateway) -> None:
    session_id = stub.add_session()
    stub.prompt(session_id, "hel\x1b]52;c;eA==\x07lo")
    lines = _call("events", session_id).output.splitlines()
    assert [line.split()[2] for line in lines] == ["user.message", "turn.started", "agent.message", "turn.completed"]
    assert "\x1b" not in "".join(lines)
    as_json = _call("events", session_id, "--json", "--after", "2").output
    assert [json.loads(line)["seq"] for line in as_json.splitlines()] == [3, 4]
    assert "\x1b" not in as_json
    assert len(_call("events", session_id, "--types", "agent.message,user.message").output.splitlines()) == 2


def test_raw_does_not_go_with_follow(stub: StubGateway) -> None:
    result = _call("events", stub.add_session(), "--follow", "--raw")
    assert result.exit_code == 2


def test_interrupt_and_stop_say_what_they_did(stub: StubGateway) -> None:
    stub.hold = True
    session_id = stub.add_session()
    turn = stub.prompt(session_id, "hello")
    assert _call("interrupt", session_id).output == f"interrupting {turn['turn_id']}\n"
    assert _call("interrupt", session_id).output == f"nothing runs in {session_id}\n"
    assert _call("stop", session_id).output == f"{session_id} is stopped\n"


def test_rm_deletes_after_a_word(stub: StubGateway) -> None:
    first, second = stub.add_session(), stub.add_session()
    result = _call("rm", first)
    assert result.exit_code == 2  # nobody at the keyboard
    assert first in stub.sessions
    assert _call("rm", first, second, "--yes").output == f"deleted {first}\ndeleted {second}\n"
    assert not stub.sessions


def test_rm_goes_on_when_one_fails(stub: StubGateway) -> None:
    first = stub.add_session()
    missing = "sesn_" + "0" * 26
    result = _call("rm", missing, first, "-y")
    assert result.exit_code == 1
    assert f"deleted {first}" in result.output


def test_a_refusal_is_two_lines_with_what_to_do_and_status_1(stub: StubGateway) -> None:
    stub.answers = [refusal(401, "unauthenticated", "the token has expired")]
    result = _call("sessions")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "error: the token has expired (unauthenticated)",
        "  is CC_TOKEN right, and not too old? `cc-docker token` makes a new one",
    ]


def test_a_stale_file_is_no_gateway_with_the_way_to_start_one(data_dir: Path) -> None:
    (data_dir / "gateway.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": 999_999_999, "token": "x"}))
    result = _call("sessions")
    assert result.exit_code == 1
    assert result.output.startswith(f"error: no gateway is running on {data_dir}")
    assert "cc-docker serve" in result.output
    assert len(result.output.splitlines()) == 2


def test_wrong_usage_is_status_2() -> None:
    assert _call("events").exit_code == 2
    assert _call("run", "x", "--permission-mode", "yolo").exit_code == 2
    assert _call("run", "  ").exit_code == 2
    assert _call("chat", "abc", "--new").exit_code == 2


def test_run_on_a_running_gateway_shows_the_turn_and_leaves_with_its_status(stub: StubGateway) -> None:
    result = _call("run", "hello")
    assert result.exit_code == 0
    assert "● you said: hello" in result.output
    assert "✓ completed · 1.2 s · $0.0100" in result.output
    assert f"export CC_TOKEN={TOKEN}" in result.output
    stub.ending = "failed"
    result = _call("run", "hello")
    assert result.exit_code == 1
    assert "✗ failed: the model is overloaded (HTTP 529)" in result.output


def test_run_reads_a_prompt_from_standard_input_and_passes_the_settings_on(stub: StubGateway) -> None:
    assert _call("run", "-", "--model", "m1", "--timeout", "1.5", "--title", "T", input="from a pipe\n").exit_code == 0
    body = next(body for method, path, _, body in stub.requests if (method, path) == ("POST", "/sessions"))
    assert body == {"prompt": "from a pipe\n", "title": "T", "config": {"model": "m1", "timeout_seconds": 2}}


def test_run_passes_a_setup_script_on_by_its_text(stub: StubGateway, tmp_path: Path) -> None:
    script = tmp_path / "setup.sh"
    script.write_text("echo grüß dich\n")
    assert _call("run", "hello", "--setup", str(script)).exit_code == 0
    body = next(body for method, path, _, body in stub.requests if (method, path) == ("POST", "/sessions"))
    assert body["config"] == {"setup": "echo grüß dich\n"}


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_setup_script_that_cannot_be_read_is_wrong_usage(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "setup.sh").write_bytes(content)
    result = _call("run", "hello", "--setup", str(tmp_path / "setup.sh"))
    assert (result.exit_code, "--setup" in result.output) == (2, True)


def test_run_as_json_prints_events_alone() -> None:
    result = CliRunner().invoke(app, ["run", "hello", "--json"])
    assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == [1, 2, 3, 4]
    assert "CC_TOKEN" in result.stderr


def test_run_will_not_send_a_prompt_for_the_scripted_model_to_a_real_one(stub: StubGateway) -> None:
    result = _call("run", "hello", "--scripted")
    assert result.exit_code == 2
    assert not stub.sessions


def test_chat_sends_line_by_line_and_ends_with_the_input(stub: StubGateway) -> None:
    result = _call("chat", "--new", input="hello\n\n/compact\n/exit\nnever sent\n")
    assert result.exit_code == 0
    assert "● you said: hello" in result.output
    assert "● you said: /compact" in result.output
    assert len(stub.sessions) == 1
    assert [len(turns) for turns in stub.turns.values()] == [2]


def test_chat_goes_on_with_the_newest_session_and_shows_only_what_is_new(stub: StubGateway) -> None:
    session_id = stub.add_session(title="the old one")
    stub.prompt(session_id, "before")
    result = _call("chat", input="now\n")
    assert "the old one" in result.output
    assert "before" not in result.output
    assert "● you said: now" in result.output


def test_chat_reports_a_refused_prompt_and_goes_on(stub: StubGateway) -> None:
    stub.add_session()
    away = refusal(429, "too_many_requests", "20 turns wait already", {"Retry-After": "7"})
    original = stub.answer

    def once_refused(method: str, rest: list[str], query: dict, body: dict) -> object:
        if body.get("prompt") == "one":
            return away
        return original(method, rest, query, body)

    stub.answer = once_refused  # type: ignore[method-assign]
    result = _call("chat", input="one\ntwo\n")
    assert "20 turns wait already" in result.output
    assert "try again in 7 s" in result.output
    assert "● you said: two" in result.output
