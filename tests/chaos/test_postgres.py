"""PostgreSQL restarted, killed, stopped and standing still under a gateway: what is accepted stays, and no request hangs."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from support import postgres as postgresql
from support.api import Api
from support.gateway import GatewayProcess
from support.postgres import PostgresServer, create_database
from support.processes import all_gone
from support.scenario import bash, says, scripted
from support.waiting import until
from support.watching import Follower, asked_of, calls, check_record

BOUND = 16.0
"""Seconds in which any request is answered while PostgreSQL is away: a connection's wait and a command's."""

STEPS = 12


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that keeps what it commits, whatever happens to it."""
    if not postgresql.binaries():
        pytest.skip(postgresql.MISSING)
    server = PostgresServer(fsync=True)
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture(scope="module")
def gateway(server: PostgresServer, short_dir: Path) -> Iterator[GatewayProcess]:
    """A gateway on it; every test leaves both running and well."""
    environment = {"CC_DRIVER": "process", "CC_DATABASE_URL": create_database(server)}
    process = GatewayProcess(short_dir / "pg", CC_DATABASE_COMMAND_TIMEOUT="3", **environment).start()
    yield process
    process.close()


async def ready(api: Api) -> bool:
    answer = await api.get(f"{api.root}/health/ready")
    return answer.status_code == 200


async def back(api: Api) -> None:
    await until(lambda: ready(api), "the gateway to be ready again", 30)


def long_turn(text: str = "go") -> str:
    return scripted(*(bash(f"echo step {n} | tee -a steps.txt") for n in range(STEPS)), says("all done"), text=text)


async def kill_a_backend(server: PostgresServer, chance: random.Random) -> None:
    """As the kernel's out-of-memory killer does: the server then throws out everybody, and recovers."""

    async def look() -> list[psutil.Process]:
        return server.backends()

    async def recovered() -> bool:
        return server.recoveries() > before

    before = server.recoveries()
    backends = await until(look, "PostgreSQL to have a backend", 20)
    chance.choice(backends).kill()
    await until(recovered, "PostgreSQL to have recovered", 30)


# ---------------------------------------------------------------- in the middle of a turn


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["immediate", "fast"])
async def test_a_turn_outlives_a_restart_of_postgresql_and_nothing_is_lost_or_doubled(
    server: PostgresServer, gateway: GatewayProcess, how: signal.Signals
) -> None:
    async with gateway.api() as api:
        session_id = await api.open_session()
        follower = Follower(api, session_id)
        turn_id = await asked_of(api, session_id, long_turn())
        await follower.has_seen(lambda seen: len(seen) >= 12)
        await asyncio.to_thread(server.restart, how)
        await check_outcome(api, session_id, turn_id, follower)
        assert (await api.session(session_id))["incarnation"] == 1
        await api.delete(f"sessions/{session_id}")


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_backends_killed_at_random_in_a_busy_turn_lose_and_double_nothing(
    server: PostgresServer, gateway: GatewayProcess, seed: int
) -> None:
    chance = random.Random(seed)
    async with gateway.api() as api:
        session_id = await api.open_session()
        follower = Follower(api, session_id)
        turn_id = await api.submit(session_id, long_turn())
        for _ in range(3):
            more = len(follower.seen) + chance.randrange(2, 14)
            await follower.has_seen(lambda seen, more=more: len(seen) >= more or _has_ended(seen))
            await kill_a_backend(server, chance)
        await check_outcome(api, session_id, turn_id, follower)
        await api.delete(f"sessions/{session_id}")


def _has_ended(seen: list[dict[str, Any]]) -> bool:
    return any(event["type"] == "turn.completed" for event in seen)


async def check_outcome(api: Api, session_id: str, turn_id: str, follower: Follower) -> None:
    """The turn has run once and completed, and the follower has seen just what is on record."""
    await back(api)
    turn = await api.ended(session_id, turn_id)
    assert (turn["status"], turn["result"]) == ("completed", "all done"), turn
    await api.has_status(session_id, "idle")
    events = await check_record(api, session_id, follower)
    await follower.close()
    assert calls(events) == [f"echo step {n} | tee -a steps.txt" for n in range(STEPS)]


# ---------------------------------------------------------------- requests meanwhile


async def test_a_prompt_is_accepted_and_kept_or_refused_with_503_and_a_key_makes_it_one_turn(
    server: PostgresServer, gateway: GatewayProcess
) -> None:
    """Twenty prompts, each asked for again with its key until it is accepted, under a server that is killed meanwhile."""
    refused = 0

    async def insist(api: Api, session_id: str, n: int) -> str:
        nonlocal refused

        async def ask() -> str | None:
            nonlocal refused
            body = {"prompt": scripted(says(f"answer {n}")), "stream": True}
            answer = await api.post(f"sessions/{session_id}/chat", json=body, headers={"idempotency-key": f"{n}"})
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) > 0
                refused += 1
                return None
            assert answer.status_code == 202, answer.text
            return str(answer.json()["turn_id"])

        return await until(ask, f"prompt {n} to be accepted", 60)

    async with gateway.api() as api:
        session_id = await api.open_session()
        follower = Follower(api, session_id)
        chance = random.Random(4)
        first = [asyncio.create_task(insist(api, session_id, n)) for n in range(10)]
        await kill_a_backend(server, chance)
        second = [asyncio.create_task(insist(api, session_id, n)) for n in range(10, 20)]
        turn_ids = await asyncio.gather(*first, *second)
        assert len(set(turn_ids)) == 20
        for n, turn_id in enumerate(turn_ids):
            assert (await api.ended(session_id, turn_id))["result"] == f"answer {n}"
        assert len((await api.get(f"sessions/{session_id}/turns")).json()["data"]) == 20
        await check_record(api, session_id, follower)
        await follower.close()
        await api.delete(f"sessions/{session_id}")


Request = Callable[[Api, str], Awaitable[httpx.Response]]
REQUESTS: dict[str, Request] = {
    "open": lambda api, _: api.post("sessions", json={}),
    "list": lambda api, _: api.get("sessions"),
    "look": lambda api, s: api.get(f"sessions/{s}"),
    "change": lambda api, s: api.patch(f"sessions/{s}", json={"title": "another"}),
    "chat": lambda api, s: api.post(f"sessions/{s}/chat", json={"prompt": "hello"}),
    "turns": lambda api, s: api.get(f"sessions/{s}/turns"),
    "events": lambda api, s: api.get(f"sessions/{s}/events"),
    "stream": lambda api, s: api.get(f"sessions/{s}/events/stream"),
    "messages": lambda api, s: api.get(f"sessions/{s}/messages"),
    "interrupt": lambda api, s: api.post(f"sessions/{s}/interrupt"),
    "stop": lambda api, s: api.post(f"sessions/{s}/stop"),
    "delete": lambda api, s: api.delete(f"sessions/{s}"),
    "metrics": lambda api, _: api.get(f"{api.root}/metrics"),
}


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
async def test_while_postgresql_is_away_every_request_gets_503_in_time_and_all_goes_on_when_it_is_back(
    server: PostgresServer, gateway: GatewayProcess, fault: str
) -> None:
    async with gateway.api() as api:
        session_id = await api.open_session()
        await api.has_status(session_id, "idle")
        follower = Follower(api, session_id)
        stream = asyncio.create_task(_frames(api, session_id))
        turn_id = await asked_of(api, session_id, long_turn())
        server.freeze() if fault == "frozen" else server.stop()
        try:
            begun = time.monotonic()
            health = await api.get(f"{api.root}/health/ready")
            assert health.status_code == 503
            assert health.json()["checks"]["database"] != "ok"
            answers = await asyncio.gather(*(request(api, session_id) for request in REQUESTS.values()))
            assert time.monotonic() - begun < BOUND
        finally:
            server.thaw() if fault == "frozen" else server.start()
        for name, answer in zip(REQUESTS, answers, strict=True):
            assert answer.status_code == 503, (name, answer.text)
            assert int(answer.headers["retry-after"]) > 0, name
            assert answer.json()["error"]["code"] == "unavailable", name
        await check_outcome(api, session_id, turn_id, follower)
        assert (await api.session(session_id))["incarnation"] == 1
        await api.delete(f"sessions/{session_id}")
        numbers = await asyncio.wait_for(stream, 30)
        assert numbers == list(range(1, len(numbers) + 1))


async def _frames(api: Api, session_id: str) -> list[int]:
    """The numbers that one event stream gave until the session was deleted; cut off, it comes back with its cursor."""
    numbers: list[int] = []
    async for frame in api.sse(session_id, previews=False):
        numbers.append(int(frame["id"]))
    return numbers


async def test_a_websocket_opened_while_postgresql_is_away_is_closed_with_the_reason(
    server: PostgresServer, gateway: GatewayProcess
) -> None:
    async with gateway.api() as api:
        session_id = await api.open_session()
        await api.has_status(session_id, "idle")
        server.stop()
        try:
            async with asyncio.timeout(BOUND), api.socket(session_id) as socket:
                said = await socket.recv()
                await socket.wait_closed()
        finally:
            server.start()
        assert '"unavailable"' in str(said)
        assert socket.close_code == 1013
        await back(api)
        await api.delete(f"sessions/{session_id}")


# ---------------------------------------------------------------- start and end


def test_a_start_that_is_refused_by_postgresql_says_why_in_words_and_without_the_password(
    server: PostgresServer, folder: Path
) -> None:
    url = server.url().replace(server.password, "hush-hush").replace("postgresql+asyncpg", "postgres")
    gateway = GatewayProcess(folder / "d", CC_DATABASE_URL=url)
    command = [sys.executable, "-m", "cc_gateway", "serve", "--port", "0"]
    done = subprocess.run(
        command, env=gateway.environment(), capture_output=True, text=True, timeout=30, check=False, cwd=folder
    )
    assert done.returncode == 1
    assert "refuses the login" in done.stderr
    assert "hush" not in done.stderr + done.stdout
    assert server.password not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("fault", ["stopped", "frozen"])
async def test_a_gateway_that_is_asked_to_stop_while_postgresql_is_away_ends_in_time(
    server: PostgresServer, folder: Path, fault: str
) -> None:
    process = GatewayProcess(folder / "d", CC_DRIVER="process", CC_DATABASE_URL=create_database(server))
    try:
        await asyncio.to_thread(process.start)
        async with process.api() as api:
            session_id = await api.open_session()
            await api.has_status(session_id, "idle")
        server.freeze() if fault == "frozen" else server.stop()
        try:
            await asyncio.to_thread(process.stop, 60)
        finally:
            server.thaw() if fault == "frozen" else server.start()
        await asyncio.to_thread(process.start)
        async with process.api() as api:
            turn = await api.chat(session_id, scripted(says("and on")))
            assert turn["result"] == "and on"
            await check_record(api, session_id)
    finally:
        await asyncio.to_thread(process.close)
    await all_gone(process.data_dir)


# ---------------------------------------------------------------- text that PostgreSQL refuses


async def test_text_that_a_database_cannot_hold_is_refused_and_never_a_fault_of_ours(gateway: GatewayProcess) -> None:
    async with gateway.api() as api:
        session_id = await api.open_session()
        for path in (
            f"sessions/{session_id}/events?types=a%00b",
            f"sessions/{session_id}/events?types=%ED%A0%80",
            f"sessions/{session_id}/turns/a%00b",
            f"sessions/{session_id}/turns?cursor=%00",
            "sessions?metadata.a%00=b%00",
            "sessions?cursor=%00",
            "sessions/%00",
        ):
            answer = await api.get(path)
            assert answer.status_code in (200, 404, 422), (path, answer.text)
        for body in (
            {"title": "\0"},
            {"metadata": {"\0": "\0"}},
            {"prompt": "\0"},
            {"config": {"system_prompt": "\0"}},
        ):
            answer = await api.post("sessions", json=body)
            assert answer.status_code in (201, 422), (body, answer.text)
        raw = b'{"title": "\\ud800", "metadata": {"\\ud800": "\\ud800"}}'
        answer = await api.post("sessions", content=raw, headers={"content-type": "application/json"})
        assert answer.status_code == 422, answer.text
        answer = await api.post(f"sessions/{session_id}/interrupt", json={"turn_id": "a\0b"})
        assert answer.status_code in (202, 422), answer.text
        await api.delete(f"sessions/{session_id}")


# ---------------------------------------------------------------- after all of it


def test_nothing_of_all_this_was_taken_for_a_fault_of_the_gateway(gateway: GatewayProcess) -> None:
    """Runs last: whatever the faults above met that nobody foresaw would stand in the log."""
    log = gateway.log_file.read_text()
    assert "database_unavailable" in log
    for unforeseen in ("request_crashed", "relay_failed", "outbox_not_drained", "websocket_failed"):
        assert unforeseen not in log
