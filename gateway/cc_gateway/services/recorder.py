"""Writes the record and, once it is committed, tells listeners and the reconciler. Everything that is stated goes this way."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.redis.bus import Bus
from cc_gateway.stores import record
from cc_gateway.stores.engine import Database
from cc_gateway.stores.record import Recording

Begin = Callable[[AsyncConnection], Awaitable[None]]


class Recorder:
    """`wake` is set by the application: it makes the reconciler look at a session now."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self.database = database
        self.bus = bus
        self.wake: Callable[[str], None] = lambda session_id: None

    @asynccontextmanager
    async def recording(self, session_id: str, *, begin: Begin | None = None) -> AsyncIterator[Recording]:
        """A record transaction. What is appended is committed at the end of the block, then published.

        `begin` runs first in the same transaction: it may make the session that the record is of.
        """
        async with self.database.write() as connection:
            if begin:
                await begin(connection)
            async with record.recording_in(connection, session_id) as recording:
                yield recording
        self.wake(session_id)
        if recording.appended:
            self.bus.publish_soon(session_id, [event.to_json() for event in recording.appended])
