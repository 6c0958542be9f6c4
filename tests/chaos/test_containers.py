"""What an operator, or the kernel, may do to a container; and what becomes of its session."""

import asyncio
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from support import docker
from support.api import Api
from support.gateway import GatewayProcess
from support.pipe import Pipe
from support.processes import deployment_of
from support.scenario import bash, says, scripted
from support.waiting import until
from support.watching import asked_of, check_record

pytestmark = pytest.mark.full
CHECKOUT = Path(__file__).parents[2]
LONG = "for i in $(seq 600); do sleep 0.1; done"
REMEMBERS = scripted(bash("cat kept.txt"), says("{{all_prompts}} {{last_tool_result}}"), text="which tree")


async def busy(api: Api) -> tuple[str, str, str]:
    """A session with a file and a memory, in the middle of a turn: its id, the turn's, and its container."""
    session_id = await api.open_session()
    await api.chat(session_id, scripted(bash("echo kept > kept.txt"), says("yes"), text="remember alder"))
    turn_id = await asked_of(api, session_id, scripted(bash(LONG)))
    return session_id, turn_id, str((await api.session(session_id))["container_id"])


async def resumes(api: Api, session_id: str) -> None:
    """The next prompt goes on with the conversation and its files, in a container of its own."""
    turn = await api.chat(session_id, REMEMBERS)
    assert turn["status"] == "completed", turn["error"]
    assert "remember alder" in turn["result"]
    assert turn["result"].endswith("kept")
    await check_record(api, session_id)


@pytest.mark.parametrize("how", [("kill",), ("rm", "--force"), ("stop", "--time", "0")], ids=" ".join)
async def test_a_container_that_goes_in_mid_turn_interrupts_it_and_the_next_prompt_resumes(
    api: Api, how: tuple[str, ...]
) -> None:
    session_id, turn_id, container = await busy(api)
    docker.run(*how, container)
    turn = await api.ended(session_id, turn_id, 15)
    assert (turn["status"], turn["reason"]) == ("interrupted", "session_lost")
    asleep = await api.has_status(session_id, "asleep", seconds=15)
    assert asleep["container_id"] is None
    await resumes(api, session_id)
    assert (await api.session(session_id))["incarnation"] == 2
    assert len(docker.containers(**{"org.cc-docker.session": session_id})) == 1


async def test_a_container_that_goes_at_rest_puts_the_session_to_sleep(api: Api) -> None:
    session_id = await api.open_session()
    await api.chat(session_id, scripted(bash("echo kept > kept.txt"), says("yes"), text="remember alder"))
    docker.run("kill", str((await api.session(session_id))["container_id"]))
    await api.has_status(session_id, "asleep", seconds=15)
    await resumes(api, session_id)


async def test_a_paused_turn_is_left_alone_and_goes_on_where_it_stood(
    own_gateway: Callable[..., GatewayProcess],
) -> None:
    gateway = own_gateway(CC_SILENCE_SECONDS="3").start()
    async with gateway.api() as api:
        session_id = await api.open_session()
        turn_id = await api.submit(
            session_id, scripted(bash("for i in $(seq 30); do sleep 0.1; done"), says("through"))
        )
        await api.has_event(session_id, "agent.tool_use")
        container = str((await api.session(session_id))["container_id"])
        docker.run("pause", container)
        await asyncio.sleep(6)  # twice the silence after which one that is not paused is lost
        assert (await api.turn(session_id, turn_id))["status"] == "running"
        docker.run("unpause", container)
        turn = await api.ended(session_id, turn_id, 20)
        assert (turn["status"], turn["result"]) == ("completed", "through")
        assert (await api.session(session_id))["incarnation"] == 1


async def test_a_prompt_wakes_a_paused_container(api: Api) -> None:
    session_id = await api.open_session()
    await api.chat(session_id, scripted(says("yes"), text="remember alder"))
    docker.run("pause", str((await api.session(session_id))["container_id"]))
    turn = await api.chat(session_id, scripted(says("{{all_prompts}}"), text="which tree"))
    assert "remember alder" in turn["result"]
    assert (await api.session(session_id))["incarnation"] == 1


async def test_stopping_and_deleting_work_while_it_is_paused(api: Api) -> None:
    session_id, turn_id, container = await busy(api)
    docker.run("pause", container)
    stopped = await api.post(f"sessions/{session_id}/stop")
    assert stopped.json()["status"] == "stopped"
    assert (await api.turn(session_id, turn_id))["status"] == "interrupted"
    assert docker.inspect(container) is None
    await resumes(api, session_id)
    docker.run("pause", str((await api.session(session_id))["container_id"]))
    await api.delete(f"sessions/{session_id}")
    await until(lambda: _no_container(session_id), "its container to go", 20)


async def test_a_container_too_small_for_the_agent_says_that_memory_ran_out(
    own_gateway: Callable[..., GatewayProcess],
) -> None:
    gateway = own_gateway(CC_SESSION_MEMORY="100MiB", CC_MAX_RESTARTS="0").start()
    async with gateway.api() as api:
        session_id = await api.open_session()
        turn = await api.chat(session_id, "hello")
        assert turn["status"] == "failed"
        assert "memory" in turn["error"]["message"]
        assert "memory" in (await api.has_status(session_id, "failed", seconds=15))["reason"]


async def test_a_tool_that_eats_all_memory_ends_and_the_turn_and_its_neighbours_go_on(api: Api) -> None:
    neighbour = await api.open_session()
    session_id = await api.open_session()
    eat = "python3 -c 'x = []\nwhile True: x.append(bytearray(2**24))'; echo the end $?"
    turn = await api.chat(session_id, scripted(bash(eat), says("{{last_tool_result}}")))
    assert turn["status"] == "completed", turn
    assert "the end 137" in turn["result"]
    assert (await api.chat(neighbour, scripted(says("unharmed"))))["result"] == "unharmed"


async def test_an_engine_that_is_away_for_a_while_costs_no_session(
    own_gateway: Callable[..., GatewayProcess], short_dir: Path
) -> None:
    with Pipe(short_dir / "engine.sock", Path("/var/run/docker.sock")) as engine:
        gateway = own_gateway(CC_DOCKER_URL=f"unix://{engine.path}").start()
        async with gateway.api() as api:
            kept = await api.open_session()
            await api.chat(kept, scripted(bash("echo kept > kept.txt"), says("yes"), text="remember alder"))
            engine.cut()
            assert (await api.chat(kept, scripted(says("still here"))))["result"] == "still here"
            waiting = await api.open_session()
            queued = await api.submit(waiting, scripted(says("at last")))
            logs = await api.get(f"sessions/{kept}/logs")
            assert (logs.status_code, logs.headers["retry-after"]) == (503, "5")
            engine.mend()
            assert (await api.ended(waiting, queued))["result"] == "at last"
            await resumes(api, kept)
            assert (await api.session(kept))["incarnation"] == 1
        assert await asyncio.to_thread(gateway.stop) == 0  # while it can still reach the engine


async def test_a_session_may_run_in_another_image_of_the_list_and_in_no_other(
    own_gateway: Callable[..., GatewayProcess], session_image: str
) -> None:
    docker.run("tag", session_image, "cc-docker-test:allowed")
    try:
        gateway = own_gateway(CC_SESSION_IMAGES="cc-docker-test:allowed, cc-docker-test:missing").start()
        async with gateway.api() as api:
            session_id = await api.open_session(config={"image": "cc-docker-test:allowed"})
            assert (await api.chat(session_id, scripted(says("yes"))))["result"] == "yes"
            shown = docker.inspect(str((await api.session(session_id))["container_id"]))
            assert shown
            assert shown["Config"]["Image"] == "cc-docker-test:allowed"
            refused = await api.post("sessions", json={"config": {"image": "debian:bookworm-slim"}})
            assert (refused.status_code, refused.json()["error"]["code"]) == (422, "image_not_allowed")
            assert "cc-docker-test:allowed" in refused.json()["error"]["message"]
            missing = await api.open_session(config={"image": "cc-docker-test:missing"})
            failed = await api.has_status(missing, "failed")
            assert "no image cc-docker-test:missing" in failed["reason"]
    finally:
        docker.run("rmi", "cc-docker-test:allowed")


async def test_a_container_that_nobody_wants_any_more_is_removed(
    own_gateway: Callable[..., GatewayProcess], session_image: str
) -> None:
    gateway = own_gateway()
    labels = {
        "org.cc-docker.deployment": deployment_of(gateway.data_dir),
        "org.cc-docker.session": "sesn_00000000000000000000000000",
        "org.cc-docker.incarnation": "1",
    }
    flags = [part for name, value in labels.items() for part in ("--label", f"{name}={value}")]
    orphan = docker.run("run", "--detach", *flags, session_image, "sleep", "600")
    other = docker.run(
        "run", "--detach", *flags, "--label", "org.cc-docker.deployment=other", session_image, "sleep", "9"
    )
    gateway.start()
    try:
        await until(lambda: _gone(orphan), "the orphan to go", 15)
        assert docker.inspect(other), "another deployment's is left alone"
    finally:
        docker.run("rm", "--force", other)


async def test_a_session_deleted_while_it_starts_is_gone_after_a_restart_and_leaves_no_container(
    own_gateway: Callable[..., GatewayProcess],
) -> None:
    gateway = own_gateway(CC_KEEP_SESSIONS="true").start()
    async with gateway.api() as api:
        session_id = await api.open_session()
        await until(lambda: _some_container(session_id), "its container")
        assert (await api.delete(f"sessions/{session_id}")).status_code == 204
    await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)
    await until(lambda: _no_container(session_id), "its container to go", 20)  # sooner than the next sweep
    home = gateway.data_dir / "sessions" / session_id
    log = gateway.data_dir / "logs" / f"{session_id}.log"
    await until(lambda: _no_path(home, log), "its files to go", 20)


async def test_after_an_update_what_rests_is_started_anew_by_the_next_prompt(
    own_gateway: Callable[..., GatewayProcess], short_dir: Path
) -> None:
    old = own_gateway(CC_KEEP_SESSIONS="true").start()
    async with old.api() as api:
        session_id = await api.open_session()
        await api.chat(session_id, scripted(bash("echo kept > kept.txt"), says("yes"), text="remember alder"))
    assert await asyncio.to_thread(old.stop) == 0
    newer = await asyncio.to_thread(changed_checkout, short_dir / "newer")
    updated = GatewayProcess(old.data_dir, PYTHONPATH=newer)
    try:
        await asyncio.to_thread(updated.start)
        async with updated.api() as api:
            await api.has_status(session_id, "asleep", seconds=30)
            await resumes(api, session_id)
            shown = docker.inspect(str((await api.session(session_id))["container_id"]))
            assert shown
            image = shown["Config"]["Image"]
    finally:
        updated.close()
    docker.run("rmi", image)


def changed_checkout(folder: Path) -> str:
    """A copy of this checkout whose wrapper is another, with its image; the path on which Python finds its packages."""
    folder.mkdir()
    parts = ("protocol", "wrapper", "mcp-server", "gateway", "client")
    others = (
        "container",
        "certs",
        "scripts",
        "pyproject.toml",
        "constraints.txt",
        "LICENSE",
        "README.md",
        ".dockerignore",
    )
    subprocess.run(["cp", "-a", *(str(CHECKOUT / name) for name in (*parts, *others)), str(folder)], check=True)
    with (folder / "wrapper/cc_wrapper/__init__.py").open("a") as file:
        file.write("\n# another version\n")
    subprocess.run([folder / "scripts/build-container.sh"], check=True, timeout=600, stdout=subprocess.DEVNULL)
    return ":".join(str(folder / part) for part in parts)


async def test_of_many_sessions_at_once_four_start_and_the_others_wait(api: Api) -> None:
    session_ids = await asyncio.gather(*(api.open_session() for _ in range(9)))
    spans = []
    for session_id in session_ids:
        await api.has_status(session_id, "idle", seconds=90)
        begun = await api.has_event(session_id, "session.status_starting")
        shown = docker.inspect(str((await api.session(session_id))["container_id"]))
        assert shown
        spans.append((moment(begun["processed_at"]), moment(shown["State"]["StartedAt"])))
    at_once = [sum(begun <= time < started for begun, started in spans) for time, _ in spans]
    assert 1 < max(at_once) <= 4, spans


def moment(text: str) -> datetime:
    """A moment in RFC 3339; the engine tells nanoseconds, of which Python takes six digits."""
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00")


async def _gone(container: str) -> bool:
    return docker.inspect(container) is None


async def _some_container(session_id: str) -> bool:
    return not await _no_container(session_id)


async def _no_path(*paths: Path) -> bool:
    return not any(path.exists() for path in paths)


async def _no_container(session_id: str) -> bool:
    return not docker.containers(**{"org.cc-docker.session": session_id})
