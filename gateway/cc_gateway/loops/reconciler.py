"""The reconciler: compares what the database wants with what the driver, Redis and the wrapper report, and closes the gap.

It is level-triggered: each look (`looks` says when) reads how things are, closes one gap, and says when to look again.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from cc_gateway.drivers.base import DriverError, SessionDriver
from cc_gateway.errors import CCError
from cc_gateway.loops.looks import Looks
from cc_gateway.loops.relay import Liveness, Relay, Relays
from cc_gateway.models import LIVE, Session, SessionStatus, TurnState, now
from cc_gateway.redis.bus import Bus
from cc_gateway.services import dispatch
from cc_gateway.services.lifecycle import Ending, Lifecycle
from cc_gateway.services.recorder import Recorder
from cc_gateway.services.turns import TurnService
from cc_gateway.settings import DriverSettings, LimitSettings
from cc_gateway.stores import idempotency, sessions, turns

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 2.5
"""A wrapper that was heard so lately runs: it shows every 2 s that it does."""

REST_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 30.0
INTERRUPT_GRACE: Final = timedelta(seconds=20)  # the wrapper tries for 15, then kills claude
LOST_COMMAND_SECONDS: Final = 3.0


@dataclass(frozen=True)
class _View:
    """What the database says of a session. Read statement by statement: every move checks again where it writes."""

    session: Session
    running: TurnState | None
    queued: TurnState | None

    def calls_for(self, liveness: Liveness) -> bool:
        """Whether somebody wants something of a wrapper that was halted: a prompt that it cannot have heard, an interrupt."""
        turn = self.running
        if turn is None:
            return self.queued is not None
        handed = (now() - (turn.started_at or now())).total_seconds()
        return turn.interrupted_at is not None or liveness.silent_seconds > handed


class Reconciler:
    """`wake` it about a session; `run` it as a task of the application."""

    def __init__(
        self,
        recorder: Recorder,
        bus: Bus,
        driver: SessionDriver,
        lifecycle: Lifecycle,
        relays: Relays,
        turn_service: TurnService,
        settings: DriverSettings,
        limits: LimitSettings,
    ) -> None:
        self._database = recorder.database
        self._bus = bus
        self._recorder = recorder
        self._driver = driver
        self._lifecycle = lifecycle
        self._relays = relays
        self._turns = turn_service
        self._settings = settings
        self._limits = limits
        self._began = now()
        self._known_as_current: set[str] = set()
        self._looks = Looks(self._look)
        self.wake = self._looks.wake

    async def run(self) -> None:
        """Look at every session at the start, and sweep up what nobody wants from time to time."""
        while True:
            try:
                async with self._database.read() as connection:
                    wanted = await sessions.wanted(connection)
                for session_id in wanted:
                    if not self._looks.waits(session_id):
                        self.wake(session_id)
                await self._sweep()
                async with self._database.write() as connection:
                    await idempotency.forget_old(connection)
            except Exception as error:  # it must go on, whatever one round met
                foreseen = isinstance(error, CCError | DriverError)
                log.warning("sweep_failed", error=repr(error), exc_info=None if foreseen else error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def close(self) -> None:
        await self._looks.close()

    def hears(self, session: Session) -> bool:
        """Whether the wrapper of the session's present incarnation was heard just now: it takes a prompt without a look."""
        liveness = self._relays.liveness(session)
        if liveness is None or liveness.assumed or liveness.fatal is not None:
            return False
        return liveness.silent_seconds < FRESH_SECONDS

    # ------------------------------------------------------------ what to do

    async def _look(self, session_id: str) -> float | None:
        """Close one gap, if there is one. Returns the seconds until the next look, None for not by itself."""
        view = await self._view(session_id)
        if view is None:
            return None
        session = view.session
        if session.deleted_at:
            await self._lifecycle.bury(session, lambda: self._relays.drain(session))
            return None
        if session.stop_requested and session.status != SessionStatus.STOPPED:
            await self._end(
                session, Ending(SessionStatus.STOPPED, "stopped", reason="user", grace=self._settings.stop_grace)
            )
            return None
        if session.handle is None:
            return await self._without_place(view)
        return await self._with_place(view, session.handle)

    async def _view(self, session_id: str) -> _View | None:
        async with self._database.read() as connection:
            session = await sessions.get(connection, session_id)
            if session is None:
                return None
            return _View(session, *await turns.next_two(connection, session_id))

    async def _without_place(self, view: _View) -> float | None:
        """Nothing runs: start it where it is wanted."""
        session = view.session
        if view.running is not None:  # the gateway ended between stopping a place and judging its turn
            await self._end(session, Ending(SessionStatus.ASLEEP, "session_lost"))
            return 0
        if session.status in LIVE or view.queued is not None:
            if not await self._lifecycle.prepare(session):
                return LOOK_SECONDS
            await self._lifecycle.start(session)
            return float(0.25 * 2**session.failed_starts)
        return None

    async def _with_place(self, view: _View, handle: str) -> float | None:
        session = view.session
        await self._lifecycle.attach(session)
        relay = await self._relays.ensure(session)
        heard = relay.liveness
        doubtful = heard.fatal is not None or heard.silent_seconds > FRESH_SECONDS
        if doubtful and await self._is_over(view, handle, heard):
            return 0
        if not session.ready:
            return await self._watch_start(session)
        if view.running is not None:
            return await self._watch_turn(session, view.running, relay)
        if view.queued is not None:
            await dispatch.hand_over(self._recorder, self._bus, session, view.queued)
            return LOOK_SECONDS
        return await self._watch_rest(session)

    async def _is_over(self, view: _View, handle: str, liveness: Liveness) -> bool:
        """Judge a place of which nothing was heard lately: what has ended, or said nothing for too long, is lost.

        One that somebody has paused is left alone, until a prompt or an interrupt wakes it.
        """
        if exit := await self._driver.poll(handle):
            await self._lost(view.session, exit.reason)
            return True
        if await self._driver.paused(handle):
            if view.calls_for(liveness):
                await self._driver.resume(handle)
            liveness.excuse()
            return False
        if liveness.silent_seconds > self._settings.silence_seconds:
            await self._lost(view.session, f"it said nothing for {self._settings.silence_seconds:.0f} s")
            return True
        return False

    async def _lost(self, session: Session, why: str) -> None:
        """The incarnation has ended by itself, or has to be taken for dead."""
        log.warning("session_lost", session_id=session.id, incarnation=session.incarnation, why=why)
        if session.ready:
            await self._end(session, Ending(SessionStatus.ASLEEP, "session_lost"))
            return
        logs = await self._driver.logs(session.id, tail=5)
        reason = f"it ended before it was ready: {why}" + (f"\n{logs}" if logs else "")
        await self._end(session, Ending(SessionStatus.ASLEEP, "session_lost", reason=reason[:2000], failed_start=True))

    async def _watch_start(self, session: Session) -> float:
        began = session.incarnation_started_at
        limit = self._settings.start_timeout + (self._settings.setup_timeout if session.config.setup else 0)
        if began and now() - began > timedelta(seconds=limit):
            reason = f"it was not ready after {limit:.0f} s"
            await self._end(session, Ending(SessionStatus.ASLEEP, "session_lost", reason=reason, failed_start=True))
            return 0
        return 0.5

    async def _watch_turn(self, session: Session, turn: TurnState, relay: Relay) -> float:
        """See to it that the wrapper has the turn, and that the turn ends when it has to."""
        if turn.interrupted_at:
            if now() - turn.interrupted_at > INTERRUPT_GRACE:
                await self._end(session, Ending(SessionStatus.ASLEEP, turn.interrupt_reason or "interrupted"))
                return 0
            await dispatch.send_interrupt(self._bus, session, turn)
            return LOOK_SECONDS
        limit = timedelta(seconds=session.config.timeout_seconds or self._limits.turn_timeout_seconds)
        left = ((turn.started_at or now()) + limit - now()).total_seconds()
        if left <= 0:
            await self._turns.interrupt(session.id, turn.id, reason="timeout")
            return LOOK_SECONDS
        beat = relay.liveness.beat
        handed = (now() - (turn.started_at or now())).total_seconds()
        fresh = time.monotonic() - relay.liveness.beat_at < LOST_COMMAND_SECONDS
        known = beat and turn.id in (beat.turn_id, beat.last_turn_id, *beat.pending)
        if beat and fresh and handed > LOST_COMMAND_SECONDS and not known:
            log.info("prompt_sent_again", session_id=session.id, turn_id=turn.id)
            await dispatch.send_prompt(self._recorder, self._bus, session, turn)
        return min(LOOK_SECONDS, max(left, 0.01))

    async def _watch_rest(self, session: Session) -> float:
        if session.idle_since is None:
            return LOOK_SECONDS
        limit = timedelta(seconds=session.config.idle_timeout_seconds or self._limits.idle_timeout_seconds)
        left = (session.idle_since + limit - now()).total_seconds()
        if left <= 0 or await self._is_outdated(session):
            await self._end(session, Ending(SessionStatus.ASLEEP, "session_lost", grace=self._settings.stop_grace))
            return 0
        return min(REST_SECONDS, max(left, 0.01))

    async def _is_outdated(self, session: Session) -> bool:
        """Whether another version of us has started it, with another wrapper. Only what is older than this gateway can be."""
        handle, began = session.handle, session.incarnation_started_at
        if handle is None or began is None or began > self._began or handle in self._known_as_current:
            return False
        if await self._driver.outdated(handle):
            log.info("session_outdated", session_id=session.id)
            return True
        self._known_as_current.add(handle)
        return False

    async def _end(self, session: Session, ending: Ending) -> None:
        await self._lifecycle.end(session, ending, lambda: self._relays.drain(session))

    async def stop_all(self) -> None:
        """At the end of the gateway: put what runs to sleep. Prompts that the model has not heard of stay queued."""
        await self.close()
        async with self._database.read() as connection:
            live = [await sessions.get(connection, session_id) for session_id in await sessions.wanted(connection)]
        endings = [
            self._end(session, Ending(SessionStatus.ASLEEP, "gateway_stopped", grace=self._settings.stop_grace))
            for session in live
            if session and session.handle
        ]
        for result in await asyncio.gather(*endings, return_exceptions=True):
            if isinstance(result, BaseException):
                log.warning("session_not_stopped", error=repr(result))
        await self._lifecycle.end_strays()

    # ------------------------------------------------------------ what nobody wants

    async def _sweep(self) -> None:
        """End what runs for no session. First the places, then the database: a new session is never taken for an orphan."""
        found = [item async for item in self._driver.running()]
        for session_id, handle in found:
            async with self._database.read() as connection:
                session = await sessions.get(connection, session_id)
            wanted = session and session.status in LIVE and not session.deleted_at
            if session and wanted and session.handle in (handle, None):
                continue
            log.warning("orphan_ended", session_id=session_id, handle=handle)
            await self._lifecycle.end_orphan(session_id, handle, known=session is not None)
