"""Gateways that the chaos tests may kill."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from support.gateway import GatewayProcess


@pytest.fixture(scope="session")
def frail(short_dir: Path) -> Iterator[GatewayProcess]:
    """A gateway that is killed and started again; every test leaves it running."""
    process = GatewayProcess(short_dir / "frail").start()
    yield process
    process.close()


@pytest.fixture
def gateway_with(folder: Path) -> Callable[..., AbstractContextManager[GatewayProcess]]:
    """A started gateway with settings of its own, for the length of a block."""

    @contextmanager
    def start(**environment: str) -> Iterator[GatewayProcess]:
        process = GatewayProcess(folder / "d", **environment).start()
        try:
            yield process
        finally:
            process.close()

    return start


@pytest.fixture
def folder(short_dir: Path) -> Path:
    """A folder of the test's own, whose path is short enough for sockets."""
    return Path(tempfile.mkdtemp(dir=short_dir))
