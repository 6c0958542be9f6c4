"""A gateway of our own: started as a subprocess on a data folder, watched until it is ready, and stopped.

It runs in a process group of its own, so that a Ctrl-C in the terminal reaches us alone and its end stays orderly.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final, Self

from cc_client import locate
from cc_client.errors import GatewayStartError
from cc_client.locate import Gateway

LOG: Final = "gateway.log"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05
_LOG_BYTES: Final = 5_000_000


def _open_log(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = folder / LOG
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(folder / (LOG + ".1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class LocalGateway:
    """The subprocess `python -m cc_gateway serve`. `log`: the file with all that it prints."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, log_start: int) -> None:
        self._process = process
        self._folder = folder
        self._log_start = log_start
        self.log = folder / LOG

    @classmethod
    async def start(cls, folder: Path, *options: str) -> Self:
        """Start it with these further options of `serve`. Returns before it is ready.

        Raises `GatewayStartError` where the folder cannot be written.
        """
        try:
            out = _open_log(folder)
        except OSError as error:
            message = f"the data folder {folder} cannot be used: {error.strerror}"
            raise GatewayStartError(message, status=1, output="", hint="CC_DATA_DIR names another one") from error
        try:
            start = os.fstat(out).st_size
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cc_gateway", "serve", "--data-dir", str(folder), *options),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        finally:
            os.close(out)
        return cls(process, folder, start)

    async def ready(self, timeout: float = READY_SECONDS) -> Gateway:
        """Wait until it takes requests. Raises `GatewayStartError` where it ends first, or takes longer."""
        try:
            async with asyncio.timeout(timeout):
                while self.running:
                    known = locate.read_file(self._folder)
                    mine = known is not None and known.pid == self._process.pid
                    if known and mine and await asyncio.to_thread(locate.answers, known.url, "/health/ready"):
                        return Gateway(known.url.rstrip("/"), known.token, known)
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise self._failure(f"the gateway is not ready after {timeout:.0f} s", 1) from None
        status = self._process.returncode
        raise self._failure(f"the gateway ended with status {status} before it was ready", status or 1)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def ended(self) -> int:
        """Wait for its end; answers with the exit status."""
        return await self._process.wait()

    async def stop(self, grace: float = STOP_SECONDS) -> None:
        """SIGTERM, at most `grace` seconds, then SIGKILL for it and all that it started. Safe to call twice."""
        if self.running:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), grace)
            except TimeoutError:
                self.kill()
                await self._process.wait()

    def kill(self) -> None:
        """SIGKILL at once, for all of its process group."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def output(self, lines: int = 15) -> str:
        """The last lines that this run of it printed."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - 20_000))
            return "\n".join(file.read().decode("utf-8", "replace").strip().splitlines()[-lines:])

    def _failure(self, message: str, status: int) -> GatewayStartError:
        output = self.output()
        in_use = "in use" in output.lower()
        hint = "`--port 0` takes a free port" if in_use else f"its whole log: {self.log}"
        return GatewayStartError(message, status=status if 0 < status < 256 else 1, output=output, hint=hint)
