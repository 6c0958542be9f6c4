"""A session's setup script, through the gateway: it runs before the first turn, and its failure is the session's reason."""

from collections.abc import Callable
from typing import Any

import pytest

from support.api import Api
from support.gateway import GatewayProcess
from support.processes import running_with
from support.scenario import bash, says, scripted
from support.waiting import until

HELD = "echo held; until [ -e go ]; do sleep 0.05; done"
"""It waits until it is ended: nobody makes the file."""


async def open_with(api: Api, setup: str, **body: Any) -> str:
    return await api.open_session(config={"setup": setup}, **body)


async def running(word: str, wanted: bool = True) -> bool:
    return bool(running_with(word)) == wanted


async def test_it_runs_before_the_first_turn_and_its_files_are_there_for_the_agent(api: Api) -> None:
    session = await open_with(api, "echo preparing; echo to stderr >&2; echo tulip > word")
    turn = await api.chat(session, scripted(bash("cat word"), says("Read.")))
    assert (turn["status"], turn["result"]) == ("completed", "Read.")
    events = await api.events(session)
    [result] = [event for event in events if event["type"] == "agent.tool_result"]
    assert result["content"][0]["text"] == "tulip"
    told = [event for event in events if event["type"].startswith("session.setup_")]
    assert "".join(event.get("text", "") for event in told) == "preparing\nto stderr\n"
    assert (told[-1]["type"], told[-1]["exit_code"]) == ("session.setup_completed", 0)
    assert {(event["source"], event["turn_id"]) for event in told} == {("agent", None)}
    started = next(event["seq"] for event in events if event["type"] == "turn.started")
    assert told[-1]["seq"] < started


async def test_its_output_is_on_record_while_it_runs_and_the_session_is_starting(api: Api) -> None:
    session = await open_with(api, HELD, prompt="hello")
    await api.has_event(session, "session.setup_output", text="held\n")
    assert (await api.session(session))["status"] == "starting"


async def test_its_failure_fails_the_session_at_once_and_the_turns_that_wait(api: Api) -> None:
    session = await open_with(api, "echo looking for it; echo no such package: tulip >&2; exit 3")
    turn = await api.chat(session, scripted(says("never")))
    assert turn["status"] == "failed"
    assert turn["error"]["type"] == "session_failed"
    assert "no such package: tulip" in turn["error"]["message"]
    failed = await api.session(session)
    assert (failed["status"], failed["incarnation"]) == ("failed", 1)
    first, *lines = failed["reason"].splitlines()
    assert first == "setup_failed: the setup script ended with exit code 3. Its last lines:"
    assert lines == ["looking for it", "no such package: tulip"]
    [status] = await api.events(session, types="session.status_failed")
    assert status["reason"] == failed["reason"]
    assert (await api.has_event(session, "session.setup_completed"))["exit_code"] == 3


async def test_a_prompt_runs_a_setup_that_failed_anew(api: Api) -> None:
    session = await open_with(api, "if [ ! -e tried ]; then touch tried; exit 1; fi; echo better")
    await api.has_status(session, "failed")
    turn = await api.chat(session, scripted(says("At last.")))
    assert (turn["status"], turn["result"]) == ("completed", "At last.")
    assert [event["text"] for event in await api.events(session, types="session.setup_output")] == ["better\n"]
    assert (await api.session(session))["reason"] is None


async def test_it_runs_again_whenever_the_session_starts_again(api: Api) -> None:
    session = await open_with(api, "echo run >> runs; grep -c run runs")
    for runs in (1, 2):
        turn = await api.chat(session, scripted(says("ok")))
        assert turn["status"] == "completed"
        texts = [event["text"] for event in await api.events(session, types="session.setup_output")]
        assert texts == [f"{n}\n" for n in range(1, runs + 1)]
        assert (await api.post(f"sessions/{session}/stop")).json()["status"] == "stopped"


async def test_a_stop_while_it_runs_ends_it_and_all_that_it_started(api: Api) -> None:
    mark = "tail -f /dev/null --pid=1 -s 9191919"
    session = await open_with(api, f"trap '' TERM; setsid {mark} & {HELD}", prompt="hello")
    await api.has_event(session, "session.setup_output")
    await until(lambda: running("9191919"), "the script's processes to run")
    stopped = (await api.post(f"sessions/{session}/stop")).json()
    assert (stopped["status"], stopped["reason"]) == ("stopped", "user")
    assert not running_with("9191919")


async def test_a_session_that_is_deleted_while_it_runs_leaves_nothing(api: Api) -> None:
    session = await open_with(api, f"setsid tail -f /dev/null --pid=1 -s 9292929 & {HELD}")
    await api.has_event(session, "session.setup_output")
    await until(lambda: running("9292929"), "the script's processes to run")
    assert (await api.delete(f"sessions/{session}")).status_code == 204
    await until(lambda: running("9292929", False), "the script's processes to be gone")


async def test_an_interrupt_while_it_runs_hits_nothing_and_the_turn_can_be_canceled(api: Api) -> None:
    session = await open_with(api, HELD)
    await api.has_event(session, "session.setup_output")
    turn = await api.submit(session, "hello")
    assert (await api.post(f"sessions/{session}/interrupt", json={})).json()["turn_id"] is None
    assert (await api.turn(session, turn))["status"] == "queued"
    assert (await api.delete(f"sessions/{session}/turns/{turn}")).json()["status"] == "canceled"


async def test_its_time_counts_beside_the_time_of_the_start(own_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = own_gateway(CC_START_TIMEOUT="3", CC_SETUP_TIMEOUT="60").start()
    async with gateway.api() as api:
        session = await open_with(api, "sleep 4; echo done")  # what is tested is time itself
        turn = await api.chat(session, scripted(says("ok")))
        assert turn["status"] == "completed"
        assert (await api.session(session))["incarnation"] == 1


async def test_a_script_that_takes_too_long_fails_the_session(own_gateway: Callable[..., GatewayProcess]) -> None:
    gateway = own_gateway(CC_SETUP_TIMEOUT="1").start()
    async with gateway.api() as api:
        session = await open_with(api, HELD)
        failed = await api.has_status(session, "failed")
        assert failed["reason"] == "setup_failed: the setup script was not done after 1 s. Its last lines:\nheld"


@pytest.mark.parametrize("setup", ["", "echo \0", "x" * 65_537, 7], ids=["empty", "nul", "long", "number"])
async def test_what_can_be_no_script_is_refused(api: Api, setup: Any) -> None:
    answer = await api.post("sessions", json={"config": {"setup": setup}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
