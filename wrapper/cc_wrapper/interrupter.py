"""Interrupts a running turn: asks until it is over, and kills a `claude` that will not stop.

Above it: the conductor. While it is busy no prompt may be written: the interrupt must never hit the turn behind its own.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from cc_wrapper.errors import ControlError
from cc_wrapper.life import Life
from cc_wrapper.turn import Turn
from cc_wrapper.turns import Turns

_SECONDS: Final = 5.0
_TRIES: Final = 3

log = logging.getLogger(__name__)


class Interrupter:
    def __init__(self, turns: Turns, on_done: Callable[[], None]) -> None:
        self._turns = turns
        self._on_done = on_done
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        return self._task is not None

    def interrupt(self, life: Life, turn: Turn) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(life, turn), name="interrupt")
            self._task.add_done_callback(self._done)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._task = None
        self._on_done()

    async def _run(self, life: Life, turn: Turn) -> None:
        for _ in range(_TRIES):
            if await self.ask(life, turn, "interrupted", _SECONDS):
                return
        log.error("claude does not stop: killing it")
        life.process.kill()

    async def ask(self, life: Life, turn: Turn, why: str, seconds: float) -> bool:
        """Ask once; whether the turn is over within the time that the answer and the end may each take."""
        turn.interrupted_by = why
        try:
            await life.control.request("interrupt", seconds, cancel_queued=True)
        except ControlError as error:
            log.warning("interrupt failed", extra={"code": error.code})
        return await self._turns.wait_for_end(turn, seconds)
