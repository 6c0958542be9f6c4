"""The relay: reads a session's outbox, puts it on record, tells listeners, acknowledges.

One relay a session and incarnation. It becomes the session's owner by raising its epoch; whoever raised it before is fenced
from then on. The outbox is read from its head, and only what has been committed is dropped from it: so a crash at any point
leaves everything either in the outbox or in the record, and the number of each entry tells the two apart.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from redis.exceptions import RedisError

from cc_gateway.errors import Fenced, Unavailable
from cc_gateway.models import Session
from cc_gateway.redis.bus import BLOCK_MS, Bus
from cc_gateway.services import intake
from cc_gateway.services.intake import Batch, Malformed
from cc_gateway.stores import record
from cc_gateway.stores.engine import Database
from cc_gateway.stores.record import Fence
from cc_protocol.commands import Ack
from cc_protocol.outbox import Beat, Fatal, Lines

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 0.25
RESEND_SECONDS: Final = 1.0


@dataclass
class Liveness:
    """What is known of a wrapper: by the relay's own clock, and only as long as Redis was there to tell."""

    heard_at: float = field(default_factory=time.monotonic)
    assumed: bool = True
    """Whether nothing was heard since it began, Redis was away, or the wrapper was paused."""
    beat: Beat | None = None
    beat_at: float = 0.0
    fatal: Fatal | None = None

    def heard(self, beat: Beat | None) -> None:
        self.heard_at, self.assumed = time.monotonic(), False
        if beat:
            self.beat, self.beat_at = beat, self.heard_at

    def excuse(self) -> None:
        """Redis was away, or the wrapper was paused: silence counts from now on."""
        self.heard_at, self.assumed = time.monotonic(), True

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self.heard_at


class Relay:
    """Reads one incarnation's outbox until it is closed, drained or fenced."""

    def __init__(
        self, session: Session, database: Database, bus: Bus, wake: Callable[[str], None], max_bytes: int
    ) -> None:
        self.incarnation = session.incarnation
        self.liveness = Liveness()
        self._session_id = session.id
        self._database = database
        self._bus = bus
        self._wake = wake
        self._max_bytes = max_bytes
        self._fence: Fence | None = None
        self._asked_again = 0.0
        self._closing = False
        self._task = asyncio.create_task(self._run(), name=f"relay-{session.id}")

    @property
    def done(self) -> bool:
        """Whether it has been fenced."""
        return self._task.done()

    async def close(self) -> None:
        self._closing = True  # a library below may swallow a cancellation
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def drain(self) -> None:
        """Stop following, and take in what is left: called when nothing writes to the outbox any more."""
        await self.close()
        try:
            while await self._step(block_ms=0):
                pass
        except Fenced:
            return
        except Unavailable:  # the record is away: nothing may be judged before what is left has been taken in
            raise
        except Exception:  # what cannot be read must not keep the session from ending
            log.exception("outbox_not_drained", session_id=self._session_id)

    async def _run(self) -> None:
        while not self._closing:
            try:
                await self._step(block_ms=BLOCK_MS)
            except Fenced:
                log.warning("relay_fenced", session_id=self._session_id, incarnation=self.incarnation)
                return
            except (RedisError, OSError, Unavailable) as error:
                log.warning("relay_waits", session_id=self._session_id, error=str(error))
                self.liveness.excuse()
                self._fence = None  # a commit may have been made whose answer was lost: the head row knows
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # a relay that dies unseen would hang its session
                log.exception("relay_failed", session_id=self._session_id)
                self._fence = None
                await asyncio.sleep(RETRY_SECONDS)

    async def _step(self, *, block_ms: int) -> bool:
        """Take in one reading. False where there was nothing."""
        if self._fence is None:
            self._fence = await self._claim()
        raw = await self._bus.read_outbox(self._session_id, self.incarnation, block_ms=block_ms)
        if not raw:
            return False
        batch = intake.parse(raw, self._fence.outbox_n, self._max_bytes)
        self.liveness.heard(batch.beat)
        events: list[bytes] = []
        if batch.items:
            self._fence, recorded = await intake.take(self._database, self._session_id, self._fence, batch.items)
            events = [event.to_json() for event in recorded]
        await self._bus.settle(self._session_id, batch.ids, self._answer(batch), events, self.incarnation)
        self._notice(batch)
        return True

    def _answer(self, batch: Batch) -> Ack | None:
        """What the wrapper is told; nothing where it only showed that it lives."""
        if not (batch.items or batch.repeated or batch.gap):
            return None
        assert self._fence is not None
        resend = batch.gap and time.monotonic() - self._asked_again > RESEND_SECONDS
        if resend:
            self._asked_again = time.monotonic()
        return Ack(incarnation=self.incarnation, n=self._fence.outbox_n, resend=resend)

    async def _claim(self) -> Fence:
        async with self._database.write() as connection:
            fence = await record.claim(connection, self._session_id)
        if fence is None or fence.incarnation != self.incarnation:
            raise Fenced(f"incarnation {self.incarnation} is over")
        return fence

    def _notice(self, batch: Batch) -> None:
        """Wake the reconciler where there is something for it to do."""
        for item in batch.items:
            if isinstance(item, Fatal):
                self.liveness.fatal = item
            if not isinstance(item, Lines | Malformed):
                self._wake(self._session_id)


class Relays:
    """The relays of this gateway, one a session."""

    def __init__(self, database: Database, bus: Bus, max_bytes: int) -> None:
        self._database = database
        self._bus = bus
        self._max_bytes = max_bytes
        self._relays: dict[str, Relay] = {}
        self.wake: Callable[[str], None] = lambda session_id: None

    async def ensure(self, session: Session) -> Relay:
        """The relay of the session's present incarnation."""
        relay = self._relays.get(session.id)
        if relay and relay.incarnation == session.incarnation and not relay.done:
            return relay
        if relay:
            await relay.close()
        relay = Relay(session, self._database, self._bus, lambda session_id: self.wake(session_id), self._max_bytes)
        self._relays[session.id] = relay
        return relay

    def liveness(self, session: Session) -> Liveness | None:
        """What is known of the wrapper of the session's present incarnation, where this gateway has its relay."""
        relay = self._relays.get(session.id)
        if relay is None or relay.done or relay.incarnation != session.incarnation:
            return None
        return relay.liveness

    async def drain(self, session: Session) -> Fatal | None:
        """Take in what the session's incarnation still said, and end its relay."""
        relay = await self.ensure(session)
        await relay.drain()
        self._relays.pop(session.id, None)
        return relay.liveness.fatal

    async def close(self) -> None:
        for relay in self._relays.values():
            await relay.close()
        self._relays.clear()
