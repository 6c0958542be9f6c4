"""Turns: queue a prompt, wait for its end, interrupt, cancel. The turns table is the queue."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge, TooManyRequests
from cc_gateway.models import ENDED, Session, SessionStatus, Turn, TurnStatus, now
from cc_gateway.services import dispatch
from cc_gateway.services.feed import Feed
from cc_gateway.services.recorder import Recorder
from cc_gateway.settings import LimitSettings
from cc_gateway.stores import idempotency, locks, record
from cc_gateway.stores import sessions as sessions_store
from cc_gateway.stores import turns as turns_store
from cc_gateway.stores.engine import Database
from cc_gateway.stores.record import Recording
from cc_protocol.events import TurnCanceled, TurnQueued, UserInterrupt, UserMessage
from cc_protocol.ids import TURN, is_id, new_id

log = structlog.get_logger(__name__)

NOTHING = "nothing"
"""What an interrupt meant that found no turn."""


ENDINGS = frozenset({"turn.completed", "turn.failed", "turn.interrupted", "turn.canceled"})


class TurnService:
    """The use cases of turns. Callers have checked that the session is theirs.

    `is_heard` is set by the application: whether this gateway has heard the session's wrapper just now.
    """

    def __init__(self, database: Database, recorder: Recorder, feed: Feed, limits: LimitSettings) -> None:
        self._database = database
        self._recorder = recorder
        self._feed = feed
        self._limits = limits
        self._sending: set[asyncio.Task[None]] = set()
        self.is_heard: Callable[[Session], bool] = lambda session: False

    def check_size(self, content: list[dict[str, Any]]) -> None:
        try:
            size = len(orjson.dumps(content))
        except TypeError:
            raise InvalidRequest(
                "the prompt holds characters that no text has (lone surrogates)", code="invalid_prompt"
            ) from None
        if size > self._limits.max_prompt_bytes:
            raise PayloadTooLarge(
                f"the prompt has {size} bytes as JSON; {self._limits.max_prompt_bytes} are allowed",
                code="prompt_too_large",
                details={"size": size, "limit": self._limits.max_prompt_bytes},
            )
        if any("\x00" in text for text in _texts(content)):
            raise InvalidRequest("the prompt holds a NUL character (U+0000): take it out", code="invalid_prompt")

    async def submit(
        self, owner: str, session_id: str, content: list[dict[str, Any]], *, key: tuple[str, str] | None = None
    ) -> Turn:
        """Queue a prompt: turn and `user.message` are committed together when this returns.

        Where the session rests and its wrapper is there, the turn starts in the same transaction: nobody has to look first.

        Raises:
            PayloadTooLarge: the prompt is over the limit.
            TooManyRequests: as many turns wait as may wait.
            Conflict: the idempotency key was used for another request.
        """
        self.check_size(content)
        async with self._recorder.recording(session_id) as recording:
            connection = recording.connection
            made = key and await idempotency.find(connection, owner, *key)
            if made and (turn := await turns_store.get(connection, session_id, made)):
                return turn
            session, waiting = await self._check_queue(recording)
            turn = await self.queue(recording, content)
            rests = session.status == SessionStatus.IDLE and session.ready and not (waiting or session.stop_requested)
            started = rests and self.is_heard(session) and await dispatch.start(recording, session, turn)
            if key:
                await idempotency.keep(connection, owner, *key, turn.id)
        if started:
            self._send_soon(session, turn)
        return turn

    def _send_soon(self, session: Session, turn: Turn) -> None:
        """Send a prompt that has been accepted and started: whatever becomes of it now, the reconciler sees to the rest."""

        async def send() -> None:
            try:
                await dispatch.send(self._recorder.bus, session, turn.id, turn.content)
            except (RedisError, OSError) as error:
                log.warning("prompt_not_sent", session_id=session.id, turn_id=turn.id, error=str(error))

        task = asyncio.create_task(send(), name=f"prompt-{turn.id}")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def queue(
        self, recording: Recording, content: list[dict[str, Any]], *, created_at: datetime | None = None
    ) -> Turn:
        """Queue a prompt within a record transaction. The session is wanted again from here on."""
        connection, session_id = recording.connection, recording.session_id
        turn = await turns_store.add(connection, new_id(TURN), session_id, content, created_at=created_at)
        await sessions_store.change(connection, session_id, stop_requested=False, failed_starts=0)
        recording.append(UserMessage(content=content), turn_id=turn.id)
        recording.append(TurnQueued(), turn_id=turn.id)
        return turn

    async def _check_queue(self, recording: Recording) -> tuple[Session, int]:
        """The session, and how many turns wait. Raises where no other may."""
        session = await sessions_store.get(recording.connection, recording.session_id)
        if session is None or session.deleted_at:
            raise NotFound(f"no session {recording.session_id}")
        await self.check_workspace(recording.connection, session)
        waiting = await turns_store.queued(recording.connection, recording.session_id)
        if waiting >= self._limits.max_queued_turns:
            raise TooManyRequests(
                f"{self._limits.max_queued_turns} turns wait in this session already",
                retry_after=5,
                code="too_many_queued_turns",
                details={"limit": self._limits.max_queued_turns},
            )
        return session, waiting

    async def check_workspace(self, connection: AsyncConnection, session: Session) -> None:
        """Raises `Conflict` while another session works in the same persistent workspace."""
        if session.workspace.id is None:
            return
        await locks.hold(connection, "workspace", session.owner, session.workspace.id)
        if other := await sessions_store.in_same_workspace(connection, session):
            raise Conflict(
                f"the workspace {session.workspace.id} is in use by {other}: stop or delete that session first",
                code="workspace_in_use",
                details={"session_id": other},
            )

    async def get(self, session_id: str, turn_id: str) -> Turn:
        turn = None
        if is_id(turn_id, TURN):
            async with self._database.read() as connection:
                turn = await turns_store.get(connection, session_id, turn_id)
        if turn is None:
            raise NotFound(f"no turn {turn_id[:80]} in this session")
        return turn

    async def page(
        self, session_id: str, *, status: TurnStatus | None, after: int, limit: int
    ) -> tuple[list[Turn], int | None]:
        """Oldest first, and the number to go on after."""
        async with self._database.read() as connection:
            found = await turns_store.page(connection, session_id, status=status, after=after, limit=limit + 1)
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    async def wait(self, session_id: str, turn_id: str, timeout: float | None) -> Turn:
        """The turn once it has ended, or as it is after `timeout` seconds: the wait ends, not the turn."""
        try:
            async with asyncio.timeout(timeout):
                async with self._database.read() as connection:
                    cursor = await record.head(connection, session_id)
                turn = await self.get(session_id, turn_id)
                if turn.status in ENDED:
                    return turn
                async for item in self._feed.follow(session_id, after=cursor, previews=False):
                    if item.type in ENDINGS and item.turn_id == turn_id:
                        turn = await self.get(session_id, turn_id)
                        if turn.status in ENDED:
                            return turn
        except TimeoutError:
            pass
        return await self.get(session_id, turn_id)

    async def interrupt(
        self, session_id: str, turn_id: str | None, *, reason: str = "user", key: tuple[str, str, str] | None = None
    ) -> str | None:
        """Ask the running turn to end. Returns its id, or None where nothing (or another turn) runs.

        What the agent says decides how the turn ends: it may still complete.

        Args:
            key: owner, idempotency key and fingerprint: the same key again means the turn that it meant first.
        """
        async with self._recorder.recording(session_id) as recording:
            if key and (meant := await idempotency.find(recording.connection, *key)):
                return None if meant == NOTHING else meant
            turn = await turns_store.running(recording.connection, session_id)
            if key:
                await idempotency.keep(recording.connection, *key, turn.id if turn else NOTHING)
            if turn is None or (turn_id is not None and turn.id != turn_id):
                return None
            if await turns_store.mark_interrupt(recording.connection, turn.id, reason, now()):
                recording.append(UserInterrupt(reason=reason), turn_id=turn.id)
        return turn.id  # the reconciler, awake by now, tells the wrapper until the turn ends

    async def cancel(self, session_id: str, turn_id: str) -> Turn:
        """Take a queued turn out of the queue. Raises `Conflict` if it is queued no more."""
        await self.get(session_id, turn_id)
        async with self._recorder.recording(session_id) as recording:
            canceled = await turns_store.end(
                recording.connection, turn_id, TurnStatus.CANCELED, {"reason": "user"}, incarnation=None
            )
            if canceled:
                recording.append(TurnCanceled(), turn_id=turn_id)
        turn = await self.get(session_id, turn_id)
        if not canceled and turn.status != TurnStatus.CANCELED:
            raise Conflict(
                f"the turn is {turn.status}: only a queued turn can be canceled"
                + (", interrupt this one" if turn.status == TurnStatus.RUNNING else ""),
                code="turn_not_queued",
                details={"status": turn.status.value},
            )
        return turn


def _texts(value: Any) -> list[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []
