"""The stack of docker-compose.yml: it can be set up twice, answers, keeps to itself, and outlives the loss of each part.

The first test waits for everything to be built, so all have a long time limit.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from stack.hosted import SERVICES, HostedStack, flavours
from support import docker
from support.api import Api
from support.scenario import bash, says, scripted
from support.waiting import until

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def stack(short_dir: Path) -> Iterator[HostedStack]:
    """One stack for all tests here: up, and answering."""
    if sys.platform != "linux" or shutil.which("docker") is None:
        pytest.skip("no Docker engine (apt-get install docker.io)")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine that we may use: it does not run, or is not for us")
    if not flavours():
        pytest.skip("no Docker Compose (apt-get install docker-compose)")
    folder = short_dir / "stack"
    folder.mkdir()
    stack = HostedStack(folder)
    try:
        stack.set_up()
        stack.provide_images()
        stack.compose("up", "--detach")
        yield stack
    finally:
        stack.close()


@pytest.fixture
async def api(stack: HostedStack) -> AsyncIterator[Api]:
    await stack.is_ready()
    async with stack.api() as client:
        yield client


@dataclass
class Conversation:
    """One session that goes on through all restarts, and what its agent has noted in a file."""

    session_id: str
    noted: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def conversation(stack: HostedStack) -> Conversation:
    headers = {"authorization": f"Bearer {stack.token()}"}
    answer = httpx.post(f"{stack.url}/api/v1/sessions", json={"title": "stack"}, headers=headers, trust_env=False)
    assert answer.status_code == 201, answer.text
    return Conversation(answer.json()["session_id"])


# ------------------------------------------------------------------------------------------- setting up


async def test_a_prompt_is_answered(api: Api) -> None:
    session = await api.open_session()
    turn = await api.chat(session, scripted(bash("id -u; ls -d /workspace"), says("done")))
    assert (turn["status"], turn["result"]) == ("completed", "done")
    result = await api.has_event(session, "agent.tool_result")
    assert "/workspace" in str(result["content"])
    await api.delete(f"sessions/{session}")


async def test_the_doctor_finds_the_stack_well(stack: HostedStack, api: Api) -> None:
    found = json.loads(stack.compose("exec", "-T", "gateway", "cc-docker", "doctor", "--json", check=False).stdout)
    wrong = [check for check in found["checks"] if check["status"] in ("warning", "failure")]
    assert (found["driver"], [check for check in wrong if "disk" not in check["name"]]) == ("docker", [])


async def test_setting_up_again_changes_nothing(stack: HostedStack) -> None:
    before = stack.env_file.read_text()
    output = stack.set_up()
    assert stack.env_file.read_text() == before
    assert before.startswith("# mine\nCC_SCRIPTED=true\n")
    assert stack.env_file.stat().st_mode & 0o777 == 0o600
    for secret in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert len(stack.setting(secret)) == 48
        assert stack.setting(secret) not in output


@pytest.mark.parametrize("flavour", flavours(), ids=" ".join)
def test_the_file_is_valid(stack: HostedStack, flavour: tuple[str, ...], tmp_path: Path) -> None:
    stack.compose("config", "--quiet", flavour=flavour)
    nothing = tmp_path / "env"
    nothing.write_text("")
    command = [*flavour, "--env-file", str(nothing), "--file", "docker-compose.yml", "config", "--quiet"]
    bare = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "DOCKER_CONFIG", "DOCKER_HOST")
    }
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "run scripts/setup.sh first" in done.stderr


# ------------------------------------------------------------------------------------------- keeping to itself


async def test_redis_answers_no_stranger(stack: HostedStack, api: Api) -> None:
    done = stack.compose("exec", "-T", "redis", "redis-cli", "ping", check=False)
    assert "NOAUTH" in done.stdout + done.stderr
    login = stack.compose("exec", "-T", "redis", "redis-cli", "--user", "default", "--pass", "", "ping", check=False)
    assert "PONG" not in login.stdout


async def test_only_the_gateway_is_reached_and_from_this_machine_alone(stack: HostedStack, api: Api) -> None:
    published = {}
    for service in SERVICES:
        facts = docker.inspect(stack.container(service))
        assert facts
        ports = facts["NetworkSettings"]["Ports"] or {}
        published[service] = [f"{one['HostIp']}:{one['HostPort']}" for found in ports.values() for one in found or []]
    assert published == {"gateway": [f"127.0.0.1:{stack.port}"], "redis": [], "postgres": []}
    assert docker.run("network", "inspect", "--format", "{{.Internal}}", f"{stack.name}_inside") == "true"


async def test_no_password_is_shown(stack: HostedStack, api: Api) -> None:
    shown = stack.compose("ps").stdout + stack.compose("ps", "--all").stdout + stack.logs()
    for process in psutil.process_iter(["cmdline"]):
        shown += " ".join(process.info["cmdline"] or [])
    assert "redis-server" in shown
    for secret in ("POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        assert stack.setting(secret) not in shown


async def test_nobody_in_the_stack_but_the_database_is_root(stack: HostedStack, api: Api) -> None:
    for service in ("gateway", "redis"):
        assert stack.compose("exec", "-T", service, "id", "-u").stdout.strip() not in ("", "0")


# ------------------------------------------------------------------------------------------- losing a part


def restart(stack: HostedStack, service: str) -> None:
    stack.compose("restart", service)


def stop_and_start(stack: HostedStack, service: str) -> None:
    stack.compose("stop", service)
    assert stack.state(service)["ExitCode"] == 0, stack.logs()
    stack.compose("up", "--detach")


def kill(stack: HostedStack, service: str) -> None:
    """As if it had crashed: from inside, since what `docker kill` ends is not started again."""
    everybody = "import os; os.kill(-1, 9)"
    stack.compose("exec", "-T", service, "python3", "-c", everybody, check=False)


@pytest.mark.parametrize(
    ("lose", "service"),
    [(restart, "redis"), (restart, "postgres"), (restart, "gateway"), (stop_and_start, "gateway"), (kill, "gateway")],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_conversation_goes_on(
    stack: HostedStack, conversation: Conversation, api: Api, lose: Callable[[HostedStack, str], None], service: str
) -> None:
    """A turn that runs meanwhile completes, and so does the next: in the same container, nothing lost, nothing doubled."""
    session = conversation.session_id
    note = f"{lose.__name__} {service} {len(conversation.noted)}"
    go_on = stack.data_dir / "sessions" / session / "workspace" / "go-on"
    waits = f"until [ -e go-on ]; do sleep 0.1; done; rm -f go-on; echo {note} >>notes; cat notes"
    turn = await api.submit(session, scripted(bash(waits), says("noted")))
    await api.has_event(session, "agent.tool_use", turn_id=turn)
    place = stack.session_containers()
    began = stack.state(service)["StartedAt"]

    lose(stack, service)
    await stack.is_ready()
    assert stack.state(service)["StartedAt"] > began
    go_on.touch()

    ended = await api.ended(session, turn, seconds=120)
    assert (ended["status"], ended["result"]) == ("completed", "noted"), stack.logs()
    conversation.noted.append(note)
    result = await api.has_event(session, "agent.tool_result", turn_id=turn)
    assert all(line in str(result["content"]) for line in conversation.noted)
    after = await api.chat(session, scripted(says(f"after {note}")))
    assert (after["status"], after["result"]) == ("completed", f"after {note}")
    assert stack.session_containers() == place

    events = await api.events(session)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["id"] for event in events}) == len(events)
    assert [e["type"] for e in events].count("turn.completed") == 2 * len(conversation.noted)
    assert [e["type"] for e in events].count("session.status_starting") == 1


async def test_sessions_sleep_with_the_gateway_where_that_is_asked(
    stack: HostedStack, conversation: Conversation, api: Api
) -> None:
    """The orderly end of all of it, as docs/deployment.md has it."""
    session = conversation.session_id
    await api.chat(session, scripted(says("here")))
    assert stack.session_containers()
    stack.compose("up", "--detach", "gateway", CC_KEEP_SESSIONS="false")
    await stack.is_ready()
    stack.compose("stop")
    assert {service: stack.state(service)["ExitCode"] for service in SERVICES} == dict.fromkeys(SERVICES, 0)
    assert not stack.session_containers()
    stack.compose("up", "--detach")
    await stack.is_ready()
    woken = await api.chat(session, scripted(bash("cat notes"), says("awake")))
    assert (woken["status"], woken["result"]) == ("completed", "awake")
    result = await api.has_event(session, "agent.tool_result", turn_id=woken["turn_id"])
    assert all(line in str(result["content"]) for line in conversation.noted)


async def test_what_is_deleted_leaves_nothing(stack: HostedStack, conversation: Conversation, api: Api) -> None:
    """Also what ran through all of the restarts."""
    assert (await api.delete(f"sessions/{conversation.session_id}")).status_code == 204

    async def gone() -> bool:
        return not stack.session_containers() and not any((stack.data_dir / "sessions").iterdir())

    await until(gone, "container and folders of the sessions to be gone", 60)
