"""When to look at what: keys that are woken, one look at a time each, again after a while, later after a failure.

It knows nothing of sessions. Waking says where to look and never what to do, so that a wake too many does no harm and one
that is lost only waits for the next look.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from redis.exceptions import RedisError

from cc_gateway.drivers.base import DriverError
from cc_gateway.errors import CCError

log = structlog.get_logger(__name__)

LONGEST_LOOK_SECONDS: Final = 180.0
LONGEST_PAUSE_SECONDS: Final = 30.0
FIRST_PAUSE_SECONDS: Final = 0.5

Look = Callable[[str], Awaitable[float | None]]
"""Looks at a key. Returns the seconds until the next look by itself, None for none."""


class Looks:
    """Runs looks. Those at different keys go on side by side, those at one key never."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._active: dict[str, asyncio.Task[None]] = {}
        self._dirty: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._closing = False

    def wake(self, key: str) -> None:
        """Look now, or again if a look is under way."""
        if self._closing:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._active:
            self._dirty.add(key)
        else:
            self._active[key] = asyncio.create_task(self._look_until_clean(key), name=f"look-{key}")

    def waits(self, key: str) -> bool:
        """Whether a look is planned."""
        return key in self._timers

    async def close(self) -> None:
        """Look no more; what is under way is broken off."""
        self._closing = True
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._active.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_until_clean(self, key: str) -> None:
        delay: float | None = FIRST_PAUSE_SECONDS
        try:
            while True:
                self._dirty.discard(key)
                try:
                    async with asyncio.timeout(LONGEST_LOOK_SECONDS):
                        delay = await self._look(key)
                    self._failures.pop(key, None)
                except Exception as error:  # a look that wakes its own key must not fail without a pause
                    delay = self._note_failure(key, error)
                    return
                if key not in self._dirty:
                    return
        finally:
            self._active.pop(key, None)
            if delay is not None and not self._closing:
                self._timers[key] = asyncio.get_running_loop().call_later(delay, self.wake, key)

    def _note_failure(self, key: str, error: Exception) -> float:
        """Log it, with its trace where nobody foresaw it. Returns the seconds to wait: longer each time."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        foreseen = isinstance(error, CCError | RedisError | DriverError | OSError)
        log.warning("look_failed", key=key, error=repr(error), exc_info=None if foreseen else error)
        return float(min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), LONGEST_PAUSE_SECONDS))
