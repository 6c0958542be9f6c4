"""Fixtures for all tests: one gateway that most share, and gateways of one's own where a test breaks things."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.gateway import GatewayProcess


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
