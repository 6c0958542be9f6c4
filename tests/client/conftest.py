"""Fixtures: a stub gateway on loopback, a client of it, and an environment that knows of no other gateway."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cc_client import Client
from client.stub_gateway import TOKEN, StubGateway, serving


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no gateway named by the environment."""
    for name in ("CC_API_URL", "CC_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def stub() -> Iterator[StubGateway]:
    with serving(StubGateway()) as running:
        yield running


@pytest.fixture
async def client(stub: StubGateway) -> AsyncIterator[Client]:
    async with Client(stub.url, TOKEN, retries=2) as connected:
        yield connected
