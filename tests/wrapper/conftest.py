"""One Redis and one scripted model for all; a stage for each test."""

import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from wrapper.harness import MCP_ECHO, RedisServer, ScriptedModel, Stage, staged


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ccw-")  # a socket's path ends at 107 characters


def _until_there(socket: Path) -> None:
    deadline = time.monotonic() + 10
    while not socket.exists():
        assert time.monotonic() < deadline, f"{socket} does not appear"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with _short_folder() as folder:
        server = RedisServer(Path(folder))
        server.start()
        _until_there(server.socket)
        yield server
        server.kill()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    with _short_folder() as folder:
        server = RedisServer(Path(folder))
        server.start()
        _until_there(server.socket)
        yield server
        server.kill()


@pytest.fixture(scope="session")
def model() -> Iterator[ScriptedModel]:
    with _short_folder() as folder:
        model = ScriptedModel(Path(folder) / "gateway.sock")
        model.start()
        _until_there(model.socket)
        yield model
        model.stop()


@pytest.fixture
async def stage(redis_server: RedisServer, model: ScriptedModel) -> AsyncIterator[Stage]:
    async with staged(redis_server, model) as stage:
        yield stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def warm(redis_server: RedisServer, model: ScriptedModel) -> AsyncIterator[Stage]:
    """A running session that the tests of a module share: none of them may end it."""
    async with staged(redis_server, model) as stage:
        await stage.started(
            env={"CLAUDE_CODE_MAX_RETRIES": "1"},
            mcp_servers={
                "tools__of_ours": {"type": "stdio", "command": sys.executable, "args": [str(MCP_ECHO)]},
                "broken": {"type": "stdio", "command": "/does/not/exist"},
            },
            allowed_tools=["Bash", "Write", "mcp__tools__of_ours__echo"],
        )
        yield stage
