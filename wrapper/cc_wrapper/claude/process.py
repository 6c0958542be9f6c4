"""The `claude` process: started, written to, read from, stopped. It knows bytes and signals, no JSON.

Its stdout is always drained: at its exit the CLI does not wait for a pipe that is full, and what was in it is lost. Its
stderr is drained too, and the end of it kept for error messages.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO, Any, Final, Self

from cc_wrapper.claude.memory import limit_and_kills
from cc_wrapper.claude.reaper import Reaper, die_with_parent
from cc_wrapper.errors import FatalError

_CHUNK: Final = 256 * 1024
_STDERR_KEPT: Final = 64 * 1024
_AFTER_EXIT: Final = 2.0
"""How long the pipes may stay open once the process is gone; a child that inherited them would hold them for ever."""

log = logging.getLogger(__name__)


class Process:
    def __init__(self, popen: subprocess.Popen[bytes], exited: "asyncio.Future[int]") -> None:
        self._popen = popen
        self.exited = exited
        self._stdout = asyncio.StreamReader(limit=4 * _CHUNK)
        self._reading: list[asyncio.ReadTransport] = []
        self._stderr_tail = bytearray()
        self._stdin: asyncio.StreamWriter | None = None
        self._stderr_task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._kills_before = limit_and_kills()[1]

    @classmethod
    async def start(cls, argv: Sequence[str], env: Mapping[str, str], cwd: str, reaper: Reaper) -> Self:
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220  a fork of a small process: milliseconds
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                cwd=cwd,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise FatalError("cli_missing", f"cannot start {argv[0]} in {cwd}: {error.strerror}") from None
        process = cls(popen, reaper.watch(popen.pid))
        await process._connect()
        return process

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        stderr = asyncio.StreamReader(limit=_STDERR_KEPT)
        for stream, pipe in ((self._stdout, self._popen.stdout), (stderr, self._popen.stderr)):
            reader = asyncio.StreamReaderProtocol(stream)
            transport, _ = await loop.connect_read_pipe(lambda reader=reader: reader, _open(pipe))  # type: ignore[misc]
            self._reading.append(transport)
        self._stderr_task = asyncio.create_task(self._keep_stderr(stderr), name="claude stderr")
        writing, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), _open(self._popen.stdin)
        )
        self._stdin = asyncio.StreamWriter(writing, protocol, None, loop)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return not self.exited.done()

    @property
    def stderr_tail(self) -> str:
        return self._stderr_tail.decode("utf-8", "replace").strip()

    @property
    def out_of_memory(self) -> int | None:
        """The limit in bytes, where the kernel killed for want of memory and this process was killed."""
        limit, kills = limit_and_kills()
        killed = self.exited.done() and self.exited.result() == -signal.SIGKILL
        return limit if killed and kills > self._kills_before else None

    async def write_line(self, line: bytes) -> None:
        """Write one line whole; raises ConnectionError if the process does not take it any more."""
        async with self._writing:
            if self._stdin is None or self._stdin.is_closing():
                raise ConnectionResetError("claude's stdin is closed")
            self._stdin.write(line + b"\n")
            await self._stdin.drain()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What comes on stdout, until it ends or the process has been gone for a while."""
        while chunk := await self._next_chunk():
            yield chunk

    async def _next_chunk(self) -> bytes:
        reading = asyncio.ensure_future(self._stdout.read(_CHUNK))
        try:
            await first_of(reading, self.exited)
            if not reading.done():
                await asyncio.wait({reading}, timeout=_AFTER_EXIT)
            return reading.result() if reading.done() else b""
        finally:
            reading.cancel()

    async def _keep_stderr(self, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(_STDERR_KEPT):
            self._stderr_tail += chunk
            del self._stderr_tail[:-_STDERR_KEPT]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self) -> None:
        """The ladder: end of input, SIGINT, SIGKILL; each step bounded, any number of times."""
        self._close_stdin()
        for patience, then in ((2.0, signal.SIGINT), (1.5, signal.SIGKILL)):
            if await self.gone_within(patience):
                return
            self.kill(then)
        await self.gone_within(0.5)

    async def gone_within(self, seconds: float) -> bool:
        await asyncio.wait({self.exited}, timeout=seconds)
        return not self.alive

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            self._stdin.close()

    async def close(self) -> None:
        """Let go of the pipes of a process that is gone."""
        self._close_stdin()
        if self._stderr_task is not None:
            await asyncio.wait({self._stderr_task}, timeout=0.5)
            self._stderr_task.cancel()
        for transport in self._reading:
            transport.close()
        self._popen.returncode = self.exited.result() if self.exited.done() else -signal.SIGKILL


async def first_of(*futures: "asyncio.Future[Any]") -> None:
    """Wait until one of these is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
