"""Sessions: make, find, change, stop and delete them. What that means for processes is the reconciler's business."""

import asyncio
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.drivers.base import DriverAway, SessionDriver
from cc_gateway.errors import Conflict, InvalidRequest, NotFound, TooManyRequests, Unavailable
from cc_gateway.models import Session, SessionConfig, SessionStatus, Turn, TurnStatus, Workspace, now
from cc_gateway.services.feed import Feed
from cc_gateway.services.launching import LaunchPolicy
from cc_gateway.services.recorder import Recorder
from cc_gateway.services.turns import TurnService
from cc_gateway.settings import LimitSettings
from cc_gateway.stores import idempotency, locks
from cc_gateway.stores import sessions as sessions_store
from cc_gateway.stores import turns as turns_store
from cc_gateway.stores.engine import Database
from cc_gateway.stores.record import Recording
from cc_protocol.events import SessionUpdated, StatusStopped, TurnCanceled
from cc_protocol.ids import SESSION, is_id, new_id
from cc_protocol.launch import PermissionMode

MAX_LABELS = 64
STOP_SECONDS = 20.0


class _MadeBefore(Exception):
    """Leaves the transaction of a request that was answered before."""


class SessionService:
    """The use cases of sessions. Another owner's session is `NotFound`, as if it were not there."""

    def __init__(
        self,
        database: Database,
        recorder: Recorder,
        turns: TurnService,
        feed: Feed,
        policy: LaunchPolicy,
        driver: SessionDriver,
        limits: LimitSettings,
    ) -> None:
        self._driver = driver
        self._database = database
        self._recorder = recorder
        self._turns = turns
        self._feed = feed
        self._policy = policy
        self._limits = limits

    async def create(
        self,
        owner: str,
        *,
        config: SessionConfig,
        workspace: Workspace,
        title: str | None,
        metadata: dict[str, Any],
        prompt: list[dict[str, Any]] | None,
        key: tuple[str, str] | None = None,
    ) -> tuple[Session, Turn | None]:
        """A new session, on its way to start; with `prompt` its first turn is queued.

        Args:
            key: idempotency key and fingerprint; the same key again gives the same session.

        Raises:
            InvalidRequest: the config cannot be had here.
            TooManyRequests: the owner has as many sessions as allowed.
            Conflict: the persistent workspace is in use, or the key was used for another request.
        """
        self._policy.check(config)
        if prompt:
            self._turns.check_size(prompt)
        session = _new_session(owner, config, workspace, title, metadata)
        made: tuple[Session, Turn | None] | None = None

        async def begin(connection: AsyncConnection) -> None:
            nonlocal made
            await locks.hold(connection, "owner", owner)
            if key and (found := await idempotency.find(connection, owner, *key)):
                made = await self._made_before(connection, owner, found)
                raise _MadeBefore
            await self._check_room(connection, session)
            await sessions_store.add(connection, session)
            if key:
                await idempotency.keep(connection, owner, *key, session.id)

        try:
            async with self._recorder.recording(session.id, begin=begin) as recording:
                created_at = session.created_at
                turn = await self._turns.queue(recording, prompt, created_at=created_at) if prompt else None
        except _MadeBefore:
            assert made is not None
            return made
        return session, turn

    async def _made_before(
        self, connection: AsyncConnection, owner: str, session_id: str
    ) -> tuple[Session, Turn | None]:
        session = await sessions_store.get(connection, session_id, owner=owner)
        if session is None:
            raise Conflict(
                "the session that this Idempotency-Key made has been deleted: take a new key for a new one",
                code="idempotency_key_gone",
            )
        first = await turns_store.first(connection, session_id)
        with_prompt = first is not None and first.created_at == session.created_at
        return session, first if with_prompt else None

    async def _check_room(self, connection: AsyncConnection, session: Session) -> None:
        if await sessions_store.count(connection, session.owner) >= self._limits.max_sessions:
            raise TooManyRequests(
                f"you have {self._limits.max_sessions} sessions: delete one first",
                retry_after=30,
                code="too_many_sessions",
            )
        await self._turns.check_workspace(connection, session)

    async def get(self, owner: str, session_id: str) -> Session:
        if not is_id(session_id, SESSION):
            raise NotFound(f"no session {session_id[:80]}")
        async with self._database.read() as connection:
            session = await sessions_store.get(connection, session_id, owner=owner)
        if session is None:
            raise NotFound(f"no session {session_id}")
        return session

    async def logs(self, owner: str, session_id: str, tail: int) -> str:
        """The last lines that the session's wrapper wrote, also where nothing runs any more.

        Raises `Unavailable` while what runs sessions does not answer.
        """
        session = await self.get(owner, session_id)
        try:
            return await self._driver.logs(session.id, tail=tail)
        except DriverAway as error:
            raise Unavailable(error.message, retry_after=5, code=error.code) from error

    async def page(
        self, owner: str, *, status: SessionStatus | None, labels: dict[str, str], cursor: str | None, limit: int
    ) -> tuple[list[Session], str | None]:
        """Newest first, and the cursor of the next page."""
        async with self._database.read() as connection:
            found = await sessions_store.page(
                connection, owner, status=status, labels=labels, before=cursor, limit=limit + 1
            )
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    async def update(
        self,
        owner: str,
        session_id: str,
        *,
        changes: dict[str, Any],
    ) -> Session:
        """Change `title`, `metadata` (by key, None removes), `model`, `permission_mode`; absent means keep.

        Model and permission mode reach a running agent with its next turn.
        """
        await self.get(owner, session_id)
        mode: PermissionMode | None = changes.get("permission_mode")
        self._policy.check_mode(mode)
        async with self._recorder.recording(session_id) as recording:
            session = await sessions_store.get(recording.connection, session_id, owner=owner)
            if session is None:
                raise NotFound(f"no session {session_id}")
            await sessions_store.change(recording.connection, session_id, **_changed(session, changes))
            recording.append(SessionUpdated.model_validate({k: v for k, v in changes.items() if v is not None}))
        return await self.get(owner, session_id)

    async def stop(self, owner: str, session_id: str) -> Session:
        """Ask for a stop; queued turns are canceled, the running one is interrupted. A later prompt starts it again."""
        session = await self.get(owner, session_id)
        if session.status == SessionStatus.STOPPED:
            return session
        async with self._recorder.recording(session_id) as recording:
            await self._cancel_queued(recording, "stopped")
            await sessions_store.change(recording.connection, session_id, stop_requested=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                async for item in self._feed.follow(session_id, after=recording.last_seq, previews=False):
                    if item.type == StatusStopped().type:
                        break
        return await self.get(owner, session_id)

    async def delete(self, owner: str, session_id: str) -> None:
        """Forget the session: it answers 404 from now on, and is gone once nothing of it runs."""
        await self.get(owner, session_id)
        async with self._recorder.recording(session_id) as recording:
            await self._cancel_queued(recording, "deleted")
            await sessions_store.change(recording.connection, session_id, deleted_at=now())

    async def _cancel_queued(self, recording: Recording, reason: str) -> None:
        for turn in await turns_store.all_queued(recording.connection, recording.session_id):
            if await turns_store.end(
                recording.connection, turn.id, TurnStatus.CANCELED, {"reason": reason}, incarnation=None
            ):
                recording.append(TurnCanceled(reason=reason), turn_id=turn.id)


def _changed(session: Session, changes: dict[str, Any]) -> dict[str, Any]:
    """The columns that a change sets (pure)."""
    values: dict[str, Any] = {}
    if "title" in changes:
        values["title"] = changes["title"]
    if changes.get("metadata") is not None:
        merged = session.metadata | changes["metadata"]
        values["metadata"] = {name: value for name, value in merged.items() if value is not None}
        if len(values["metadata"]) > MAX_LABELS:
            raise InvalidRequest(f"metadata may have {MAX_LABELS} keys", code="too_much_metadata")
    settings = {name: changes[name] for name in ("model", "permission_mode") if changes.get(name) is not None}
    if settings:
        values["config"] = session.config.model_copy(update=settings)
    return values


def _new_session(
    owner: str, config: SessionConfig, workspace: Workspace, title: str | None, metadata: dict[str, Any]
) -> Session:
    moment = now()
    return Session(
        id=new_id(SESSION),
        owner=owner,
        status=SessionStatus.STARTING,
        reason=None,
        title=title,
        metadata=metadata,
        config=config,
        workspace=workspace,
        created_at=moment,
        updated_at=moment,
        stop_requested=False,
        deleted_at=None,
        incarnation=0,
        incarnation_started_at=None,
        handle=None,
        ready=False,
        failed_starts=0,
        idle_since=None,
        redis_hash=None,
    )
