"""Exits of processes: `claude` itself, and whatever it leaves behind.

Bash tools run in sessions of their own and survive `claude`; killing its process group misses them. So the wrapper
makes itself the one that orphans fall to (PR_SET_CHILD_SUBREAPER), reaps every child that dies, and can
kill all that are left. Elsewhere than on Linux only direct children are known.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

log = logging.getLogger(__name__)


def _libc() -> ctypes.CDLL | None:
    with contextlib.suppress(OSError):
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "prctl") else None
    return None


_LIBC: Final = _libc()


def become_subreaper() -> bool:
    return _LIBC is not None and _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def die_with_parent() -> None:
    """Called in the child between fork and exec: a `claude` without a wrapper has nobody to report to."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Living(NamedTuple):
    """A process that runs; its birth (in clock ticks) tells it from a later one with the same pid."""

    pid: int
    birth: int


class Reaper:
    """Waits for every child, on SIGCHLD; tells those who asked how theirs ended."""

    def __init__(self) -> None:
        self._exits: dict[int, asyncio.Future[int]] = {}

    def install(self) -> None:
        become_subreaper()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int) -> asyncio.Future[int]:
        """Completes with the exit code of this child (negative: the signal). Call it right after starting the child."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._exits[pid] = future
        self.reap()
        return future

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            future = self._exits.pop(pid, None)
            if future is not None and not future.done():
                future.set_result(os.waitstatus_to_exitcode(status))

    async def kill_descendants(self, patience: float, *, but: Collection[Living] = ()) -> int:
        """Kill all that descends from this process until nothing is left; the number that would not die in time.

        Those in `but`, and what descends from them, live on.
        """
        left = descendants(os.getpid(), but)
        deadline = asyncio.get_running_loop().time() + patience
        while left and asyncio.get_running_loop().time() < deadline:
            for process in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
            self.reap()
            left = descendants(os.getpid(), but)
        if left:
            log.error("descendants survive", extra={"count": len(left)})
        return len(left)


def descendants(root: int, but: Collection[Living] = ()) -> list[Living]:
    """The processes below `root`, by /proc; zombies among them, which are not ours to reap, are left out.

    So are those in `but` with all that is below them.
    """
    children: dict[int, list[Living]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(Living(int(entry.name), int(fields[19])))
    found: list[Living] = []
    layer = children.get(root, [])
    while layer := [process for process in layer if process not in but]:
        found += layer
        layer = [child for process in layer for child in children.get(process.pid, [])]
    return found
