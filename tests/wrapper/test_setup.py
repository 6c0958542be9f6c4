"""A session's setup script: it runs before `claude`, is followed while it does, and ends the incarnation where it fails."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from cc_protocol.outbox import Fatal, Lines, Ready
from cc_wrapper.errors import FatalError
from cc_wrapper.setup.output import LIMIT, TEXT_LIMIT
from cc_wrapper.setup.script import SCRIPT_FILE, find_shell
from wrapper.harness import TOKEN, Stage, processes_with, scenario, until


def output(stage: Stage) -> str:
    return "".join(event.text for event in stage.events("session.setup_output"))


async def ended(stage: Stage) -> int:
    assert stage.process is not None
    return await stage.process.wait()


async def test_its_output_and_its_end_are_told_before_the_session_is_ready(stage: Stage) -> None:
    await stage.started(setup="echo one; echo two >&2; echo three; printf four")
    assert output(stage) == "one\ntwo\nthree\nfour"
    [completed] = stage.events("session.setup_completed")
    assert completed.exit_code == 0
    assert completed.duration_ms < 20_000
    *told, last = stage.entries
    assert isinstance(last, Ready)
    assert [one.claims[0].body.type for one in told if isinstance(one, Lines)][-1] == "session.setup_completed"
    assert {one.turn_id for one in told if isinstance(one, Lines)} == {None}


async def test_its_output_is_told_while_it_runs(stage: Stage) -> None:
    await stage.start(setup="echo waiting; until [ -e go ]; do sleep 0.02; done; echo went")
    await stage.event("session.setup_output", lambda event: event.text == "waiting\n")
    assert not [beat for beat in stage.beats if beat.ready]
    (stage.workspace / "go").touch()
    await stage.wait_for(Ready)
    assert output(stage) == "waiting\nwent\n"


async def test_what_it_makes_is_there_for_the_first_turn(stage: Stage) -> None:
    await stage.start(setup='pwd; printf "$WORD" > made', env={"WORD": "tulip"})
    end = await stage.run(scenario({"tool": "Bash", "input": {"command": "cat made"}}, {"text": "Read."}))
    assert end.outcome == "completed"
    [result] = stage.events("agent.tool_result")
    assert (result.content[0]["text"], output(stage)) == ("tulip", f"{stage.workspace}\n")


async def test_it_finds_an_empty_workspace_and_the_words_that_it_brings_count(stage: Stage) -> None:
    await stage.start(setup="ls -A; echo 'Our house style is SETUP-MEMORY.' > CLAUDE.md")
    await stage.run(scenario({"text": "x"}))
    assert output(stage) == ""
    assert "SETUP-MEMORY" in json.dumps(stage.model.requests[-1][0])


async def test_it_runs_again_in_every_incarnation(stage: Stage) -> None:
    for runs in ("1", "2"):
        await stage.started(setup="echo run >> runs; grep -c run runs")
        assert output(stage) == f"{runs}\n"
        assert await stage.stop() == 0


async def test_it_reads_nothing_from_its_standard_input(stage: Stage) -> None:
    await stage.started(setup="cat; read -r line || echo nothing")
    assert output(stage) == "nothing\n"


async def test_bytes_that_are_no_text_do_no_harm(stage: Stage) -> None:
    await stage.started(setup=r"printf 'a\377\000b\n'")
    assert output(stage) == "a\N{REPLACEMENT CHARACTER}\0b\n"


async def test_nothing_secret_is_in_its_environment(stage: Stage) -> None:
    await stage.start(setup="env -0 > before", env={"WORD": "tulip", "ANTHROPIC_SMALL_FAST_MODEL": "small"})
    await stage.run(scenario({"tool": "Bash", "input": {"command": "env -0 > after"}}, {"text": "x"}))
    before, after = (_environment(stage.workspace / name) for name in ("before", "after"))
    nonce = after["ANTHROPIC_AUTH_TOKEN"]  # the same reading finds it where it is
    assert len(nonce) > 8
    assert before["WORD"] == "tulip"
    assert not [name for name in before if name.startswith(("ANTHROPIC_", "CC_RUN"))]
    held = " ".join(before.values())
    assert not [secret for secret in (nonce, TOKEN, f"pw-{stage.incarnation}", str(stage.run_dir)) if secret in held]


def _environment(file: Path) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in file.read_text().split("\0") if entry)


# ---------------------------------------------------------------- its failure


async def test_a_failure_ends_the_incarnation_with_the_exit_code_and_the_last_lines(stage: Stage) -> None:
    await stage.start(setup="seq 100; echo no such package >&2; exit 3")
    fatal = await stage.wait_for(Fatal)
    assert fatal.code == "setup_failed"
    first, *lines = fatal.message.splitlines()
    assert first == "the setup script ended with exit code 3. Its last lines:"
    assert lines == [*[str(n) for n in range(82, 101)], "no such package"]
    assert stage.events("session.setup_completed")[0].exit_code == 3
    assert output(stage).endswith("100\nno such package\n")
    assert await ended(stage) == os.EX_SOFTWARE
    assert "claude started" not in stage.log.read_text()


async def test_a_signal_is_a_failure(stage: Stage) -> None:
    await stage.start(setup="kill -KILL $$")
    fatal = await stage.wait_for(Fatal)
    assert (fatal.code, fatal.message) == ("setup_failed", "the setup script was killed by signal 9 and wrote nothing.")
    assert stage.events("session.setup_completed")[0].exit_code is None


async def test_a_script_that_is_no_shell_script_is_a_failure_in_the_shells_own_words(stage: Stage) -> None:
    await stage.start(setup="if true; then")
    fatal = await stage.wait_for(Fatal)
    assert (fatal.code, "syntax error" in fatal.message) == ("setup_failed", True)


async def test_a_script_that_takes_too_long_is_ended_with_all_that_it_started(stage: Stage) -> None:
    forever = "tail -f /dev/null --pid=1 -s 8881"
    await stage.start(setup=f"echo begun; setsid {forever} & {forever}", setup_seconds=1)
    fatal = await stage.wait_for(Fatal)
    assert fatal.message == "the setup script was not done after 1 s. Its last lines:\nbegun"
    assert stage.events("session.setup_completed")[0].exit_code is None
    assert await ended(stage) == os.EX_SOFTWARE
    assert not processes_with("-s 8881")


async def test_a_script_that_kills_its_group_does_not_hit_the_wrapper(stage: Stage) -> None:
    await stage.start(setup="kill 0")
    assert (await stage.wait_for(Fatal)).message.startswith("the setup script was killed by signal 15")


# ---------------------------------------------------------------- what it may do


async def test_a_flood_of_output_is_cut_and_holds_up_nothing(stage: Stage) -> None:
    await stage.start(setup="yes | head -c 50000000; echo the end")
    await stage.wait_for(Ready)
    texts = [event.text for event in stage.events("session.setup_output")]
    assert all(0 < len(text) <= TEXT_LIMIT for text in texts)
    assert "".join(texts[:-1]) == "y\n" * (LIMIT // 2)
    assert "the rest is left out" in texts[-1]


async def test_the_last_lines_of_a_flood_tell_why_it_failed(stage: Stage) -> None:
    await stage.start(setup="yes | head -c 5000000; echo no room left; exit 1")
    assert (await stage.wait_for(Fatal)).message.endswith("\nno room left")


BACKGROUND = "(while :; do echo tick; echo >> ticks; sleep 0.01; done) & echo started"
"""It writes into the script's own output for ever."""


def ticks(stage: Stage) -> int:
    return len((stage.workspace / "ticks").read_text())


async def test_a_background_process_holds_up_nothing_and_lives_with_the_session(stage: Stage) -> None:
    await stage.started(setup=BACKGROUND)
    assert "started\n" in output(stage)
    told, count = output(stage), ticks(stage)
    await until(lambda: ticks(stage) > count + 20)
    [claude] = stage.claude_pids()
    os.kill(claude, signal.SIGKILL)
    await until(lambda: len([one for one in stage.entries if isinstance(one, Ready)]) == 2)
    count = ticks(stage)
    await until(lambda: ticks(stage) > count + 20)
    assert output(stage) == told
    own = str(stage.claude_dir / SCRIPT_FILE)
    assert processes_with(own)
    assert await stage.stop() == 0
    assert not processes_with(own)


async def test_a_claude_that_is_killed_still_takes_its_own_orphans_along(stage: Stage) -> None:
    await stage.started(setup="setsid tail -f /dev/null --pid=1 -s 8882 &")
    command = {"command": "setsid nohup tail -f /dev/null --pid=1 -s 8883 >/dev/null 2>&1 & echo started"}
    await stage.run(scenario({"tool": "Bash", "input": command}, {"text": "Left."}))
    assert processes_with("-s 8883")
    [claude] = stage.claude_pids()
    os.kill(claude, signal.SIGKILL)
    await until(lambda: len([one for one in stage.entries if isinstance(one, Ready)]) == 2)
    assert (len(processes_with("-s 8882")), len(processes_with("-s 8883"))) == (1, 0)


async def test_a_stop_ends_it_with_all_that_it_started(stage: Stage) -> None:
    forever = "tail -f /dev/null --pid=1 -s 8884"
    await stage.start(setup=f"trap '' TERM INT; setsid {forever} & echo begun; {forever}")
    await stage.event("session.setup_output")
    await until(lambda: len(processes_with("-s 8884")) == 2)
    assert await stage.stop() == 0
    assert not processes_with("-s 8884")
    assert not processes_with(str(stage.root))
    assert [one for one in stage.entries if isinstance(one, Fatal | Ready)] == []


async def test_an_interrupt_while_it_runs_drops_the_turn_that_waits(stage: Stage) -> None:
    await stage.start(setup="echo begun; until [ -e go ]; do sleep 0.02; done")
    await stage.event("session.setup_output")
    turn = await stage.prompt(scenario({"text": "x"}))
    await until(lambda: [beat for beat in stage.beats if turn in beat.pending])
    await stage.interrupt(turn)
    assert (await stage.end_of(turn)).outcome == "interrupted"
    (stage.workspace / "go").touch()
    assert (await stage.run(scenario({"text": "Next."}))).result == "Next."


# ---------------------------------------------------------------- its shell


def test_it_runs_in_sh_where_there_is_no_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "defpath", "")
    (tmp_path / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    assert find_shell({"PATH": str(tmp_path)}) == str(tmp_path / "sh")
    (tmp_path / "bash").symlink_to(shutil.which("sh") or "/bin/sh")
    assert find_shell({"PATH": str(tmp_path)}) == str(tmp_path / "bash")


def test_a_place_without_a_shell_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "defpath", "")
    with pytest.raises(FatalError) as raised:
        find_shell({"PATH": str(tmp_path)})
    assert raised.value.code == "setup_failed"


async def test_a_path_of_the_sessions_own_hides_no_shell(stage: Stage) -> None:
    await stage.start(setup='echo "$PATH"; exit 1', env={"PATH": "/nowhere"})
    assert (await stage.wait_for(Fatal)).message.endswith("/nowhere")
