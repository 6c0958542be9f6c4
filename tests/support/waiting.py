"""Bounded waits: a condition is looked at until it holds, and a test fails with its name where it never does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], what: str, seconds: float = 30) -> T:
    """The first true answer of `look`."""
    end = time.monotonic() + seconds
    while True:
        if answer := await look():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.05)
