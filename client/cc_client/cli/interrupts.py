"""Ctrl-C, counted: the first asks for an orderly end of what goes on, the second leaves.

SIGTERM and a closed terminal (SIGHUP) count as both.
"""

import asyncio
import signal
from collections.abc import Awaitable
from typing import Final, Self, TypeVar

Result = TypeVar("Result")
_END: Final = (signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """A context in which Ctrl-C raises nothing, but is counted."""

    def __init__(self) -> None:
        self._presses = (asyncio.Event(), asyncio.Event())
        self.terminated = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.press)
        for number in _END:
            loop.add_signal_handler(number, self._terminate)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, *_END):
            loop.remove_signal_handler(number)

    def press(self) -> None:
        next((event for event in self._presses if not event.is_set()), self._presses[-1]).set()

    def forget(self) -> None:
        """The next press is the first again (not after a SIGTERM, which stays)."""
        for event in () if self.terminated else self._presses:
            event.clear()

    async def first(self) -> None:
        await self._presses[0].wait()

    async def second(self) -> None:
        await self._presses[1].wait()

    def _terminate(self) -> None:
        self.terminated = True
        for event in self._presses:
            event.set()


async def unless(work: "asyncio.Task[Result]", stop: Awaitable[None]) -> bool:
    """Wait for the work; False where `stop` came first. The work goes on then: cancel it, or wait again."""
    stopping = asyncio.ensure_future(stop)
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        stopping.cancel()
