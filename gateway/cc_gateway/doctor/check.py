"""What a check is, and how all are run: at once, each within its time, and none with a traceback."""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

SECONDS: Final = 5.0
MODEL_SECONDS: Final = 10.0
CONTAINER_SECONDS: Final = 20.0
"""A container takes half a second to start, but many on a machine that is busy starting others."""

CLEANING_SECONDS: Final = 10.0


class Status(StrEnum):
    """How a check ended. Only a failure keeps sessions from running."""

    OK = "ok"
    NOTE = "note"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Trouble:
    """What is wrong, and what to do: a command where there is one. `fatal` where sessions could not run."""

    problem: str
    mend: str
    fatal: bool = True


@dataclass(frozen=True)
class Finding:
    """What a check has found. `kind` counts where there is no trouble."""

    found: str
    troubles: tuple[Trouble, ...] = ()
    kind: Status = Status.OK

    @property
    def status(self) -> Status:
        if not self.troubles:
            return self.kind
        return Status.FAILURE if any(one.fatal for one in self.troubles) else Status.WARNING

    def mildly(self) -> "Finding":
        """The same where it keeps no session from running."""
        return replace(self, troubles=tuple(replace(one, fatal=False) for one in self.troubles))


def ok(found: str, *troubles: Trouble) -> Finding:
    return Finding(found, troubles)


def note(found: str) -> Finding:
    return Finding(found, kind=Status.NOTE)


def skipped(why: str) -> Finding:
    return Finding(f"not looked at: {why}", kind=Status.SKIPPED)


def failure(found: str, problem: str, mend: str) -> Finding:
    return Finding(found, (Trouble(problem, mend),))


@dataclass(frozen=True)
class Check:
    """One look. `late`: what to do where it takes longer than `seconds`."""

    name: str
    look: Callable[[], Awaitable[Finding]]
    late: str = "see whether this machine is overloaded, and try again"
    seconds: float = SECONDS


@dataclass(frozen=True)
class Result:
    """What came of a check, and how long it took."""

    name: str
    finding: Finding
    seconds: float

    @property
    def status(self) -> Status:
        return self.finding.status


async def run_all(checks: Iterable[Check]) -> list[Result]:
    """All at once; the results in the order of the checks."""
    return list(await asyncio.gather(*(_run(check) for check in checks)))


async def _run(check: Check) -> Result:
    begun = time.monotonic()
    try:
        # what a check does to clean up after its time is bounded too
        async with asyncio.timeout(check.seconds + CLEANING_SECONDS), asyncio.timeout(check.seconds):
            finding = await check.look()
    except TimeoutError:
        finding = _late(check)
    except Exception as error:
        if os.environ.get("CC_DEBUG"):
            raise
        finding = _crashed(error)
    return Result(check.name, finding, time.monotonic() - begun)


def _late(check: Check) -> Finding:
    return failure("no answer", f"it took longer than {check.seconds:.0f} s", check.late)


def _crashed(error: Exception) -> Finding:
    return failure(
        "it could not be looked at",
        f"a fault of this check itself: {type(error).__name__}: {error}",
        "report it, with what CC_DEBUG=1 cc-docker doctor prints",
    )


class Once(Generic[T]):
    """A look that several checks share: done when the first of them asks."""

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self._look = look
        self._task: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        if self._task is None:
            self._task = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._task)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call something that may block for ever, such as a look at a network folder whose server is gone.

    The thread is a daemon: nobody waits for it at the end, as `asyncio.to_thread` would have it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def call() -> None:
        try:
            outcome: tuple[T | None, BaseException | None] = function(*arguments), None
        except BaseException as error:
            outcome = None, error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=call, daemon=True).start()
    return await future
