"""The docker driver keeps the contract; and what its containers are confined to, and how they end."""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cc_gateway.drivers.base import DriverAway, DriverError, Owner
from cc_gateway.drivers.docker import DockerDriver, DockerOptions, container, engine_answers, image
from cc_gateway.drivers.docker.container import INSIDE, Limits
from contracts.driver_contract import SECRET, DriverContract, MakeSpec, children_are_up
from support import docker
from support.waiting import until

PYTHON = container.WRAPPER[0]
PLAYED = [PYTHON, "-P", "played_wrapper.py"]
LIMITS = Limits(memory=256 * 2**20, cpus=1, pids=64, files=1024, tmp=64 * 2**20)
CHECKOUT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("session_image")


def make_driver(short_dir: Path, **options: Any) -> DockerDriver:
    return DockerDriver(
        deployment="contract-docker", logs=short_dir / "logs", options=DockerOptions(**{"limits": LIMITS, **options})
    )


@pytest.fixture
async def driver(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DockerDriver]:
    monkeypatch.setattr(container, "WRAPPER", PLAYED)
    driver = make_driver(short_dir)
    await driver.open()
    yield driver
    for handle in [handle async for _, handle in driver.running()]:
        await driver.stop(handle, grace=0)
    await driver.close()


@pytest.fixture
def owner(driver: DockerDriver) -> Owner | None:
    return driver.owner


class TestContract(DriverContract):
    pass


# ------------------------------------------------------------------------------------------- names and incarnations


async def test_two_deployments_never_touch_each_other(
    driver: DockerDriver, make_spec: MakeSpec, short_dir: Path
) -> None:
    spec = make_spec()
    ours = await driver.start(spec)
    other = DockerDriver(deployment="contract-other", logs=short_dir / "logs", options=DockerOptions(LIMITS))
    await other.open()
    try:
        theirs = await other.start(spec)
        assert theirs != ours
        assert [item async for item in other.running()] == [(spec.session_id, theirs)]
        await other.stop(theirs, grace=0)
        assert await driver.poll(ours) is None
    finally:
        await other.close()


async def test_a_newer_incarnation_is_not_replaced_by_an_older_one(driver: DockerDriver, make_spec: MakeSpec) -> None:
    spec = make_spec()
    newer = await driver.start(replace(spec, incarnation=7))
    with pytest.raises(DriverError, match="incarnation 7"):
        await driver.start(spec)
    assert await driver.poll(newer) is None


async def test_many_starts_of_one_incarnation_at_once_start_one_container(
    driver: DockerDriver, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    handles = await asyncio.gather(*(driver.start(spec) for _ in range(4)))
    assert len(set(handles)) == 1
    assert [s async for s, _ in driver.running()].count(spec.session_id) == 1


async def test_a_container_that_was_created_and_never_started_is_started(
    driver: DockerDriver, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    spec.write_files(INSIDE, driver.owner)
    created = await driver._create(spec)
    assert docker.inspect(created)["State"]["Status"] == "created"
    assert await driver.start(spec) == created
    assert docker.inspect(created)["State"]["Running"]


async def test_a_folder_that_is_missing_is_refused_and_leaves_nothing(
    driver: DockerDriver, make_spec: MakeSpec
) -> None:
    spec = make_spec()
    shutil.rmtree(spec.folders.workspace)
    with pytest.raises(DriverError, match="does not exist"):
        await driver.start(spec)
    assert not spec.folders.workspace.exists(), "nobody made it in its stead"
    assert spec.session_id not in [s async for s, _ in driver.running()]


async def test_a_container_of_another_version_is_known_as_such(
    driver: DockerDriver, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await driver.start(make_spec())
    assert not await driver.outdated(handle)
    monkeypatch.setattr("cc_gateway.drivers.docker.image.sources", lambda: "000000000000")
    assert await driver.outdated(handle)


async def test_an_image_that_is_not_there_is_named(driver: DockerDriver, make_spec: MakeSpec) -> None:
    with pytest.raises(DriverError, match="no image nobody/has:it") as caught:
        await driver.start(replace(make_spec(), image="nobody/has:it"))
    assert not caught.value.retryable


# ------------------------------------------------------------------------------------------- how it ends


async def test_a_container_out_of_memory_says_so(driver: DockerDriver, make_spec: MakeSpec) -> None:
    sibling = await driver.start(make_spec())
    spec = make_spec()
    (spec.folders.workspace / "eat-memory").touch()
    handle = await driver.start(spec)
    ended = await until(lambda: driver.poll(handle), "its end", 30)
    assert ended is not None
    assert ended.reason == "it ran out of memory (limit 256 MiB)"
    assert await driver.poll(sibling) is None, "its sibling is unharmed"


async def test_a_container_that_was_killed_says_so(driver: DockerDriver, make_spec: MakeSpec) -> None:
    spec = make_spec()
    handle = await driver.start(spec)
    await children_are_up(spec)
    docker.run("kill", handle)
    ended = await until(lambda: driver.poll(handle), "its end")
    assert ended is not None
    assert (ended.code, ended.reason) == (-signal.SIGKILL, "killed by SIGKILL")


async def test_a_container_that_was_removed_says_so(driver: DockerDriver, make_spec: MakeSpec) -> None:
    handle = await driver.start(make_spec())
    docker.run("rm", "--force", handle)
    ended = await driver.poll(handle)
    assert ended is not None
    assert ended.reason == "its container was removed"


async def test_a_paused_container_runs_is_known_as_paused_and_can_be_stopped(
    driver: DockerDriver, make_spec: MakeSpec
) -> None:
    handle = await driver.start(make_spec())
    assert not await driver.paused(handle)
    docker.run("pause", handle)
    assert await driver.poll(handle) is None
    assert await driver.paused(handle)
    await driver.resume(handle)
    assert not await driver.paused(handle)
    docker.run("pause", handle)
    await driver.stop(handle, grace=1)
    assert docker.inspect(handle) is None


# ------------------------------------------------------------------------------------------- what must be there


async def test_an_engine_that_does_not_answer_is_no_failure_of_the_session(short_dir: Path) -> None:
    assert await engine_answers(None), "positive control: there is one here"
    url = f"unix://{short_dir}/no-engine.sock"
    assert not await engine_answers(url)
    with pytest.raises(DriverAway):
        await make_driver(short_dir, url=url).open()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"image": "cc-docker-session:none"},
            "has no image cc-docker-session:none: scripts/build-container.sh builds",
        ),
        ({"runtime": "no-such-runtime"}, "has no runtime no-such-runtime"),
    ],
)
async def test_what_is_missing_is_named_with_its_mend(options: dict[str, str], says: str, short_dir: Path) -> None:
    with pytest.raises(DriverError, match=says):
        await make_driver(short_dir, **options).open()


async def test_a_session_gets_no_more_cpus_than_there_are(
    short_dir: Path, make_spec: MakeSpec, driver: DockerDriver
) -> None:
    greedy = make_driver(short_dir, limits=replace(LIMITS, cpus=1000))
    await greedy.open()
    try:
        shown = docker.inspect(await greedy.start(make_spec()))
        assert shown
        assert 0 < shown["HostConfig"]["NanoCpus"] < 1000e9
    finally:
        await greedy.close()


async def test_an_image_of_other_sources_is_refused(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch, session_image: str
) -> None:
    monkeypatch.setattr("cc_gateway.drivers.docker.image.sources", lambda: "000000000000")
    with pytest.raises(DriverError, match="built from other sources"):
        await make_driver(short_dir, image=session_image).open()


async def test_an_image_on_top_of_ours_is_taken_and_one_with_another_wrapper_is_not(
    driver: DockerDriver, make_spec: MakeSpec, session_image: str
) -> None:
    try:
        for label, tag in ((image.sources(), "fresh"), ("000000000000", "stale")):
            change = f"LABEL {image.SOURCES_LABEL}={label}"
            made = docker.run("create", session_image)
            docker.run("commit", "--change", change, made, f"cc-docker-test:{tag}")
            docker.run("rm", made)
        handle = await driver.start(replace(make_spec(), image="cc-docker-test:fresh"))
        assert await driver.poll(handle) is None
        with pytest.raises(DriverError, match="cc-docker-test:stale was built from other sources"):
            await driver.start(replace(make_spec(), image="cc-docker-test:stale"))
        await driver.stop(handle, grace=0)
    finally:
        docker.run("rmi", "--force", "cc-docker-test:fresh", "cc-docker-test:stale", check=False)


def test_script_and_gateway_name_the_same_image(session_image: str) -> None:
    printed = subprocess.check_output([CHECKOUT / image.BUILD, "--tag"], text=True, timeout=60).strip()
    assert image.own_tag() == printed == session_image


# ------------------------------------------------------------------------------------------- what it is confined to


PROBES = {
    "be root": "test $(id -u) = 0",
    "hold a capability": "! grep -q '^CapBnd:[[:space:]]*0*$' /proc/self/status",
    "gain rights by a program": "! grep -q '^NoNewPrivs:[[:space:]]*1' /proc/self/status",
    "write the system": "touch /usr/local/probe",
    "write its run folder": "touch /run/cc/probe",
    "have a network": "test $(tail -n +3 /proc/net/dev | wc -l) -gt 1",
    "reach the host": "{python} -c 'import socket; socket.create_connection((\"{host}\", {port}), 3)'",
    "ask a name server": "getent hosts probe.test",
    "start any number of processes": "test $(cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null) = max",
    "open any number of files": "test $(ulimit -n) -gt 1024",
    "mount something": "mount -t tmpfs probe /mnt",
    "make a device": "mknod /tmp/probe c 1 3",
    "leave core files": "test $(ulimit -c) != 0",
}


@pytest.fixture
async def confined(driver: DockerDriver, make_spec: MakeSpec) -> str:
    """A session's container."""
    spec = make_spec()
    handle = await driver.start(spec)
    await children_are_up(spec)
    return handle


@pytest.fixture(scope="module")
def unconfined(session_image: str) -> Iterator[str]:
    """The same image without any guard: every probe must succeed here."""
    flags = ("--user", "0", "--cap-add", "SYS_ADMIN", "--ulimit", "core=-1", "--add-host", "probe.test:127.0.0.1")
    made = docker.run("run", "--detach", *flags, session_image, "sleep", "600")
    yield made
    docker.run("rm", "--force", made)


@pytest.fixture(scope="module")
def listener(unconfined: str) -> Iterator[tuple[str, int]]:
    """Somebody who listens on the address by which containers see this machine."""
    shown = docker.inspect(unconfined)
    assert shown
    with socket.create_server((shown["NetworkSettings"]["Gateway"], 0)) as server:
        yield server.getsockname()[:2]


@pytest.mark.parametrize("what", PROBES)
def test_a_session_cannot(what: str, confined: str, unconfined: str, listener: tuple[str, int]) -> None:
    script = PROBES[what].format(python=PYTHON, host=listener[0], port=listener[1])
    docker.run("exec", unconfined, "sh", "-c", script)  # positive control
    with pytest.raises(AssertionError):
        docker.run("exec", confined, "sh", "-c", script)


def test_a_session_can_work(confined: str) -> None:
    script = (
        "cd /workspace && echo 'echo yes' > /tmp/run && chmod +x /tmp/run && /tmp/run && touch mine /claude/mine ~/mine"
    )
    assert docker.run("exec", confined, "sh", "-c", script) == "yes"
    assert docker.run("exec", confined, "whoami") == "agent"


def test_the_engine_shows_no_secret_and_only_the_mounts_of_the_session(confined: str) -> None:
    shown = docker.inspect(confined)
    assert shown
    assert SECRET not in json.dumps(shown)
    mounts = {mount["Destination"]: mount["RW"] for mount in shown["Mounts"] if mount["Type"] == "bind"}
    assert mounts == {"/workspace": True, "/claude": True, "/run/cc": False}
    assert SECRET in docker.run("exec", confined, "cat", "/run/cc/secrets.json"), "positive control: it is there"


async def test_a_link_in_the_workspace_leads_nowhere(
    driver: DockerDriver, make_spec: MakeSpec, short_dir: Path
) -> None:
    (short_dir / "private").write_text("private")
    spec = make_spec()
    (spec.folders.workspace / "link").symlink_to(short_dir / "private")
    handle = await driver.start(spec)
    await children_are_up(spec)
    assert (spec.folders.workspace / "link").read_text() == "private", "positive control: on the host it leads there"
    assert docker.run("exec", handle, "cat", "/workspace/link", check=False) == ""
