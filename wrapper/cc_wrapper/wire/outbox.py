"""The outbox: what the gateway must get, in order, however often Redis goes away.

Above it: the conductor, which puts entries in and hands on acknowledgements. Below it: one Redis connection. An entry
is numbered when it is put in and forgotten when the gateway has it in its record; whatever is in between is sent
again on each new connection, since Redis may have lost it. The gateway takes each number once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel
from redis.asyncio import Redis

from cc_protocol.keys import ENTRY_FIELD, outbox_stream
from cc_protocol.outbox import Beat
from cc_wrapper.wire.link import answering

_BATCH_ENTRIES: Final = 200
_BATCH_BYTES: Final = 1024 * 1024
_ROOM: Final = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class Outbox:
    def __init__(self, session_id: str, incarnation: int, beat_seconds: float, beat: Callable[[int], Beat]) -> None:
        self._stream = outbox_stream(session_id, incarnation)
        self._beat_seconds = beat_seconds
        self._beat = beat
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._last_n = 0
        self._sent = 0
        self._resend = False
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    def put(self, entry: Callable[[int], BaseModel]) -> None:
        """Number an entry and keep it until it is acknowledged. Never waits."""
        self._last_n += 1
        data = entry(self._last_n).model_dump_json().encode()
        self._kept.append((self._last_n, data))
        self._bytes += len(data)
        self._wake.set()

    def acknowledge(self, n: int, *, resend: bool = False) -> None:
        """The gateway has everything up to `n`; with `resend`, it misses what was sent behind it."""
        while self._kept and self._kept[0][0] <= n:
            _, data = self._kept.popleft()
            self._bytes -= len(data)
            self._sent = max(0, self._sent - 1)
        if resend and self._kept and self._kept[0][0] == n + 1:
            self._resend = True
            self._wake.set()
        self._notify()

    @property
    def unacknowledged(self) -> int:
        return len(self._kept)

    @property
    def has_room(self) -> bool:
        return self._bytes < _ROOM

    @property
    def _all_sent(self) -> bool:
        return self._sent >= len(self._kept) and not self._resend

    async def room(self) -> None:
        """Wait until the gateway has caught up enough for more to be put in."""
        await self._until(lambda: self.has_room)

    async def flush(self, timeout: float) -> bool:
        """Wait until everything has been sent; False if it was not in time."""
        try:
            async with asyncio.timeout(timeout):
                await self._until(lambda: self._all_sent)
        except TimeoutError:
            log.warning("outbox not flushed", extra={"left": len(self._kept) - self._sent})
        return self._all_sent

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def send(self, redis: Redis) -> None:
        """Send on this connection until it fails: first all that is kept, then what comes, and beats between."""
        self._sent = 0
        loop = asyncio.get_running_loop()
        next_beat = loop.time()
        while True:
            self._wake.clear()
            if self._resend:
                self._resend, self._sent = False, 0
            if loop.time() >= next_beat:
                next_beat = loop.time() + self._beat_seconds
                await self._add(redis, self._beat(self.unacknowledged).model_dump_json().encode())
            await self._send_batch(redis)
            self._notify()
            if self._all_sent:
                await _wait(self._wake, next_beat - loop.time())

    async def _send_batch(self, redis: Redis) -> None:
        batch = self._batch()
        if not batch:
            return
        pipeline = redis.pipeline(transaction=False)
        for _, data in batch:
            pipeline.xadd(self._stream, {ENTRY_FIELD: data})
        async with answering():
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        for (n, _), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            self._mark_sent(n)

    def _batch(self) -> list[tuple[int, bytes]]:
        batch: list[tuple[int, bytes]] = []
        size = 0
        for n, data in islice(self._kept, self._sent, self._sent + _BATCH_ENTRIES):
            size += len(data)
            if batch and size > _BATCH_BYTES:
                break
            batch.append((n, data))
        return batch

    def _mark_sent(self, n: int) -> None:
        """Acknowledgements may have come in the meantime: the head of what is kept tells where `n` is now."""
        if self._kept:
            self._sent = max(self._sent, n - self._kept[0][0] + 1)

    async def _add(self, redis: Redis, data: bytes) -> None:
        async with answering():
            await redis.xadd(self._stream, {ENTRY_FIELD: data})


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
