"""`claude` dies, Redis goes away, the wrapper is stopped: what must hold."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from cc_protocol.commands import Prompt
from cc_protocol.ids import TURN, new_id
from cc_protocol.outbox import Fatal, Lines, Ready, TurnEnd
from wrapper.harness import RedisServer, ScriptedModel, Stage, children_of, processes_with, scenario, staged, until

FAKE = str(Path(__file__).parent / "fake_claude.py")
SLOW = {"text": [f"{n} " for n in range(1000)], "chunk_delay_ms": 50}


async def test_a_claude_that_is_killed_ends_its_turn_leaves_no_orphan_and_comes_back(stage: Stage) -> None:
    await stage.started()
    assert (await stage.run(scenario({"text": "Remember the tulip."}))).outcome == "completed"
    turn = await stage.prompt(scenario({"tool": "Bash", "input": {"command": "tail -f /dev/null; echo orphan-one"}}))
    await until(lambda: processes_with("echo orphan-one"))
    [claude] = stage.claude_pids()
    os.kill(claude, signal.SIGKILL)
    end = await stage.end_of(turn, seconds=10)
    assert end.outcome == "failed"
    assert end.error is not None
    assert (end.error.type, "signal 9" in end.error.message) == ("cli_exited", True)
    assert not processes_with("echo orphan-one")
    await until(lambda: len([one for one in stage.entries if isinstance(one, Ready)]) == 2)
    assert [one.resumed for one in stage.entries if isinstance(one, Ready)] == [False, True]
    assert (await stage.run(scenario({"text": "Back."}))).result == "Back."
    assert "tulip" in json.dumps(stage.model.requests[-1][0]["messages"])


async def test_a_new_incarnation_resumes_the_conversation(stage: Stage) -> None:
    await stage.started()
    await stage.run(scenario({"text": "The word is tulip."}))
    assert await stage.stop() == 0
    assert (await stage.started()).resumed
    await stage.run(scenario({"text": "Yes."}))
    assert "The word is tulip." in json.dumps(stage.model.requests[-1][0]["messages"])


async def test_a_conversation_that_was_cleared_is_resumed_as_cleared(stage: Stage) -> None:
    await stage.started()
    await stage.run(scenario({"text": "The word is tulip."}))
    await stage.run("/clear")
    await stage.run(scenario({"text": "The word is rose."}))
    assert await stage.stop() == 0
    assert (await stage.started()).resumed
    await stage.run(scenario({"text": "Yes."}))
    asked = json.dumps(stage.model.requests[-1][0]["messages"])
    assert ("rose" in asked, "tulip" in asked) == (True, False)


async def test_a_transcript_that_cannot_be_resumed_gives_way_to_a_new_conversation(stage: Stage) -> None:
    await stage.started()
    await stage.run(scenario({"text": "x"}))
    assert await stage.stop() == 0
    [transcript] = (stage.claude_dir / "projects").glob("*/*.jsonl")
    transcript.write_text("")
    await stage.start()
    assert (await stage.run(scenario({"text": "Anew."}))).result == "Anew."


async def test_stopping_in_mid_turn_ends_it_interrupted_and_leaves_no_process(stage: Stage) -> None:
    await stage.started()
    turn = await stage.prompt(scenario({"tool": "Bash", "input": {"command": "tail -f /dev/null; echo left-over"}}))
    await until(lambda: processes_with("echo left-over"))
    code = await stage.stop()
    end = await stage.end_of(turn)
    assert (code, end.outcome, end.detail) == (0, "interrupted", "stopped")
    assert not processes_with(str(stage.root))
    assert not processes_with("echo left-over")


async def test_what_a_prompt_left_running_is_gone_after_the_stop(stage: Stage) -> None:
    await stage.started()
    command = {"command": "setsid nohup tail -f /dev/null --pid=1 -s 7777 >/dev/null 2>&1 & echo started"}
    await stage.run(scenario({"tool": "Bash", "input": command}, {"text": "Left."}))
    assert processes_with("-s 7777")
    assert await stage.stop(signal.SIGINT) == 0
    assert not processes_with("-s 7777")


async def test_what_is_chosen_before_claude_is_ready_counts(stage: Stage) -> None:
    await stage.start()
    await stage.configure(model="claude-sonnet-5")
    await stage.run(scenario({"text": "x"}))
    assert stage.events("agent.message")[0].model == "claude-sonnet-5"


async def test_what_is_chosen_while_claude_starts_counts_and_holds_up_no_prompt(stage: Stage) -> None:
    silent = {"type": "stdio", "command": "sleep", "args": ["600"]}
    await stage.start(mcp_servers={"silent": silent}, mcp_connect_seconds=2)
    await until(lambda: "claude started" in stage.log.read_text())
    await stage.configure(model="claude-sonnet-5")
    await stage.run(scenario({"text": "x"}))
    assert stage.events("agent.message")[0].model == "claude-sonnet-5"


async def test_zombies_are_reaped(stage: Stage) -> None:
    await stage.started()
    command = {"command": "setsid sh -c 'sleep 0.05' >/dev/null 2>&1 & setsid sh -c true & echo started"}
    await stage.run(scenario({"tool": "Bash", "input": command}, {"text": "Left."}))
    assert stage.process is not None
    pid = stage.process.pid
    await until(lambda: children_of(pid) == stage.claude_pids(), 5)


async def test_redis_comes_back_without_its_data_in_mid_turn(own_redis: RedisServer, model: ScriptedModel) -> None:
    async with staged(own_redis, model) as stage:
        await stage.started()
        first = await stage.run(scenario({"text": "Before."}))
        pieces = {"text": [f"{n} " for n in range(40)], "chunk_delay_ms": 50}
        turn = new_id(TURN)
        await stage.prompt(scenario({"tool": "Bash", "input": {"command": "echo one"}}, pieces), turn)
        await stage.event("agent.tool_use")
        stage.acknowledging = False
        own_redis.kill()
        await asyncio.to_thread(own_redis.start)
        await until(own_redis.socket.exists)
        again = Prompt(incarnation=stage.incarnation, turn_id=turn, content=[{"type": "text", "text": "again"}])
        await until_sent(stage, again)
        stage.acknowledging = True
        end = await stage.end_of(turn)
        assert (end.outcome, len(str(end.result).split())) == ("completed", 40)
        assert [one.n for one in stage.entries] == list(range(1, len(stage.entries) + 1))
        assert [one.turn_id for one in stage.entries if isinstance(one, TurnEnd)] == [first.turn_id, turn]
        assert (await stage.run(scenario({"text": "After."}))).result == "After."


async def until_sent(stage: Stage, command: Prompt) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                return await stage.send(command)
            except Exception:
                await asyncio.sleep(0.05)


async def test_a_wrapper_whose_password_does_not_count_any_more_leaves_quietly(stage: Stage) -> None:
    await stage.started(before="import cc_wrapper.wire.link as link; link.REPLACED_AFTER = 1.0")
    [claude] = stage.claude_pids()
    async with stage.redis.admin() as admin:
        await admin.execute_command("ACL", "SETUSER", stage.session_id, "resetpass", ">another")
        await admin.execute_command("CLIENT", "KILL", "USER", stage.session_id)
    assert stage.process is not None
    async with asyncio.timeout(30):
        assert await stage.process.wait() == 0
    assert not Path(f"/proc/{claude}").exists()


async def test_another_version_of_claude_is_refused_with_the_fix(stage: Stage) -> None:
    await stage.start(claude_version="2.0.1")
    fatal = await stage.wait_for(Fatal)
    assert fatal.code == "cli_version"
    assert "2.1.329" in fatal.message
    assert "2.0.1 is pinned" in fatal.message
    assert stage.process is not None
    assert await stage.process.wait() == os.EX_SOFTWARE


async def test_a_missing_claude_is_told(stage: Stage) -> None:
    await stage.start(claude_binary="/no/such/claude")
    fatal = await stage.wait_for(Fatal)
    assert (fatal.code, "/no/such/claude" in fatal.message) == ("cli_missing", True)


@pytest.mark.parametrize("field", ["session.json", "secrets.json"])
async def test_a_bad_file_is_one_clear_line_and_exit_78(stage: Stage, field: str) -> None:
    stage.write_launch()
    (stage.run_dir / field).write_text('{"token": 1, "session_id": "hunter2"}')
    stage.write_launch = lambda **_: None  # type: ignore[assignment, method-assign, return-value]
    await stage.start()
    assert stage.process is not None
    assert await stage.process.wait() == os.EX_CONFIG
    [line] = stage.log.read_text().splitlines()
    assert field in line
    assert "hunter2" not in line


# ---------------------------------------------------------------- a `claude` that misbehaves


@pytest.fixture
async def fake(stage: Stage, request: pytest.FixtureRequest) -> Stage:
    await stage.start(claude_binary=FAKE, env={"FAKE_MODE": request.param}, max_line_bytes=100_000)
    return stage


@pytest.mark.parametrize("fake", ["exits"], indirect=True)
async def test_a_claude_that_exits_without_a_result_fails_the_turn(fake: Stage) -> None:
    end = await fake.run("x")
    assert end.outcome == "failed"
    assert end.error is not None
    assert (end.error.type, end.error.message) == ("cli_exited", "claude exited with code 0.")


@pytest.mark.parametrize("fake", ["dies"], indirect=True)
async def test_a_claude_that_never_starts_is_given_up_with_its_own_words(fake: Stage) -> None:
    turn = await fake.prompt("x")
    fatal = await fake.wait_for(Fatal, seconds=30)
    assert (fatal.code, "no good" in fatal.message) == ("cli_crashes", True)
    assert (await fake.end_of(turn)).outcome == "interrupted"


@pytest.mark.parametrize("fake", ["forgets"], indirect=True)
async def test_a_claude_that_rests_without_a_result_fails_the_turn(fake: Stage) -> None:
    end = await fake.run("x")
    assert end.error is not None
    assert (end.outcome, end.error.type) == ("failed", "cli_no_result")


@pytest.mark.parametrize("fake", ["stateless"], indirect=True)
async def test_a_claude_that_tells_no_states_is_taken_at_its_result(fake: Stage) -> None:
    end = await fake.run("x")
    assert (end.outcome, end.result) == ("completed", "fine")


@pytest.mark.parametrize("fake", ["asks"], indirect=True)
async def test_a_permission_that_claude_asks_for_is_denied(fake: Stage) -> None:
    assert (await fake.run("x")).outcome == "completed"
    said = await fake.event("cli.event", lambda event: event.name == "their_answer")
    assert said.line["answer"]["response"]["response"]["behavior"] == "deny"


@pytest.mark.parametrize("fake", ["oversize"], indirect=True)
async def test_a_line_above_the_limit_is_told_and_the_turn_goes_on(fake: Stage) -> None:
    assert (await fake.run("x")).result == "fine"
    said = await fake.event("cli.event", lambda event: event.name == "oversize")
    assert said.line == {"bytes": 200_000}


@pytest.mark.parametrize("fake", ["deaf"], indirect=True)
async def test_a_claude_that_does_not_stop_is_killed(fake: Stage) -> None:
    turn = await fake.prompt("x")
    await until(lambda: [beat for beat in fake.beats if beat.turn_id == turn])
    code = await fake.stop()
    end = await fake.end_of(turn)
    assert (code, end.outcome, end.detail) == (0, "interrupted", "stopped")


async def test_a_stop_is_over_in_10_s_with_a_claude_that_will_not_and_redis_away(
    own_redis: RedisServer, model: ScriptedModel
) -> None:
    async with staged(own_redis, model) as stage:
        await stage.started(claude_binary=FAKE, env={"FAKE_MODE": "deaf"})
        await stage.prompt("x")
        await stage.event("cli.event")
        own_redis.kill()
        async with asyncio.timeout(10):
            assert await stage.stop() == 0
        assert not processes_with(FAKE)


async def test_all_that_a_dying_claude_says_is_kept_though_nobody_takes_it(stage: Stage) -> None:
    stage.acknowledging = False
    await stage.start(claude_binary=FAKE, env={"FAKE_MODE": "late"})
    end = await stage.run("x")
    assert (end.outcome, end.result) == ("completed", "fine")
    [line] = [entry for entry in stage.entries if isinstance(entry, Lines) and "yyy" in (entry.raw or "")]
    assert len(line.claims[0].body.content[0]["text"]) == 900_000
