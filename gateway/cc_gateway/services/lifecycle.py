"""The life of an incarnation: start it, come back to it after a restart of the gateway, end it, bury the session.

Each move is safe to repeat and leaves, wherever it is cut off, a state from which the reconciler goes on: the row says
what is meant before anything is done, and what an incarnation left undone is judged only once nothing of it runs any more.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog
from redis.exceptions import RedisError

from cc_gateway.auth import SessionClaim, Tokens
from cc_gateway.drivers.base import DriverAway, DriverError, SessionDriver, SessionSpec
from cc_gateway.errors import CCError, Unavailable
from cc_gateway.internal import SessionDoors
from cc_gateway.models import Session, SessionStatus, TurnStatus, now
from cc_gateway.redis import access
from cc_gateway.redis.bus import Bus
from cc_gateway.services.cloning import Cloning
from cc_gateway.services.folders import Layout
from cc_gateway.services.launching import LaunchPolicy
from cc_gateway.services.recorder import Recorder
from cc_gateway.settings import DriverSettings
from cc_gateway.stores import sessions, turns
from cc_gateway.stores.record import Recording
from cc_gateway.stores.sessions import storable
from cc_protocol.events import (
    StatusAsleep,
    StatusFailed,
    StatusStarting,
    StatusStopped,
    TurnError,
    TurnFailed,
    TurnInterrupted,
    TurnQueued,
)
from cc_protocol.launch import Secrets
from cc_protocol.outbox import Fatal

log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 3
FINAL_CODES: Final = frozenset({"cli_missing", "cli_version", "bad_configuration", "setup_failed"})
"""What another start would not mend."""

Drain = Callable[[], Awaitable[Fatal | None]]
"""Takes in what an incarnation still said; the reason it gave for not going on, if it gave one."""

STARTS_AT_ONCE: Final = 4
ATTACHED_SECONDS: Final = 1.5
"""For how long a session's user in Redis is taken for granted: less than the time between two looks by themselves."""


@dataclass(frozen=True)
class Ending:
    """What becomes of a session whose incarnation ends, and why."""

    status: SessionStatus
    turn_reason: str
    reason: str | None = None
    failed_start: bool = False
    grace: float = 0


class Lifecycle:
    """Moves a session between having no place to run and having one."""

    def __init__(
        self,
        recorder: Recorder,
        bus: Bus,
        driver: SessionDriver,
        doors: SessionDoors,
        layout: Layout,
        policy: LaunchPolicy,
        tokens: Tokens,
        cloning: Cloning,
        settings: DriverSettings,
    ) -> None:
        self._recorder = recorder
        self._bus = bus
        self._driver = driver
        self._doors = doors
        self._layout = layout
        self._policy = policy
        self._tokens = tokens
        self._settings = settings
        self._cloning = cloning
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._attached: dict[str, tuple[int, float]] = {}

    async def prepare(self, session: Session) -> bool:
        """Whether all is there that the session needs to start; where it is not, it is being fetched.

        Raises:
            DriverAway: nobody's failure: to be tried again.
        """
        if not self._cloning.needed(session):
            return True
        try:
            if await self._cloning.advance(session):
                async with self._recorder.database.write() as connection:
                    reason = f"cloning {session.workspace.git_repo}"
                    await sessions.change(connection, session.id, status=SessionStatus.STARTING, reason=reason)
        except (DriverAway, Unavailable, OSError):
            raise
        except Exception as error:
            await self._failed_to_start(session, error)
        return False

    async def start(self, session: Session) -> None:
        """Give the session a new incarnation. What the place or its settings did wrong counts as a failed start.

        Raises:
            RedisError, DriverAway: nobody's failure: to be tried again.
        """
        async with self._starts:
            await self._bus.redis.ping()
            password, redis_hash = access.new_password()
            async with self._recorder.recording(session.id) as recording:
                incarnation = await sessions.begin_incarnation(
                    recording.connection, session, redis_hash=redis_hash, at=now()
                )
                recording.append(StatusStarting(incarnation=incarnation))
            try:
                handle = await self._launch(session, incarnation, password, redis_hash)
            except (RedisError, Unavailable, DriverAway):
                raise
            except Exception as error:
                await self._failed_to_start(session, error)
                return
        async with self._recorder.recording(session.id) as recording:
            await sessions.change(recording.connection, session.id, handle=handle)
        log.info("session_started", session_id=session.id, incarnation=incarnation, handle=handle)

    async def _launch(self, session: Session, incarnation: int, password: str, redis_hash: str) -> str:
        folders = await asyncio.to_thread(self._layout.create, session, self._driver.owner)
        await self._bus.forget(session.id, incarnation)
        await access.grant(self._bus.redis, session.id, incarnation, redis_hash)
        await self._doors.open(session.id, folders.run)
        secrets = Secrets(
            token=self._tokens.mint_session(SessionClaim(session.id, incarnation)),
            redis_username=access.username(session.id),
            redis_password=password,
        )
        launch = self._policy.launch(session, incarnation, folders)
        image = session.config.image
        return await self._driver.start(SessionSpec(session.id, incarnation, folders, launch, secrets, image))

    async def _failed_to_start(self, session: Session, error: Exception) -> None:
        foreseen = isinstance(error, CCError | DriverError)
        log.warning(
            "session_not_started", session_id=session.id, error=str(error), exc_info=None if foreseen else error
        )
        final = isinstance(error, CCError) or (isinstance(error, DriverError) and not error.retryable)
        async with self._recorder.recording(session.id) as recording:
            await self._count_failure(recording, session, str(error), final=final)
        await self._shut_out(session)

    async def attach(self, session: Session) -> None:
        """Come back to an incarnation that runs: its doors, and its user in Redis. Repeating it changes nothing."""
        if not self._doors.is_open(session.id):
            await self._doors.open(session.id, self._layout.create(session, self._driver.owner).run)
        incarnation, until = self._attached.get(session.id, (0, 0.0))
        if incarnation == session.incarnation and time.monotonic() < until:
            return
        if session.redis_hash and not await access.granted(self._bus.redis, session.id):
            await access.grant(self._bus.redis, session.id, session.incarnation, session.redis_hash)
        self._attached[session.id] = session.incarnation, time.monotonic() + ATTACHED_SECONDS

    async def end(self, session: Session, ending: Ending, drain: Drain) -> None:
        """End the session's incarnation: stop it, take in what it still said, then judge what it left undone."""
        await self._cloning.cancel(session.id)
        await self._end_places(session, ending.grace)
        fatal = await drain()
        async with self._recorder.recording(session.id) as recording:
            current = await sessions.get(recording.connection, session.id)
            if current is None or current.incarnation != session.incarnation:
                return
            await self._end_running_turn(recording, session, ending)
            reason = f"{fatal.code}: {fatal.message}" if fatal else ending.reason
            final = fatal is not None and fatal.code in FINAL_CODES
            if ending.failed_start or final:
                await self._count_failure(recording, session, reason or "unknown", final=final)
            else:
                await self._settle(recording, replace(ending, reason=reason))
        await self._shut_out(session)
        log.info("session_ended", session_id=session.id, incarnation=session.incarnation, status=ending.status.value)

    async def _settle(self, recording: Recording, ending: Ending) -> None:
        await sessions.change(
            recording.connection,
            recording.session_id,
            status=ending.status,
            reason=ending.reason,
            handle=None,
            ready=False,
            idle_since=None,
        )
        if ending.status == SessionStatus.STOPPED:
            recording.append(StatusStopped(reason=ending.reason or "user"))
        else:
            recording.append(StatusAsleep())

    async def _count_failure(self, recording: Recording, session: Session, reason: str, *, final: bool) -> None:
        """Note a start that failed; after the last allowed one the session has failed, and so have its prompts."""
        failures = session.failed_starts + 1
        over = final or failures > self._settings.max_restarts
        await sessions.change(
            recording.connection,
            session.id,
            status=SessionStatus.FAILED if over else SessionStatus.STARTING,
            reason=reason,
            handle=None,
            ready=False,
            failed_starts=0 if over else failures,
        )
        if not over:
            return
        recording.append(StatusFailed(reason=storable(reason)))
        for turn in await turns.all_queued(recording.connection, session.id):
            error = TurnError(type="session_failed", message=f"the session could not be started: {reason}")
            outcome = {"error": error.model_dump(exclude_none=True)}
            if await turns.end(recording.connection, turn.id, TurnStatus.FAILED, outcome, incarnation=None):
                recording.append(TurnFailed(error=error), turn_id=turn.id)

    async def _end_running_turn(self, recording: Recording, session: Session, ending: Ending) -> None:
        """A turn that the model has not heard of goes back to the queue, a few times; any other was interrupted."""
        turn = await turns.running(recording.connection, session.id)
        if turn is None or turn.incarnation != session.incarnation:
            return
        asked = turn.interrupt_reason or ending.status == SessionStatus.STOPPED
        may_repeat = not asked and turn.attempt < MAX_ATTEMPTS
        if may_repeat and await turns.requeue(recording.connection, turn.id, session.incarnation):
            recording.append(TurnQueued(), turn_id=turn.id)
            return
        reason = turn.interrupt_reason or ending.turn_reason
        ended = await turns.end(
            recording.connection,
            turn.id,
            TurnStatus.INTERRUPTED,
            {"reason": reason},
            incarnation=session.incarnation,
        )
        if ended:
            recording.append(TurnInterrupted(reason=reason), turn_id=turn.id)

    async def _end_places(self, session: Session, grace: float) -> None:
        """End where the session runs. A gateway that ended between a start and the note of it has left a place without one."""
        if session.handle:
            await self._driver.stop(session.handle, grace=grace)
        if not session.handle or session.deleted_at:
            for session_id, handle in [item async for item in self._driver.running()]:
                if session_id == session.id:
                    await self._driver.stop(handle, grace=0)

    async def end_orphan(self, session_id: str, handle: str, *, known: bool) -> None:
        """End a place that no session wants. Of a session that is gone, nothing is kept."""
        await self._driver.stop(handle, grace=0)
        if not known:
            await asyncio.to_thread(self._layout.drop_log, session_id)

    async def end_strays(self) -> None:
        """End whatever still runs of this deployment: at the end of the gateway, when nothing is to be left behind."""
        for _, handle in [item async for item in self._driver.running()]:
            await self._driver.stop(handle, grace=0)

    async def bury(self, session: Session, drain: Drain) -> None:
        """Remove a deleted session once nothing of it runs: its processes, its keys, its folders, its rows."""
        await self._cloning.cancel(session.id)
        await self._end_places(session, 0)
        await drain()
        await self._shut_out(session)
        await asyncio.to_thread(self._layout.remove, session)
        async with self._recorder.database.write() as connection:
            await sessions.erase(connection, session.id)
        log.info("session_deleted", session_id=session.id)

    async def _shut_out(self, session: Session) -> None:
        self._attached.pop(session.id, None)
        await self._doors.close(session.id)
        try:
            await access.revoke(self._bus.redis, session.id)
            await self._bus.forget(session.id, session.incarnation)
        except (RedisError, OSError) as error:  # Redis is away: what it held is of no use without a wrapper
            log.warning("redis_not_cleaned", session_id=session.id, error=str(error))
