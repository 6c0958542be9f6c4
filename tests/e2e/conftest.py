"""What the end-to-end tests share: a session a module, and a second gateway whose limits a test can reach."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.common import Common, common_session
from support.gateway import GatewayProcess

MAX_PROMPT_BYTES = 20_000
MAX_BODY_BYTES = 40_000
MAX_QUEUED_TURNS = 3
MAX_SESSIONS = 3


@pytest.fixture(scope="module")
def common(gateway: GatewayProcess) -> Iterator[Common]:
    """A session that the tests of a module share, and its owner."""
    with common_session(gateway) as made:
        yield made


@pytest.fixture
async def mine(common: Common) -> AsyncIterator[Api]:
    """A client of the owner of the shared session."""
    async with common.api() as client:
        yield client


@pytest.fixture(scope="session")
def tight_gateway(short_dir: Path) -> Iterator[GatewayProcess]:
    limits = {
        "CC_HEARTBEAT_SECONDS": "0.2",
        "CC_MAX_PROMPT_BYTES": str(MAX_PROMPT_BYTES),
        "CC_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "CC_MAX_QUEUED_TURNS": str(MAX_QUEUED_TURNS),
        "CC_MAX_SESSIONS": str(MAX_SESSIONS),
    }
    process = GatewayProcess(short_dir / "tight", **limits).start()
    yield process
    process.close()


@pytest.fixture
async def tight(tight_gateway: GatewayProcess) -> AsyncIterator[Api]:
    """A client of the gateway with low limits; its sessions go with the test."""
    async with tight_gateway.api() as client:
        yield client
        for session in (await client.get("sessions")).json()["data"]:
            await client.delete(f"sessions/{session['session_id']}")
