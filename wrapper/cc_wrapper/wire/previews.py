"""Previews: token deltas, published and forgotten. They are shed when they cannot be sent, and never slow the rest."""

import asyncio
from collections import deque
from typing import Final

from redis.asyncio import Redis

from cc_protocol.events import EventDelta, EventStart
from cc_protocol.keys import preview_channel
from cc_wrapper.wire.link import answering

_QUEUED: Final = 1000
_BATCH: Final = 100


class Previews:
    def __init__(self, session_id: str) -> None:
        self._channel = preview_channel(session_id)
        self._queue: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self.shed = 0

    def put(self, previews: list[EventStart | EventDelta]) -> None:
        for preview in previews:
            if len(self._queue) >= _QUEUED:
                self.shed += 1
            else:
                self._queue.append(preview.model_dump_json().encode())
        if previews:
            self._wake.set()

    async def send(self, redis: Redis) -> None:
        """Publish on this connection until it fails. What is old by now is of no use any more."""
        self._queue.clear()
        while True:
            self._wake.clear()
            pipeline = redis.pipeline(transaction=False)
            for _ in range(min(_BATCH, len(self._queue))):
                pipeline.publish(self._channel, self._queue.popleft())
            if len(pipeline):
                async with answering():
                    await pipeline.execute()
            elif not self._queue:
                await self._wake.wait()
