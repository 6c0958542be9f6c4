"""Sessions for tests of the store, and the gateway's use cases over a database without anything that runs sessions."""

from typing import Any, cast

from cc_gateway.drivers.base import SessionDriver
from cc_gateway.models import Session, SessionConfig, SessionStatus, Workspace, now
from cc_gateway.redis.bus import Bus
from cc_gateway.services.feed import Feed
from cc_gateway.services.launching import LaunchPolicy
from cc_gateway.services.recorder import Recorder
from cc_gateway.services.sessions import SessionService
from cc_gateway.services.turns import TurnService
from cc_gateway.settings import LimitSettings
from cc_gateway.stores.engine import Database
from cc_protocol.ids import SESSION, new_id

OWNER = "somebody"


def new_session(
    owner: str = OWNER, *, workspace: Workspace | None = None, status: SessionStatus = SessionStatus.STARTING
) -> Session:
    moment = now()
    return Session(
        id=new_id(SESSION),
        owner=owner,
        status=status,
        reason=None,
        title="née \U0001f600",
        metadata={"a": [1, None, "ü"]},
        config=SessionConfig(model="m"),
        workspace=workspace or Workspace(),
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


class AnyConfig:
    """A policy that allows what it is asked for."""

    def check(self, config: SessionConfig) -> None:
        pass

    def check_mode(self, mode: object) -> None:
        pass


class UseCases:
    """What one gateway does with a database when it is asked over HTTP. Its hints to listeners go nowhere."""

    def __init__(self, database: Database, **limits: int) -> None:
        settings = LimitSettings(_env_file=None, **limits)  # type: ignore[call-arg,arg-type]
        bus = Bus("redis://127.0.0.1:1/0")  # never opened
        self.recorder = Recorder(database, bus)
        feed = Feed(database, bus, queue_size=10)
        self.turns = TurnService(database, self.recorder, feed, settings)
        self.sessions = SessionService(
            database=database,
            recorder=self.recorder,
            turns=self.turns,
            feed=feed,
            policy=cast(LaunchPolicy, AnyConfig()),
            driver=cast(SessionDriver, None),  # never asked
            limits=settings,
        )

    async def create(self, owner: str = OWNER, **options: Any) -> Session:
        defaults: dict[str, Any] = {
            "config": SessionConfig(),
            "workspace": Workspace(),
            "title": None,
            "metadata": {},
            "prompt": None,
        }
        session, _ = await self.sessions.create(owner, **(defaults | options))
        return session
