"""The `process` driver: a session is a local subprocess. The embedded default where there is no Docker engine.

With bubblewrap it confines the session to its own folders, without network; without it nothing is isolated, and it says
so. A session survives the gateway: it is found again by what its processes carry in their environment, which is also how
everything that it started is found when it is ended. (A process that hides from that is a matter for a real driver.)

Handle: `<pid>:<birth>:<session>:<incarnation>`. The birth (start time in clock ticks since boot, where the system tells
it: it does not move with the clock) tells a pid from its re-use.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import structlog

from cc_gateway.drivers.base import MARK, Clone, DriverError, Exit, SessionDriver, SessionSpec, mark
from cc_gateway.drivers.bubblewrap import confine, confine_to_one_folder, find_bubblewrap
from cc_gateway.drivers.claude import claude_binary, require_version
from cc_gateway.drivers.git import ENVIRONMENT, clone_command, own_words
from cc_gateway.drivers.logs import LogFile
from cc_protocol.launch import RUN_DIR_ENV

log = structlog.get_logger(__name__)

MAX_WORDS: Final = 64 * 1024
CLONING: Final = 0
"""What stands for the incarnation in the mark of a clone."""

WRAPPER = [sys.executable, "-P", "-m", "cc_wrapper"]
"""`-P`: it starts in the workspace, whose files must not pass for modules."""

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TERM", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")


@dataclass(frozen=True)
class Handle:
    """The parts of a handle."""

    pid: int
    birth: int
    session_id: str
    incarnation: int

    def __str__(self) -> str:
        return f"{self.pid}:{self.birth}:{self.session_id}:{self.incarnation}"

    @classmethod
    def parse(cls, text: str) -> "Handle | None":
        try:
            pid, birth, session_id, incarnation = text.split(":")
            return cls(int(pid), int(birth), session_id, int(incarnation))
        except ValueError:
            return None

    def process(self) -> psutil.Process | None:
        """The process, if it is still the same one and no zombie."""
        try:
            process = psutil.Process(self.pid)
            same = _birth(self.pid) == self.birth
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, OSError):
            return None


class ProcessDriver(SessionDriver):
    """Runs wrappers as subprocesses of this machine."""

    name = "process"

    def __init__(
        self, *, deployment: str, data_dir: Path, logs: Path, bubblewrap: str = "auto", binary: Path | None = None
    ) -> None:
        """
        Args:
            deployment: tells the sessions of several gateways on one machine apart.
            data_dir: the gateway's folder: a confined session sees its own part of it alone.
            logs: the folder in which the output of sessions is kept.
            bubblewrap: `auto`, `on` or `off`. Raises `DriverError` where `on` cannot be had.
            binary: another `claude` than the pinned one of our packages.
        """
        self._deployment = deployment
        self._logs = logs
        self._configured_binary = binary
        self._hidden = data_dir
        self._bubblewrap = find_bubblewrap(bubblewrap)
        self.isolated = self._bubblewrap is not None
        self._children: dict[int, asyncio.subprocess.Process] = {}

    async def open(self) -> None:
        self.claude_binary = claude_binary(self._configured_binary)
        await asyncio.to_thread(require_version, self.claude_binary)

    async def start(self, spec: SessionSpec) -> str:
        for session_id, text in await asyncio.to_thread(lambda: list(self._running())):
            found = Handle.parse(text)
            if session_id != spec.session_id or found is None:
                continue
            if found.incarnation == spec.incarnation:
                return text
            await self.stop(text, grace=0)
        spec.write_files(inside=spec.folders)
        command = WRAPPER
        if self._bubblewrap:
            command = confine(self._bubblewrap, spec.folders, self._hidden, Path(spec.launch.claude_binary), command)
        return await self._spawn(spec, command)

    async def _spawn(self, spec: SessionSpec, command: list[str]) -> str:
        try:
            with LogFile(self._logs, spec.session_id).open() as output:
                child = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=spec.folders.workspace,
                    env=self._environment(spec),
                    start_new_session=True,
                )
        except OSError as error:
            raise DriverError(f"cannot start {command[0]}: {error}") from error
        self._children[child.pid] = child
        try:
            birth = _birth(child.pid)
        except (psutil.Error, OSError):  # gone already: poll will say so
            birth = 0
        return str(Handle(child.pid, birth, spec.session_id, spec.incarnation))

    def _environment(self, spec: SessionSpec) -> dict[str, str]:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        home = spec.folders.claude / "home"
        home.mkdir(exist_ok=True)
        return environment | {
            "HOME": str(home),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
            RUN_DIR_ENV: str(spec.folders.run),
            MARK: mark(self._deployment, spec.session_id, spec.incarnation),
        }

    async def poll(self, handle: str) -> Exit | None:
        parsed = Handle.parse(handle)
        if parsed is None:
            return Exit(None, "unknown handle")
        child = self._children.get(parsed.pid)
        if child and child.returncode is not None:
            return _describe(child.returncode)
        return None if parsed.process() else Exit(None, "the process is gone")

    async def stop(self, handle: str, *, grace: float = 10) -> None:
        parsed = Handle.parse(handle)
        if parsed is None:
            return
        process = parsed.process()
        if process and grace > 0:
            with contextlib.suppress(psutil.Error):
                self._signal_wrapper(parsed, process)
            await self._wait_gone(parsed, grace)
        await asyncio.to_thread(self._kill_marked, parsed.session_id, parsed.incarnation, parsed)
        if child := self._children.pop(parsed.pid, None):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), 5)

    def _signal_wrapper(self, handle: Handle, process: psutil.Process) -> None:
        """Ask the wrapper itself: bubblewrap's outer process would die of the signal and pass nothing on."""
        if not self._bubblewrap:
            process.terminate()
            return
        for candidate in self._marked(handle.session_id, handle.incarnation):
            with contextlib.suppress(psutil.Error):
                if "cc_wrapper" in candidate.cmdline() and "bwrap" not in candidate.name():
                    candidate.terminate()

    async def _wait_gone(self, handle: Handle, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while handle.process():
                    await asyncio.sleep(0.02)

    def _kill_marked(self, session_id: str, incarnation: int, handle: Handle | None = None) -> None:
        """Kill what is left, until a look finds nothing: a process may fork while it is being looked for."""
        for _ in range(20):
            left = list(self._marked(session_id, incarnation))
            if handle and (process := handle.process()):
                left.append(process)
            if not left:
                return
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)

    async def clone(self, order: Clone) -> None:
        git = shutil.which("git")
        if git is None:
            raise DriverError("git is not installed on the gateway's machine", code="git_missing", retryable=False)
        await asyncio.to_thread(self._kill_marked, order.session_id, CLONING)
        command = [git, *clone_command(order.url, order.branch, order.resolve)[1:]]
        if self._bubblewrap:
            command = confine_to_one_folder(self._bubblewrap, order.into, command)
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | ENVIRONMENT
        environment |= {"HOME": str(order.into), MARK: mark(self._deployment, order.session_id, CLONING)}
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=order.into,
            env=environment,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(order.timeout):
                output = await _end_of_output(child)
        except TimeoutError:
            message = f"cloning took longer than {order.timeout:.0f} s (CC_CLONE_TIMEOUT)"
            raise DriverError(message, code="clone_failed", retryable=False) from None
        finally:
            await asyncio.shield(asyncio.to_thread(self._kill_marked, order.session_id, CLONING))
        if child.returncode != 0:
            raise DriverError(own_words(output.decode(errors="replace")), code="clone_failed", retryable=False)

    async def logs(self, session_id: str, *, tail: int = 200) -> str:
        return await asyncio.to_thread(LogFile(self._logs, session_id).tail, tail)

    async def running(self) -> AsyncIterator[tuple[str, str]]:
        for item in await asyncio.to_thread(lambda: list(self._running())):
            yield item

    def _running(self) -> Iterator[tuple[str, str]]:
        """One handle an incarnation: of its oldest process, which is the one that we started (or what it left behind)."""
        oldest: dict[tuple[str, int], tuple[int, int]] = {}
        for process in self._marked():
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                _, session_id, incarnation = process.environ()[MARK].split("/")
                key, age = (session_id, int(incarnation)), (_birth(process.pid), process.pid)
                oldest[key] = min(oldest.get(key, age), age)
        for (session_id, number), (birth, pid) in oldest.items():
            yield session_id, str(Handle(pid, birth, session_id, number))

    def _marked(self, session_id: str | None = None, incarnation: int | None = None) -> Iterator[psutil.Process]:
        prefix = f"{self._deployment}/" + (f"{session_id}/{incarnation}" if session_id else "")
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                found = process.environ().get(MARK, "")
                matches = found == prefix if session_id else found.startswith(prefix)
                if matches and process.status() != psutil.STATUS_ZOMBIE:
                    yield process


async def _end_of_output(child: asyncio.subprocess.Process) -> bytes:
    """Wait for its end; the last of what it wrote, however much that was."""
    assert child.stdout
    kept = b""
    while chunk := await child.stdout.read(MAX_WORDS):
        kept = (kept + chunk)[-MAX_WORDS:]
    await child.wait()
    return kept


def _birth(pid: int) -> int:
    """When a process began: clock ticks since boot on Linux, else milliseconds of the wall clock."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return int(psutil.Process(pid).create_time() * 1000)
    return int(stat.rpartition(")")[2].split()[19])


def _describe(code: int) -> Exit:
    if code < 0:
        return Exit(code, f"killed by signal {-code}")
    return Exit(code, f"exited with status {code}")
