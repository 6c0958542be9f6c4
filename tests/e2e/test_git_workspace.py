"""Git workspaces: cloned before the first start, kept as the agent leaves them, and git's own words where that fails."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import docker, git_server
from support.api import Api
from support.gateway import GatewayProcess
from support.scenario import bash, says, scripted
from support.stack import FULL
from support.waiting import until

FILES = {"README.md": "read me\n", "src/main.py": "print('hello')\n"}
LOOK = scripted(bash("cat README.md; git log --format=%s; git status --short; ls"), says("{{last_tool_result}}"))


@pytest.fixture(scope="module")
def repositories(short_dir: Path) -> Iterator[str]:
    """The address of a server with the repository `one`, which has the branches `main` and `other`."""
    folder = short_dir / "repositories"
    git_server.make_repository(folder / "one", main=FILES, other={"README.md": "another\n"})
    address = docker.bridge_address() if FULL else "127.0.0.1"
    with git_server.serve(folder, address) as url:
        yield url


def workspace(url: str, **more: str) -> dict[str, str]:
    return {"type": "git", "git_repo": url, **more}


async def test_a_repository_is_there_before_the_first_turn_and_stays_as_the_agent_leaves_it(
    api: Api, repositories: str
) -> None:
    session_id = await api.open_session(workspace=workspace(f"{repositories}/one"))
    turn = await api.chat(session_id, LOOK)
    assert turn["status"] == "completed", turn["error"]
    told = turn["result"].splitlines()
    assert told[:2] == ["read me", "main"]
    assert {"README.md", "src"} <= set(told[2:])
    await api.chat(session_id, scripted(bash("echo changed > README.md; git add -A"), says("ok")))
    await api.post(f"sessions/{session_id}/stop")
    again = await api.chat(session_id, LOOK)
    assert again["result"].splitlines()[0] == "changed"
    shown = (await api.session(session_id))["workspace"]
    assert (shown["type"], shown["git_repo"]) == ("git", f"{repositories}/one")


async def test_a_branch_can_be_named(api: Api, repositories: str) -> None:
    session_id = await api.open_session(workspace=workspace(f"{repositories}/one", git_branch="other"))
    turn = await api.chat(session_id, LOOK)
    assert turn["result"].splitlines()[:2] == ["another", "other"]


@pytest.mark.parametrize(
    ("path", "branch", "words"),
    [("/none", None, "fatal: repository"), ("/one", "no-such-branch", "Remote branch no-such-branch not found")],
)
async def test_a_repository_that_cannot_be_cloned_fails_the_session_in_gits_own_words(
    api: Api, repositories: str, path: str, branch: str | None, words: str
) -> None:
    more = {"git_branch": branch} if branch else {}
    session_id = await api.open_session(workspace=workspace(repositories + path, **more), prompt="hello")
    failed = await api.has_status(session_id, "failed")
    assert words in failed["reason"]
    turns = (await api.get(f"sessions/{session_id}/turns")).json()["data"]
    assert [(turn["status"], turn["error"]["type"]) for turn in turns] == [("failed", "session_failed")]
    assert words in turns[0]["error"]["message"]
    again = await api.chat(session_id, "hello")
    assert (again["status"], again["error"]["type"]) == ("failed", "session_failed"), "a prompt tries again"


async def test_a_session_that_is_deleted_while_it_is_cloned_leaves_nothing(
    api: Api, gateway: GatewayProcess, short_dir: Path
) -> None:
    with git_server.serve_nothing(docker.bridge_address() if FULL else "127.0.0.1") as (url, connected):
        session_id = await api.open_session(workspace=workspace(f"{url}/slow"))
        await until(connected, "git to connect")
        assert "cloning" in (await api.session(session_id))["reason"]
        assert (await api.delete(f"sessions/{session_id}")).status_code == 204
        await until(lambda: _gone(gateway.data_dir / "sessions" / session_id), "its folder to go", 20)
    if FULL:
        assert not docker.containers(**{"org.cc-docker.session": session_id})


async def test_a_repository_on_a_private_address_is_refused_where_that_is_not_allowed(
    own_gateway: Callable[..., GatewayProcess], repositories: str
) -> None:
    gateway = own_gateway(CC_CLONE_PRIVATE="false").start()
    async with gateway.api() as api:
        session_id = await api.open_session(workspace=workspace(f"{repositories}/one"))
        failed = await api.has_status(session_id, "failed")
        assert "no public address" in failed["reason"]


async def test_a_redirect_is_not_followed(api: Api, repositories: str) -> None:
    session_id = await api.open_session(workspace=workspace(f"{repositories}/redirect/one"))
    failed = await api.has_status(session_id, "failed")
    assert "redirect" in failed["reason"].lower() or "302" in failed["reason"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "git"},
        {"type": "ephemeral", "git_repo": "https://example.com/a/b"},
        {"type": "persistent", "id": "x", "git_branch": "b"},
        {"type": "git", "git_repo": "file:///etc"},
        {"type": "git", "git_repo": "/etc"},
        {"type": "git", "git_repo": "ext::sh -c touch% /tmp/x"},
        {"type": "git", "git_repo": "--upload-pack=x"},
        {"type": "git", "git_repo": "https://user:password@example.com/a/b"},
        {"type": "git", "git_repo": "https://example.com/a b"},
        {"type": "git", "git_repo": "http://169.254.169.254/latest?x="},
        {"type": "git", "git_repo": "https://example.com/a#b"},
        {"type": "git", "git_repo": "https://example.com/a", "git_branch": "--upload-pack=x"},
    ],
    ids=str,
)
async def test_what_is_no_repository_is_refused_and_nothing_is_made(api: Api, wrong: dict[str, str]) -> None:
    answer = await api.post("sessions", json={"workspace": wrong})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert "password" not in answer.json()["error"]["message"]


async def test_the_command_opens_a_session_on_a_repository_and_shows_its_logs(
    gateway: GatewayProcess, repositories: str
) -> None:
    look = scripted(bash("cat README.md"), says("{{last_tool_result}}"))
    code, out, err = await command(gateway, "run", "--once", look, "--repo", f"{repositories}/one", "--branch", "other")
    assert (code, "another" in out) == (0, True), err
    session_id = re.search(r"sesn_[0-9a-z]{26}", (await command(gateway, "sessions"))[1])
    assert session_id
    code, out, _ = await command(gateway, "logs", session_id[0])
    assert (code, session_id[0] in out) == (0, True)
    code, _, err = await command(gateway, "run", "x", "--branch", "other")
    assert code == 2
    assert "--repo" in err


async def command(gateway: GatewayProcess, *arguments: str) -> tuple[int | None, str, str]:
    """Run `cc-docker …` against this gateway; its status, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("cc-docker")),
        *arguments,
        env=os.environ | {"CC_API_URL": gateway.url, "CC_TOKEN": gateway.facts["token"]},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def _gone(path: Path) -> bool:
    return not path.exists()
