"""Starts a process of listeners (`listening`), and reads what it says."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from support.api import Api

READY_SECONDS = 60.0
PATHS = {"ws": "stream", "sse": "events/stream"}


class Listeners:
    """Listeners that are connected and wait."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def span(self, seconds: float) -> tuple[int, int]:
        """When the first event came to anybody and the last to everybody (`time.monotonic_ns`)."""
        async with asyncio.timeout(seconds):
            said = json.loads(await self.line())
        return said["first_ns"], said["last_ns"]

    async def line(self) -> str:
        assert self._process.stdout
        line = (await self._process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError(f"the listeners ended with {await self._process.wait()}")
        return line


@asynccontextmanager
async def listeners(
    api: Api, session_id: str, kind: str, count: int, *, after: int, events: int
) -> AsyncIterator[Listeners]:
    """`count` listeners to the next `events` events of a session, in a process of their own."""
    address = urlsplit(api.root)
    path = f"/api/v1/sessions/{session_id}/{PATHS[kind]}?after={after}&previews=false"
    numbers = [str(number) for number in (count, after + 1, after + events)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.listening", kind, str(address.hostname), str(address.port), path, *numbers),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        assert process.stdin
        process.stdin.write(f"{api.token}\n".encode())
        await process.stdin.drain()
        found = Listeners(process)
        async with asyncio.timeout(READY_SECONDS):
            await found.line()
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
