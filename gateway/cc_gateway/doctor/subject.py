"""What is looked at: the settings, where things lie by them, and the gateway that runs on them, if one does."""

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from cc_gateway.doctor.check import Once, in_thread
from cc_gateway.services.folders import Layout
from cc_gateway.settings import Settings

ANSWER_SECONDS: Final = 3.0


@dataclass(frozen=True)
class RunningGateway:
    """Who has locked the data folder. `health` is what it says of itself; None where it does not answer."""

    pid: str
    facts: dict[str, Any]
    url: str
    health: dict[str, Any] | None

    @property
    def is_near(self) -> bool:
        """Whether its process can be seen from here: else it is in another container, and its pid means nothing to us."""
        with contextlib.suppress(psutil.Error, ValueError):
            return "cc_gateway" in " ".join(psutil.Process(int(self.pid)).cmdline())
        return False

    def __str__(self) -> str:
        parts = [f"pid {self.pid}", self.facts.get("driver"), self.facts.get("model")]
        return f"the gateway at {self.url} ({', '.join(part for part in parts if part)})"


@dataclass
class Subject:
    """One for a run of the doctor."""

    settings: Settings
    layout: Layout = field(init=False)
    gateway: Once[RunningGateway | None] = field(init=False)

    def __post_init__(self) -> None:
        self.layout = Layout(self.settings.data_dir)
        self.gateway = Once(self._find_gateway)

    async def _find_gateway(self) -> RunningGateway | None:
        found = await in_thread(_holder, self.settings.data_dir)
        if found is None:
            return None
        pid, facts = found
        for url in dict.fromkeys((str(facts.get("url") or ""), self.local_url)):  # the first may be a public address
            if url and (health := await _health(url)):
                return RunningGateway(pid, facts, url, health)
        return RunningGateway(pid, facts, str(facts.get("url") or self.local_url), None)

    @property
    def local_url(self) -> str:
        server = self.settings.server
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def _holder(data_dir: Path) -> tuple[str, dict[str, Any]] | None:
    """The process id of the gateway that holds the data folder, and what it has written of itself; None where none does.

    The lock of `data_lock` is tried as a reader and let go at once: to take it would be to change the file.
    """
    try:
        with (data_dir / "gateway.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown", _facts(data_dir / "gateway.json")
    except OSError:
        pass
    return None


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


async def _health(url: str) -> dict[str, Any] | None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(f"{url}/health") as answer:
            said = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    return said if isinstance(said, dict) and "status" in said else None


def nearest_folder(path: Path) -> Path:
    """The path itself, or the nearest of those above it that exists: there it would come to be."""
    while not os.path.exists(path) and path != path.parent:  # (false as well where we may not look)
        path = path.parent
    return path
