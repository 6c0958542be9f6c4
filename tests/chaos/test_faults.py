"""Faults: what is killed, missing or in the way; and what must hold all the same (P1–P4 of the design's promises)."""

import asyncio
import contextlib
import json
import os
import random
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from support.api import Api
from support.gateway import GatewayProcess
from support.processes import all_gone, belonging_to, claude_of, of_session, running_with, wrapper_of
from support.scenario import bash, says, scripted
from support.waiting import until
from support.watching import Follower, asked_of, calls, check_record

LONG = "for i in $(seq 600); do sleep 0.1; done"
KILL_WRAPPER = """kill -9 "$(awk '{print $4}' /proc/$PPID/stat)"; sleep 1"""


# ---------------------------------------------------------------- helpers


async def tool_of(word: str) -> None:
    """Wait until the tool that has this word on its command line runs."""
    await until(lambda: _any(word), f"a tool with {word} to run", 10)


async def _any(word: str) -> bool:
    return bool(running_with(word))


async def restart(gateway: GatewayProcess) -> None:
    """Start it again where it was, without stopping the test's own loop."""
    port = urlsplit(gateway.url).port
    await asyncio.to_thread(gateway.start, "--port", str(port))


# ---------------------------------------------------------------- claude and its wrapper


async def test_a_claude_killed_in_mid_turn_fails_the_turn_within_10_seconds_and_the_next_one_works(api: Api) -> None:
    session_id = await api.open_session()
    turn_id = await asked_of(api, session_id, scripted(bash(LONG + "; echo orphan-one"), text="first words"))
    await tool_of("orphan-one")
    claude_of(session_id).kill()
    turn = await api.ended(session_id, turn_id, 10)
    assert turn["status"] == "failed"
    assert turn["error"]["type"] == "cli_exited"
    assert "signal 9" in turn["error"]["message"]
    assert not running_with("orphan-one")
    again = await api.chat(session_id, scripted(says("{{all_prompts}}"), text="second words"))
    assert again["status"] == "completed"
    assert "first words" in again["result"]
    assert (await api.session(session_id))["incarnation"] == 1
    await check_record(api, session_id)


async def test_a_claude_killed_at_rest_is_replaced_and_remembers(api: Api) -> None:
    session_id = await api.open_session()
    await api.chat(session_id, scripted(says("yes"), text="remember the heron"))
    old = claude_of(session_id)
    old.kill()
    old.wait(10)
    turn = await api.chat(session_id, scripted(says("{{all_prompts}}"), text="what bird"))
    assert turn["status"] == "completed", turn["error"]
    assert "remember the heron" in turn["result"]
    assert claude_of(session_id).pid != old.pid
    await check_record(api, session_id)


async def test_a_wrapper_killed_in_mid_turn_interrupts_it_and_the_next_prompt_resumes(api: Api) -> None:
    session_id = await api.open_session()
    turn_id = await asked_of(api, session_id, scripted(bash(LONG + "; echo orphan-two"), text="first words"))
    queued = await api.submit(session_id, scripted(says("{{all_prompts}}"), text="queued words"))
    await tool_of("orphan-two")
    wrapper_of(session_id).kill()
    turn = await api.ended(session_id, turn_id, 15)
    assert (turn["status"], turn["reason"]) == ("interrupted", "session_lost")
    after = await api.ended(session_id, queued)
    assert after["status"] == "completed"
    assert "first words" in after["result"]
    assert not running_with("orphan-two")
    assert (await api.session(session_id))["incarnation"] == 2
    events = await check_record(api, session_id)
    assert len(calls(events)) == 1


async def test_a_wrapper_killed_at_rest_puts_the_session_to_sleep_and_a_prompt_wakes_it(api: Api) -> None:
    session_id = await api.open_session()
    await api.chat(session_id, scripted(says("yes"), text="remember the heron"))
    wrapper_of(session_id).kill()
    await api.has_status(session_id, "asleep", seconds=15)
    assert not of_session(session_id)
    turn = await api.chat(session_id, scripted(says("{{all_prompts}}"), text="what bird"))
    assert "remember the heron" in turn["result"]
    await check_record(api, session_id)


async def test_a_prompt_that_kills_its_wrapper_ends_interrupted_and_the_queue_moves_on(api: Api) -> None:
    session_id = await api.open_session()
    deadly = [await api.submit(session_id, scripted(bash(KILL_WRAPPER), text=f"deadly {n}")) for n in range(1)]
    harmless = await api.submit(session_id, scripted(says("alive")))
    for turn_id in deadly:
        turn = await api.ended(session_id, turn_id)
        assert (turn["status"], turn["attempt"]) == ("interrupted", 1)
    assert (await api.ended(session_id, harmless))["result"] == "alive"
    events = await check_record(api, session_id)
    assert calls(events) == [KILL_WRAPPER]


@pytest.mark.embedded
async def test_without_bubblewrap_a_killed_wrapper_leaves_nothing_running(gateway_with: Any) -> None:
    with gateway_with(CC_BUBBLEWRAP="off") as gateway:
        async with gateway.api() as api:
            session_id = await api.open_session()
            turn_id = await asked_of(api, session_id, scripted(bash(LONG + "; echo orphan-three")))
            await tool_of("orphan-three")
            wrapper_of(session_id).kill()
            assert (await api.ended(session_id, turn_id, 15))["status"] == "interrupted"
            await until(lambda: _nothing(lambda: running_with("orphan-three")), "the tool to be gone", 10)
            await until(lambda: _nothing(lambda: of_session(session_id)), "the session's processes to be gone", 10)
        assert gateway.stop() == 0
        await all_gone(gateway.data_dir)


async def _nothing(look: Callable[[], list[Any]]) -> bool:
    return not look()


# ---------------------------------------------------------------- the gateway


async def test_a_turn_outlives_a_killed_gateway_and_ends_once(frail: GatewayProcess) -> None:
    async with frail.api() as api:
        session_id = await api.open_session()
        follower = Follower(api, session_id)
        work = bash("for i in $(seq 40); do sleep 0.1; done; echo outlived")
        turn_id = await asked_of(api, session_id, scripted(work, says("{{last_tool_result}}")))
        claude = claude_of(session_id).pid
        frail.kill()
        await restart(frail)
        turn = await api.ended(session_id, turn_id)
        assert (turn["status"], turn["result"], turn["attempt"]) == ("completed", "outlived", 1)
        assert claude_of(session_id).pid == claude
        events = await check_record(api, session_id, follower)
        await follower.close()
        assert len(calls(events)) == 1
        assert (await api.session(session_id))["incarnation"] == 1
        await api.delete(f"sessions/{session_id}")


@pytest.mark.parametrize("seed", [2, 7, 5])
async def test_a_gateway_killed_at_a_random_moment_loses_and_doubles_nothing(frail: GatewayProcess, seed: int) -> None:
    moment = random.Random(seed).randrange(90)  # events seen: from before the session has started to late in the turn
    async with frail.api() as api:
        prompt = scripted(*(bash(f"echo step {n} | tee -a steps.txt") for n in range(12)), says("{{last_tool_result}}"))
        made = (await api.post("sessions", json={"prompt": prompt})).json()
        session_id, first = made["session_id"], made["turn_id"]
        follower = Follower(api, session_id)
        second = await api.submit(session_id, scripted(bash("cat steps.txt"), says("{{last_tool_result}}")))
        await follower.has_seen(lambda seen: len(seen) >= moment)
        frail.kill()
        await restart(frail)
        turns = [await api.ended(session_id, turn_id) for turn_id in (first, second)]
        await api.has_status(session_id, "idle")
        events = await check_record(api, session_id, follower)
        await follower.close()
        await api.delete(f"sessions/{session_id}")
    assert [turn["status"] for turn in turns] == ["completed", "completed"], (moment, turns)
    assert turns[1]["result"].splitlines() == [f"step {n}" for n in range(12)]
    assert calls(events) == [f"echo step {n} | tee -a steps.txt" for n in range(12)] + ["cat steps.txt"]


async def test_a_gateway_that_is_asked_to_stop_leaves_nothing_running_and_keeps_what_is_queued(
    frail: GatewayProcess,
) -> None:
    async with frail.api() as api:
        session_id = await api.open_session()
        running = await asked_of(api, session_id, scripted(bash(LONG), text="running words"))
        queued = [await api.submit(session_id, scripted(says(f"answer {n}"))) for n in range(2)]
        resting = await api.open_session()
        await api.has_status(resting, "idle")
        assert await asyncio.to_thread(frail.stop) == 0
        await all_gone(frail.data_dir, 5)
        assert not (frail.data_dir / "gateway.json").exists()
        await restart(frail)
        turn = await api.turn(session_id, running)
        assert (turn["status"], turn["reason"]) == ("interrupted", "gateway_stopped")
        assert [(await api.ended(session_id, t))["result"] for t in queued] == ["answer 0", "answer 1"]
        remembered = await api.chat(session_id, scripted(says("{{all_prompts}}")))
        assert "running words" in remembered["result"]
        assert (await api.session(resting))["status"] == "asleep"
        await check_record(api, session_id)
        for each in (session_id, resting):
            await api.delete(f"sessions/{each}")


async def test_a_session_deleted_before_a_crash_is_gone_after_it(frail: GatewayProcess) -> None:
    async with frail.api() as api:
        session_id = await api.open_session()
        await asked_of(api, session_id, scripted(bash(LONG)))
        assert (await api.delete(f"sessions/{session_id}")).status_code == 204
        frail.kill()
        await restart(frail)
        assert (await api.get(f"sessions/{session_id}")).status_code == 404
        await until(lambda: _nothing(lambda: of_session(session_id)), "its processes to be gone", 15)
        await until(
            lambda: _nothing(lambda: list(frail.data_dir.glob(f"*/{session_id}"))), "its folders to be gone", 15
        )


# ---------------------------------------------------------------- Redis


async def test_a_turn_outlives_a_killed_redis_and_nothing_is_lost_or_doubled(frail: GatewayProcess) -> None:
    async with frail.api() as api:
        session_id = await api.open_session()
        follower = Follower(api, session_id)
        steps = (bash(f"echo step {n}") for n in range(12))
        turn_id = await asked_of(api, session_id, scripted(*steps, says("done with it")))
        for _ in range(2):
            redis = psutil.Process(int((frail.data_dir / "redis" / "redis.pid").read_text().split()[0]))
            redis.kill()
            prompt = scripted(says("asked without Redis"))
            answer = await api.post(f"sessions/{session_id}/chat", json={"prompt": prompt, "stream": True})
            assert answer.status_code in (202, 503), answer.text
            await until(lambda: _ready(api), "the gateway to be ready again", 15)
        turn = await api.ended(session_id, turn_id)
        assert (turn["status"], turn["result"]) == ("completed", "done with it")
        for other in (await api.get(f"sessions/{session_id}/turns")).json()["data"][1:]:
            assert (await api.ended(session_id, other["turn_id"]))["result"] == "asked without Redis"
        await api.has_status(session_id, "idle")
        events = await check_record(api, session_id, follower)
        await follower.close()
        assert calls(events) == [f"echo step {n}" for n in range(12)]
        assert (await api.session(session_id))["incarnation"] == 1
        await api.delete(f"sessions/{session_id}")


async def _ready(api: Api) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await api.get(f"{api.root}/health/ready")).status_code == 200
    return False


@pytest.mark.parametrize("request_of", ["interrupt", "patch", "stop"])
async def test_a_request_that_needs_redis_while_it_is_away_is_kept_or_refused_with_503(
    frail: GatewayProcess, request_of: str
) -> None:
    async with frail.api() as api:
        session_id = await api.open_session()
        turn_id = await asked_of(api, session_id, scripted(bash(LONG)))
        psutil.Process(int((frail.data_dir / "redis" / "redis.pid").read_text().split()[0])).kill()
        if request_of == "interrupt":
            answer = await api.post(f"sessions/{session_id}/interrupt")
        elif request_of == "patch":
            answer = await api.patch(f"sessions/{session_id}", json={"model": "claude-other"})
        else:
            answer = await api.post(f"sessions/{session_id}/stop")
        assert answer.status_code in (200, 202, 503), answer.text
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
        await until(lambda: _ready(api), "the gateway to be ready again", 15)
        if request_of != "stop":
            await api.post(f"sessions/{session_id}/interrupt")
        assert (await api.ended(session_id, turn_id, 30))["status"] == "interrupted"
        await check_record(api, session_id)
        await api.delete(f"sessions/{session_id}")


# ---------------------------------------------------------------- what cannot start says why


def started_with(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code and the words of a gateway that cannot start."""
    gateway = GatewayProcess(folder / "data", **environment)
    command = [sys.executable, "-m", "cc_gateway", "serve", *(arguments or ("--port", "0"))]
    done = subprocess.run(
        command, env=gateway.environment(), capture_output=True, text=True, timeout=30, check=False, cwd=folder
    )
    assert not belonging_to(folder)
    return done.returncode, done.stderr


def test_a_port_in_use_is_named_with_the_way_out(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = started_with(folder, "--port", str(port))
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--port" in said
    assert "Traceback" not in said


def test_a_second_gateway_on_the_same_data_folder_is_refused_and_the_first_goes_on(frail: GatewayProcess) -> None:
    command = [sys.executable, "-m", "cc_gateway", "serve", "--port", "0"]
    second = subprocess.run(command, env=frail.environment(), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert f"another gateway (pid {frail.pid}) uses the data folder {frail.data_dir}" in second.stderr
    assert "Traceback" not in second.stderr
    assert json.loads((frail.data_dir / "gateway.json").read_text())["pid"] == frail.pid
    assert httpx.get(f"{frail.url}/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"CC_PORT": "abc", "CC_STOP_GRACE": "-1", "CC_LOG_LEVEL": "shout"},
            ["CC_PORT", "integer", "CC_STOP_GRACE", "greater than 0", "CC_LOG_LEVEL", "'debug'"],
        ),
        ({"CC_JWT_SECRET": "short"}, ["CC_JWT_SECRET", "32 bytes"]),
        ({"CC_DATA_DIR": "/dev/null/data"}, ["CC_DATA_DIR", "/dev/null/data"]),
        pytest.param(
            {"CC_CLAUDE_BINARY": "/nowhere/claude"}, ["CC_CLAUDE_BINARY", "/nowhere/claude"], marks=pytest.mark.embedded
        ),
        (
            {"CC_DRIVER": "docker", "CC_DOCKER_URL": "unix:///nowhere/docker.sock"},
            ["/nowhere/docker.sock", "CC_DRIVER"],
        ),
        ({"CC_SCENARIO_FILE": "/nowhere/scenario.json"}, ["/nowhere/scenario.json"]),
        ({"CC_REDIS_URL": "redis://127.0.0.1:1/0"}, ["CC_REDIS_URL"]),
        ({"CC_DATABASE_URL": "sqlite+aiosqlite:////nowhere/a/b.sqlite3"}, ["CC_DATABASE_URL"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_ends_the_start_and_is_named(
    folder: Path, environment: dict[str, str], words: list[str]
) -> None:
    arguments = () if "CC_PORT" not in environment else ("--host", "127.0.0.1")
    code, said = started_with(folder, *arguments, **environment)
    assert code == 1
    assert all(word in said for word in words), said
    assert "Traceback" not in said


def _fake_claude(folder: Path, version: str) -> Path:
    """A program that says it is this version, and dies of everything else."""
    path = folder / "claude"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "{version} (Claude Code)"; exit 0; }}\necho sorry >&2\nexit 3\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


def _pinned_version() -> str:
    spec = find_spec("claude_agent_sdk")
    assert spec
    assert spec.origin
    binary = Path(spec.origin).parent / "_bundled" / "claude"
    return subprocess.check_output([binary, "--version"], text=True, timeout=30).split()[0]


@pytest.mark.embedded
async def test_a_claude_of_another_version_is_refused_with_both_versions_named(folder: Path) -> None:
    gateway = GatewayProcess(folder / "d", CC_CLAUDE_BINARY=str(_fake_claude(folder, "1.0.0")))
    try:
        gateway.start()
    except AssertionError as refused:
        said = str(refused)
    else:
        async with gateway.api() as api:
            session_id = await api.open_session()
            turn = await api.chat(session_id, "hello")
            assert (turn["status"], turn["error"]["type"]) == ("failed", "session_failed")
            said = (await api.has_status(session_id, "failed", seconds=15))["reason"]
            assert said in turn["error"]["message"]
    finally:
        gateway.close()
    assert "1.0.0" in said
    assert _pinned_version() in said
    assert "claude-agent-sdk" in said


@pytest.mark.embedded
async def test_a_claude_that_dies_at_every_start_fails_the_session_with_its_words(folder: Path) -> None:
    fake = _fake_claude(folder, _pinned_version())
    gateway = GatewayProcess(folder / "d", CC_CLAUDE_BINARY=str(fake), CC_MAX_RESTARTS="0").start()
    try:
        async with gateway.api() as api:
            session_id = await api.open_session()
            turn = await api.chat(session_id, "hello")
            assert (turn["status"], turn["error"]["type"]) == ("failed", "session_failed")
            session = await api.session(session_id)
            assert session["status"] == "failed"
            assert session["reason"]
            assert session["container_id"] is None
            await check_record(api, session_id)
            assert not of_session(session_id)
    finally:
        assert gateway.stop() == 0
    await all_gone(gateway.data_dir)


# ---------------------------------------------------------------- after all of it


async def test_nothing_is_left_when_the_gateway_of_these_tests_stops(frail: GatewayProcess) -> None:
    """Runs last: what all the tests above left behind would show here."""
    assert await asyncio.to_thread(frail.stop) == 0
    await all_gone(frail.data_dir, 5)
    assert os.path.isdir(frail.data_dir)
