"""Fixtures for all tests: one gateway that most share, and gateways of one's own where a test breaks things."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from support import postgres as postgresql
from support.api import Api
from support.gateway import GatewayProcess
from support.postgres import PostgresServer
from support.stack import FULL, stack

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A temporary folder with a short path: socket paths end at 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp"))
    yield folder
    if not os.environ.get("CC_TEST_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def gateway(short_dir: Path) -> Iterator[GatewayProcess]:
    """A gateway on embedded defaults with the scripted model, shared by all tests that leave it whole."""
    process = GatewayProcess(short_dir / "shared", CC_MAX_SESSIONS="2000").start()
    yield process
    process.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all tests share which leave it running: each takes a database of its own."""
    if not postgresql.binaries():
        pytest.skip(postgresql.MISSING)
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
async def api(gateway: GatewayProcess) -> AsyncIterator[Api]:
    async with gateway.api() as client:
        yield client
        await _delete_all(client)


async def _delete_all(client: Api) -> None:
    """What a test leaves running would slow down the next."""
    answer = await client.get("sessions", params={"limit": 200})
    for session in answer.json()["data"]:
        await client.delete(f"sessions/{session['session_id']}")


@pytest.fixture(scope="session", autouse=True)
def full_stack(request: pytest.FixtureRequest) -> None:
    """Where the tests run on the full stack: its image, and its database server."""
    if FULL:
        request.getfixturevalue("session_image")
        stack.postgres = request.getfixturevalue("postgres")


@pytest.fixture(scope="session")
def session_image() -> str:
    """The image of sessions, built where it is missing."""
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine that we may use (apt-get install docker.io)")
    build = subprocess.run([CHECKOUT / "scripts/build-container.sh"], stdout=subprocess.PIPE, text=True, timeout=1800)
    assert build.returncode == 0, "the session image could not be built: see above"
    return build.stdout.strip()


@pytest.fixture
def own_gateway(short_dir: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Makes gateways (not started) that a test may kill, restart and set up as it likes."""
    made: list[GatewayProcess] = []

    def make(**environment: str) -> GatewayProcess:
        process = GatewayProcess(Path(tempfile.mkdtemp(dir=short_dir)) / "d", **environment)
        made.append(process)
        return process

    yield make
    for process in made:
        process.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is about the other stack alone is not part of a run."""
    left_out = [item for item in items if item.get_closest_marker("embedded" if FULL else "full")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with counts in one plain line, skips included."""
    counts = {name: len(terminalreporter.stats.get(name, ())) for name in ("passed", "failed", "error", "skipped")}
    failed = counts["failed"] + counts["error"]
    terminalreporter.write_line(f"{counts['passed']} passed, {failed} failed, {counts['skipped']} skipped")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skip is a failure: there the machine must give what the tests want."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = 1
