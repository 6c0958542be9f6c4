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
from pathlib import Path
from typing import Final

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

    async def kill_descendants(self, patience: float) -> int:
        """Kill all that descends from this process until nothing is left; the number that would not die in time."""
        left = descendants(os.getpid())
        deadline = asyncio.get_running_loop().time() + patience
        while left and asyncio.get_running_loop().time() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
            self.reap()
            left = descendants(os.getpid())
        if left:
            log.error("descendants survive", extra={"count": len(left)})
        return len(left)


def descendants(root: int) -> list[int]:
    """The processes below `root`, by /proc; zombies among them, which are not ours to reap, are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    layer = children.get(root, [])
    while layer:
        found += layer
        layer = [child for pid in layer for child in children.get(pid, [])]
    return found
