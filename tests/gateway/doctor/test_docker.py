"""What the docker driver needs, on a real engine: each thing that is missing is named with its mend, and nothing is left."""

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cc_gateway.doctor.check import Status
from cc_gateway.doctor.containers import judge
from cc_gateway.doctor.engine import describe, why_away
from cc_gateway.drivers.claude import CLAUDE_VERSION
from cc_gateway.drivers.docker.container import DEPLOYMENT_LABEL, PROBE_LABEL, SESSION_LABEL
from gateway.doctor.looking import Look, of, words
from support import docker

FACTS: dict[str, Any] = {
    "ServerVersion": "24.0.7",
    "CgroupVersion": "2",
    "Driver": "overlay2",
    "NCPU": 4,
    "MemTotal": 8 * 2**30,
    "Runtimes": {"runc": {}},
    "MemoryLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "OSType": "linux",
}


# ------------------------------------------------------------------------------------------- all is well


async def test_a_session_would_reach_what_it_has_to(look: Look, session_image: str, place: Path) -> None:
    examination = await look(CC_DRIVER="docker")
    assert examination.well, [words(result) for result in examination.with_status(Status.FAILURE)]
    assert examination.driver == "docker"
    assert words(of(examination, "engine")).startswith("Docker ")
    assert session_image in words(of(examination, "image"))
    assert "sources match" in words(of(examination, "image"))
    assert f"has claude {CLAUDE_VERSION}" in words(of(examination, "containers"))
    assert words(of(examination, "leftovers")) == "none"
    assert "bubblewrap" not in {result.name for result in examination.results}
    assert list(place.iterdir()) == [], "no folder stays"
    assert not docker.containers(**{PROBE_LABEL: _deployment(place)}), "no container stays"


async def test_auto_chooses_containers_where_they_work(look: Look, session_image: str) -> None:
    examination = await look(CC_DRIVER="auto")
    assert examination.well
    assert "would use the docker driver (containers)" in examination.verdict
    assert "bubblewrap" not in {result.name for result in examination.results}


async def test_containers_of_an_earlier_gateway_are_counted(look: Look, session_image: str, place: Path) -> None:
    labels = (f"{DEPLOYMENT_LABEL}={_deployment(place)}", f"{SESSION_LABEL}=sesn_0")
    made = docker.run("create", "--label", labels[0], "--label", labels[1], session_image)
    try:
        result = of(await look(CC_DRIVER="docker"), "leftovers")
    finally:
        docker.run("rm", "--force", made)
    assert result.status is Status.NOTE
    assert words(result).startswith("1 container of an earlier gateway")


def _deployment(place: Path) -> str:
    from cc_gateway.settings import ServerSettings, Settings

    return Settings(server=ServerSettings(data_dir=place / "data")).deployment_id


# ------------------------------------------------------------------------------------------- no engine


async def test_a_socket_that_is_missing_is_a_failure(look: Look, place: Path) -> None:
    examination = await look(CC_DRIVER="docker", CC_DOCKER_URL=f"unix://{place}/no-engine.sock")
    result = of(examination, "engine")
    assert result.status is Status.FAILURE
    assert "no-engine.sock" in words(result)
    assert "systemctl start docker" in words(result) or "/var/run/docker.sock" in words(result)
    for name in ("image", "containers", "leftovers"):
        assert of(examination, name).status is Status.SKIPPED, "said once, and not four times"
    assert "not ready: see engine" in examination.verdict


async def test_an_engine_that_has_stopped_is_told_from_one_that_is_missing(look: Look, place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{place}/left.sock")  # nobody listens
    result = of(await look(CC_DRIVER="docker", CC_DOCKER_URL=f"unix://{place}/left.sock"), "engine")
    assert "it does not run" in words(result)
    assert "systemctl start docker" in words(result)


async def test_an_engine_that_hangs_costs_a_few_seconds(look: Look, place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{place}/silent.sock")
        silent.listen()
        async with asyncio.timeout(20):
            result = of(await look(CC_DRIVER="docker", CC_DOCKER_URL=f"unix://{place}/silent.sock"), "engine")
    assert result.status is Status.FAILURE


async def test_with_auto_a_missing_engine_is_a_warning(look: Look, place: Path) -> None:
    examination = await look(CC_DRIVER="auto", CC_DOCKER_URL=f"unix://{place}/no-engine.sock")
    assert examination.well
    assert of(examination, "engine").status is Status.WARNING
    assert "sessions run as processes" in words(of(examination, "engine"))
    assert "would use the process driver" in examination.verdict


def test_who_may_not_use_the_engine_is_told_of_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cc_gateway.doctor.engine.in_container", lambda: False)
    problem, mend = why_away(PermissionError(errno.EACCES, "Permission denied"))
    assert problem.startswith("you may not use it")
    assert "usermod -aG docker" in mend


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_user_outside_the_group_is_told_so(place: Path) -> None:
    """By a real refusal of the system: as nobody, on a socket of root's."""
    for folder in (place, place.parent):
        folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(f"{place}/closed.sock")
        os.chmod(f"{place}/closed.sock", 0o600)
        closed.listen()
        code = (
            "import asyncio; from cc_gateway.drivers.docker.engine import Engine; from cc_gateway.doctor.engine import why_away"
            f"\nimport os; os.setgid(65534); os.setuid(65534)\ntry: asyncio.run(Engine('unix://{place}/closed.sock').open())"
            "\nexcept Exception as error: print(*why_away(error))"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "you may not use it" in said.stdout, said.stderr


# ------------------------------------------------------------------------------------------- images


async def test_an_image_that_is_missing_is_a_failure_with_the_command_that_builds_it(
    look: Look, session_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cc_gateway.drivers.docker.driver", "cc_gateway.doctor.engine"):
        monkeypatch.setattr(f"{module}.own_tag", lambda: "cc-docker-session:none")
    examination = await look(CC_DRIVER="docker")
    result = of(examination, "image")
    assert result.status is Status.FAILURE
    assert words(result).endswith("-> scripts/build-container.sh")
    assert of(examination, "containers").status is Status.SKIPPED


async def test_an_image_that_is_named_and_missing_is_a_failure(look: Look, session_image: str) -> None:
    result = of(await look(CC_DRIVER="docker", CC_SESSION_IMAGE="nobody/has:it"), "image")
    assert result.status is Status.FAILURE
    assert "nobody/has:it" in words(result)
    assert "set CC_SESSION_IMAGE to what this prints: scripts/build-container.sh" in words(result)


async def test_an_image_of_other_sources_is_a_failure(
    look: Look, session_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cc_gateway.drivers.docker.image.sources", lambda: "000000000000")
    result = of(await look(CC_DRIVER="docker", CC_SESSION_IMAGE=session_image), "image")
    assert result.status is Status.FAILURE
    assert "built from other sources" in words(result)


async def test_a_runtime_that_the_engine_lacks_is_a_failure(look: Look, session_image: str) -> None:
    examination = await look(CC_DRIVER="docker", CC_CONTAINER_RUNTIME="no-such-runtime")
    assert of(examination, "engine").status is Status.FAILURE
    assert "it has no runtime no-such-runtime" in words(of(examination, "engine"))


# ------------------------------------------------------------------------------------------- seen from inside


async def test_limits_that_the_engine_cannot_give_are_a_failure(look: Look, session_image: str) -> None:
    more_than_any_kernel_gives = str(2**31)
    result = of(await look(CC_DRIVER="docker", CC_SESSION_FILES=more_than_any_kernel_gives), "containers")
    assert result.status is Status.FAILURE
    assert "set CC_SESSION_FILES" in words(result)


def test_a_data_folder_that_the_engine_sees_otherwise_is_a_failure(place: Path, session_image: str) -> None:
    """In a mount namespace of its own, as a gateway is in a container: the engine is outside, and knows another folder."""
    (place / "data").mkdir(mode=0o700)
    script = f"mount -t tmpfs none {place}/data && {sys.executable} -m cc_gateway doctor --json"
    environment = os.environ | {"CC_DRIVER": "docker", "CC_DATA_DIR": str(place / "data"), "CC_PORT": "0"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("needs the right to mount (root)")
    told = json.loads(done.stdout)
    (result,) = (check for check in told["checks"] if check["name"] == "containers")
    assert result["status"] == "failure"
    assert "the engine does not see" in result["troubles"][0]["problem"]
    assert done.returncode == 1


GOOD = {"uid": 10001, "socket": {"ok": "word"}, "workspace": {"ok": "7"}, "claude": {"ok": CLAUDE_VERSION}}


@pytest.mark.parametrize(
    ("seen", "arrived", "says"),
    [
        ({}, True, ""),
        ({"socket": {"error": "ENOENT"}}, True, "the engine does not see"),
        ({"socket": {"ok": "another word"}}, True, "the engine runs in a virtual machine"),
        ({"socket": {"error": "ECONNREFUSED"}}, True, "the engine runs in a virtual machine"),
        ({"socket": {"error": "EACCES"}}, True, "SELinux forbids it"),
        ({"workspace": {"error": "EACCES"}}, False, "could not write its workspace (EACCES)"),
        ({}, False, "the engine does not see"),
        ({"claude": {"ok": "1.0.0"}}, True, "the claude in the image is"),
    ],
)
def test_what_is_seen_from_inside_has_a_meaning(seen: dict[str, Any], arrived: bool, says: str) -> None:
    finding = judge(GOOD | seen, "word", arrived, Path("/data"))
    assert finding.status is (Status.FAILURE if says else Status.OK)
    assert says in " ".join(one.problem for one in finding.troubles)


# ------------------------------------------------------------------------------------------- what an engine says of itself


@pytest.mark.parametrize(
    ("facts", "api", "runtime", "status", "says"),
    [
        ({}, "v1.43", None, Status.OK, "Docker 24.0.7, API 1.43, cgroup v2, overlay2, 4 CPUs, 8.0 GB"),
        ({"ServerVersion": "19.03.1"}, "v1.40", None, Status.FAILURE, "Docker 19.03.1 is too old: 20.10 is needed"),
        ({"MemoryLimit": False}, "v1.43", None, Status.WARNING, "it cannot limit memory"),
        ({"PidsLimit": False, "CpuCfsQuota": False}, "v1.43", None, Status.WARNING, "the number of processes and CPUs"),
        ({}, "v1.43", "runsc", Status.FAILURE, "it has no runtime runsc, only runc"),
        ({"OSType": "windows"}, "v1.43", None, Status.FAILURE, "its containers are of windows"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "v1.43", None, Status.OK, "rootless"),
    ],
)
def test_what_an_engine_says_of_itself_has_a_meaning(
    facts: dict[str, Any], api: str, runtime: str | None, status: Status, says: str
) -> None:
    finding = describe(FACTS | facts, api, runtime)
    assert finding.status is status
    assert says in " ".join([finding.found, *(one.problem for one in finding.troubles)])
