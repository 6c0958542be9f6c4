"""How anybody follows a session: the record from a cursor on, then live, every event exactly once and in order.

Published messages are hints. A follower delivers only the event behind its cursor, and reads the record whenever anything
else comes along; the newest number of every followed session is looked up once a second in any case. So nothing is missed
or doubled, whatever Redis loses. Previews travel on a connection of their own, are shed when a follower lags, and one that
comes after its final event, or without its beginning, is dropped.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from pydantic import ValidationError
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from cc_gateway.errors import Unavailable
from cc_gateway.models import RecordedEvent
from cc_gateway.redis.bus import Bus
from cc_gateway.stores import record
from cc_gateway.stores.engine import Database
from cc_protocol import keys
from cc_protocol.events import PREVIEW, EventStart

log = structlog.get_logger(__name__)

PAGE: Final = 500
LOOK_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 5.0
MAX_PREVIEW: Final = 256 * 1024
MAX_ANNOUNCED: Final = 1000


@dataclass(frozen=True, slots=True)
class FeedItem:
    """Something to deliver. `seq` is None for a preview; `json` is what goes out."""

    type: str
    json: bytes
    seq: int | None = None
    event_id: str | None = None
    turn_id: str | None = None

    @classmethod
    def of(cls, event: RecordedEvent) -> "FeedItem":
        return cls(event.type, event.to_json(), event.seq, event.id, event.turn_id)


@dataclass(frozen=True, slots=True)
class _Head:
    """The newest number of a session, 0 where the session is gone."""

    seq: int


class _Subscription:
    """One follower's queue. Hints and previews that do not fit are dropped: the record has what counts."""

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[FeedItem | _Head] = asyncio.Queue(size)

    def put(self, item: FeedItem | _Head) -> None:
        preview = isinstance(item, FeedItem) and item.seq is None
        if preview and self._queue.qsize() > self._queue.maxsize // 2:
            return
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(item)

    async def get(self) -> FeedItem | _Head:
        return await self._queue.get()


class Feed:
    """One for the gateway: two connections to Redis, however many follow."""

    def __init__(self, database: Database, bus: Bus, *, queue_size: int) -> None:
        self._database = database
        self._bus = bus
        self._queue_size = queue_size
        self._subscriptions: dict[str, set[_Subscription]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._outputs: PubSub | None = None
        self._previews: PubSub | None = None

    @property
    def followers(self) -> int:
        return sum(len(group) for group in self._subscriptions.values())

    async def open(self) -> None:
        self._outputs = self._bus.pubsub()
        self._previews = self._bus.pubsub()
        self._tasks = [
            asyncio.create_task(self._listen(self._outputs, keys.OUTPUT_PATTERN, self._on_output), name="feed-outputs"),
            asyncio.create_task(
                self._listen(self._previews, keys.PREVIEW_PATTERN, self._on_preview), name="feed-previews"
            ),
            asyncio.create_task(self._look(), name="feed-look"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def follow(self, session_id: str, *, after: int, previews: bool) -> AsyncIterator[FeedItem]:
        """Everything behind `after`, from the record and then live; ends when the session is deleted."""
        subscription = _Subscription(self._queue_size)
        group = self._subscriptions.setdefault(session_id, set())
        group.add(subscription)
        try:
            async for item in self._deliver(session_id, after, subscription, previews):
                yield item
        finally:
            group.discard(subscription)
            if not group:
                self._subscriptions.pop(session_id, None)

    async def _deliver(
        self, session_id: str, cursor: int, subscription: _Subscription, previews: bool
    ) -> AsyncIterator[FeedItem]:
        order = _PreviewOrder()
        behind = True
        while True:
            while behind:
                batch, behind = await self._read(session_id, cursor)
                for item in batch:
                    order.final(item)
                    cursor = item.seq or cursor
                    yield item
            entry = await subscription.get()
            if isinstance(entry, _Head):
                if entry.seq == 0 and cursor > 0:
                    return
                behind = entry.seq > cursor
            elif entry.seq is None:
                if previews and order.allows(entry):
                    yield entry
            elif entry.seq == cursor + 1:
                order.final(entry)
                cursor = entry.seq
                yield entry
            else:
                behind = entry.seq > cursor

    async def _read(self, session_id: str, after: int) -> tuple[list[FeedItem], bool]:
        """The next page, and whether there is another; a database that is away is waited for: a stream outlives that."""
        while True:
            try:
                async with self._database.read() as connection:
                    if await record.head(connection, session_id) <= after:  # mostly so, and cheap to ask
                        return [], False
                    events, more = await record.read(connection, session_id, after=after, limit=PAGE)
                return [FeedItem.of(event) for event in events], more
            except Unavailable:
                await asyncio.sleep(LOOK_SECONDS)

    # ------------------------------------------------------------ the three tasks

    async def _listen(self, pubsub: PubSub, pattern: str, handle: Any) -> None:
        """Hand on what is published; a connection that is gone, also one that only fell silent, is made anew."""
        while True:
            try:
                await pubsub.psubscribe(pattern)
                heard = time.monotonic()
                while time.monotonic() - heard < 3 * SILENCE_SECONDS:
                    message = await pubsub.get_message(timeout=SILENCE_SECONDS)
                    if message is None:
                        await pubsub.ping()
                        continue
                    heard = time.monotonic()
                    if message["type"] == "pmessage":
                        handle(keys.session_of(message["channel"].decode()), message["data"])
            except Exception as error:  # it must go on: without it previews and hints would end for good
                log.warning("feed_disconnected", pattern=pattern, error=repr(error))
                await asyncio.sleep(0.25)
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _on_output(self, session_id: str, data: bytes) -> None:
        if group := self._subscriptions.get(session_id):
            event = orjson.loads(data)
            item = FeedItem(event["type"], data, event["seq"], event["id"], event["turn_id"])
            for subscription in group:
                subscription.put(item)

    def _on_preview(self, session_id: str, data: bytes) -> None:
        group = self._subscriptions.get(session_id)
        if group and (item := _preview(session_id, data)):
            for subscription in group:
                subscription.put(item)

    async def _look(self) -> None:
        """Once a second: tell every follower how far its session has come."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            followed = list(self._subscriptions)
            try:
                heads: dict[str, int] = {}
                for start in range(0, len(followed), PAGE):
                    async with self._database.read() as connection:
                        heads |= await record.heads_of(connection, followed[start : start + PAGE])
            except Exception as error:
                log.warning("feed_look_failed", error=repr(error))
                continue
            for session_id in followed:
                for subscription in self._subscriptions.get(session_id, ()):
                    subscription.put(_Head(heads.get(session_id, 0)))


def _preview(session_id: str, data: bytes) -> FeedItem | None:
    """A preview as it goes out: checked, for it comes from a container, and with the session beside it."""
    if len(data) > MAX_PREVIEW:
        return None
    try:
        preview = PREVIEW.validate_json(data)
    except ValidationError:
        return None
    event_id = preview.event.id if isinstance(preview, EventStart) else preview.event_id
    fields = preview.model_dump(mode="json", exclude_none=True) | {"session_id": session_id}
    return FeedItem(preview.type, orjson.dumps(fields), event_id=event_id)


class _PreviewOrder:
    """Which previews may still be delivered to one follower: those between an announcement and the final event."""

    def __init__(self) -> None:
        self._announced: set[str] = set()
        self._finished: OrderedDict[str, None] = OrderedDict()

    def final(self, item: FeedItem) -> None:
        assert item.event_id is not None
        self._announced.discard(item.event_id)
        self._finished[item.event_id] = None
        if len(self._finished) > MAX_ANNOUNCED:
            self._finished.popitem(last=False)

    def allows(self, item: FeedItem) -> bool:
        assert item.event_id is not None
        if item.event_id in self._finished:
            return False
        if item.type == "event_start":
            if len(self._announced) >= MAX_ANNOUNCED:  # a container may announce what it never delivers
                self._announced.clear()
            self._announced.add(item.event_id)
        return item.event_id in self._announced
