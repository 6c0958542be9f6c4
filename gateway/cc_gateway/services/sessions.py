"""Sessions: make, find, change, stop and delete them. What that means for processes is the reconciler's business."""

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.errors import Conflict, NotFound, TooManyRequests
from cc_gateway.models import LIVE, Session, SessionConfig, SessionStatus, Turn, TurnStatus, Workspace, now
from cc_gateway.redis.bus import Bus
from cc_gateway.services.launching import LaunchPolicy
from cc_gateway.services.recorder import Recorder
from cc_gateway.services.turns import TurnService
from cc_gateway.settings import LimitSettings
from cc_gateway.stores import idempotency
from cc_gateway.stores import sessions as sessions_store
from cc_gateway.stores import turns as turns_store
from cc_gateway.stores.engine import Database
from cc_gateway.stores.record import Recording
from cc_protocol.commands import Configure
from cc_protocol.events import SessionUpdated, TurnCanceled
from cc_protocol.ids import SESSION, is_id, new_id
from cc_protocol.launch import PermissionMode


class SessionService:
    """The use cases of sessions. Another owner's session is `NotFound`, as if it were not there."""

    def __init__(
        self,
        database: Database,
        recorder: Recorder,
        bus: Bus,
        turns: TurnService,
        policy: LaunchPolicy,
        limits: LimitSettings,
    ) -> None:
        self._database = database
        self._recorder = recorder
        self._bus = bus
        self._turns = turns
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
        try:
            return await self._add(session, prompt, key)
        except IntegrityError:  # the same key, at the same moment
            found = await self._made_by(owner, key)
            if found is None:
                raise
            return found

    async def _add(
        self, session: Session, prompt: list[dict[str, Any]] | None, key: tuple[str, str] | None
    ) -> tuple[Session, Turn | None]:
        if found := await self._made_by(session.owner, key):
            return found

        async def begin(connection: AsyncConnection) -> None:
            await self._check_room(connection, session)
            await sessions_store.add(connection, session)
            if key:
                await idempotency.keep(connection, session.owner, *key, session.id)

        async with self._recorder.recording(session.id, begin=begin) as recording:
            turn = await self._turns.queue(recording, prompt) if prompt else None
        return session, turn

    async def _check_room(self, connection: AsyncConnection, session: Session) -> None:
        if await sessions_store.count(connection, session.owner) >= self._limits.max_sessions:
            raise TooManyRequests(
                f"you have {self._limits.max_sessions} sessions: delete one first",
                retry_after=30,
                code="too_many_sessions",
            )
        if session.workspace.id:
            await self._check_workspace(connection, session.owner, session.workspace.id, besides=session.id)

    async def _made_by(self, owner: str, key: tuple[str, str] | None) -> tuple[Session, Turn | None] | None:
        if key is None:
            return None
        async with self._database.read() as connection:
            session_id = await idempotency.find(connection, owner, *key)
            session = session_id and await sessions_store.get(connection, session_id, owner=owner)
            if not session_id or not session:
                return None
            first = await turns_store.page(connection, session_id, status=None, after=0, limit=1)
            return session, first[0] if first else None

    async def _check_workspace(
        self, connection: AsyncConnection, owner: str, workspace_id: str, *, besides: str
    ) -> None:
        for other in await sessions_store.using_workspace(connection, owner, workspace_id):
            if other.id != besides and other.status not in (SessionStatus.STOPPED, SessionStatus.FAILED):
                raise Conflict(
                    f"the workspace {workspace_id} is in use by {other.id}: stop or delete that session first",
                    code="workspace_in_use",
                    details={"session_id": other.id},
                )

    async def get(self, owner: str, session_id: str) -> Session:
        if not is_id(session_id, SESSION):
            raise NotFound(f"no session {session_id[:80]}")
        async with self._database.read() as connection:
            session = await sessions_store.get(connection, session_id, owner=owner)
        if session is None:
            raise NotFound(f"no session {session_id}")
        return session

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
        session = await self.get(owner, session_id)
        mode: PermissionMode | None = changes.get("permission_mode")
        self._policy.check_mode(mode)
        values: dict[str, Any] = {}
        if "title" in changes:
            values["title"] = changes["title"]
        if changes.get("metadata") is not None:
            merged = session.metadata | changes["metadata"]
            values["metadata"] = {name: value for name, value in merged.items() if value is not None}
        settings = {name: changes[name] for name in ("model", "permission_mode") if changes.get(name) is not None}
        if settings:
            values["config"] = session.config.model_copy(update=settings)
        async with self._recorder.recording(session_id) as recording:
            await sessions_store.change(recording.connection, session_id, **values)
            recording.append(SessionUpdated.model_validate({k: v for k, v in changes.items() if v is not None}))
        if settings and session.status in LIVE:
            await self._bus.send(session_id, Configure(incarnation=session.incarnation, **settings))
        return await self.get(owner, session_id)

    async def stop(self, owner: str, session_id: str) -> Session:
        """Ask for a stop; queued turns are canceled, the running one is interrupted. A later prompt starts it again."""
        session = await self.get(owner, session_id)
        if session.status == SessionStatus.STOPPED:
            return session
        async with self._recorder.recording(session_id) as recording:
            await self._cancel_queued(recording, "stopped")
            await sessions_store.change(recording.connection, session_id, stop_requested=True)
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
