"""Plays a wrapper's entries into the outbox of a session that is at rest, and waits for their acknowledgement.

The session is a real one, with a real wrapper and `claude`, which have nothing to say meanwhile. The played entries go on
where its last acknowledgement stands; of acknowledgements for what it never sent the wrapper makes nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from redis.asyncio import Redis

from bench.world import World
from cc_protocol.commands import COMMAND, Ack
from cc_protocol.events import AgentMessage
from cc_protocol.ids import EVENT, new_id
from cc_protocol.keys import COMMAND_FIELD, ENTRY_FIELD, input_stream, outbox_stream
from cc_protocol.outbox import Claim, Lines

SETTLE_SECONDS = 30.0
FIRST = 1
"""The incarnation of a session that has just been made."""

PIPELINE = 200  # as many entries as a wrapper sends at once
TEXT = "What an agent says in a line of ordinary length, so that an event has some half a kilobyte. " * 3


class Player:
    """Speaks for one incarnation."""

    def __init__(self, redis: Redis, session_id: str, incarnation: int) -> None:
        self.session_id = session_id
        self._redis = redis
        self._incarnation = incarnation
        self._input = input_stream(session_id)
        self._outbox = outbox_stream(session_id, incarnation)

    async def acknowledged(self) -> tuple[int, Any]:
        """The last number that the gateway has on record, and where in the stream that stands."""
        newest: Any = await self._redis.xrevrange(self._input, count=50)
        for message_id, fields in newest:
            command = COMMAND.validate_json(fields[COMMAND_FIELD.encode()])
            if isinstance(command, Ack) and command.incarnation == self._incarnation:
                return command.n, message_id
        raise RuntimeError("the session has acknowledged nothing yet")

    async def entries(self, count: int) -> list[bytes]:
        """So many entries, one event each, which go on behind what is acknowledged. Made before they are timed."""
        await self._settled()
        last, _ = await self.acknowledged()
        return [_entry(n) for n in range(last + 1, last + 1 + count)]

    async def play(self, entries: list[bytes]) -> int:
        """Send the entries as fast as Redis takes them; when that began (`time.monotonic_ns`)."""
        begun = time.monotonic_ns()
        for start in range(0, len(entries), PIPELINE):
            pipeline = self._redis.pipeline(transaction=False)
            for entry in entries[start : start + PIPELINE]:
                pipeline.xadd(self._outbox, {ENTRY_FIELD: entry})
            await pipeline.execute()
        return begun

    async def wait_for_ack(self, n: int, seconds: float) -> int:
        """When the acknowledgement of entry `n` could be read (`time.monotonic_ns`)."""
        last: Any = b"$"
        async with asyncio.timeout(seconds):
            reached, last = await self.acknowledged()
            while reached < n:
                answer: Any = await self._redis.xread({self._input: last}, block=1000)
                for _, messages in answer or []:
                    for message_id, fields in messages:
                        last = message_id
                        command = COMMAND.validate_json(fields[COMMAND_FIELD.encode()])
                        reached = max(reached, command.n) if isinstance(command, Ack) else reached
        return time.monotonic_ns()

    async def _settled(self) -> None:
        """Wait until nothing is left in the outbox: what `claude` said when it started is on record."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while await self._redis.xlen(self._outbox):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def player(world: World, session_id: str) -> AsyncIterator[Player]:
    """A player with a connection of its own, as the gateway's own user: the session's may not read what it wrote."""
    async with Redis.from_url(world.redis_url, protocol=2) as redis:
        yield Player(redis, session_id, FIRST)


def _entry(n: int) -> bytes:
    event_id = new_id(EVENT)
    body = AgentMessage(content=[{"type": "text", "text": f"{n}: {TEXT}"}], model="scripted")
    raw = orjson.dumps({"type": "assistant", "message": {"content": TEXT}, "uuid": event_id}).decode()
    return Lines(n=n, claims=[Claim(id=event_id, body=body)], raw=raw).model_dump_json().encode()
