"""Reads the record for the API: pages of events, the conversation, how many sessions there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cc_gateway.models import RecordedEvent
from cc_gateway.services.conversation import TYPES, Step, to_step
from cc_gateway.stores import record, sessions
from cc_gateway.stores.engine import Database


@dataclass(frozen=True)
class Page:
    """Some events, the number of the session's newest, and where to go on (None: this was the last page)."""

    events: list[RecordedEvent]
    last_seq: int
    following: int | None


class Reader:
    """Reads; callers have checked that the session is theirs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(
        self,
        session_id: str,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        types: Sequence[str] = (),
        order: Literal["asc", "desc"] = "asc",
        raw: bool = False,
    ) -> Page:
        async with self._database.read() as connection:
            last_seq = await record.head(connection, session_id)
            found, more = await record.read(
                connection, session_id, after=after, before=before, limit=limit, types=types, order=order, raw=raw
            )
        return Page(found, last_seq, found[-1].seq if more else None)

    async def conversation(self, session_id: str, *, after: int, limit: int) -> tuple[list[Step], int | None]:
        """The conversation as a person reads it, and where to go on."""
        page = await self.events(session_id, after=after, limit=limit, types=TYPES)
        return [to_step(event) for event in page.events], page.following

    async def last_seq(self, session_id: str) -> int:
        async with self._database.read() as connection:
            return await record.head(connection, session_id)

    async def sessions_by_status(self) -> dict[str, int]:
        async with self._database.read() as connection:
            return await sessions.counts_by_status(connection)
