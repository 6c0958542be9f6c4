"""The application: the only place that wires the parts together.

`Gateway` opens what is needed in order (folder, database, Redis, model, sessions) and closes it in the reverse order;
`create_app` puts the public API in front of it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI

from cc_gateway import __version__
from cc_gateway.api import errors, events, health, sessions, turns, websocket
from cc_gateway.api.deps import Services
from cc_gateway.api.middleware import RequestMiddleware
from cc_gateway.auth import Tokens, load_secret
from cc_gateway.data_lock import DataLock
from cc_gateway.drivers.base import SessionDriver
from cc_gateway.drivers.choose import open_driver
from cc_gateway.drivers.claude import CLAUDE_VERSION
from cc_gateway.errors import StartupError
from cc_gateway.internal import HttpSocket, SessionDoors
from cc_gateway.loops.reconciler import Reconciler
from cc_gateway.loops.relay import Relays
from cc_gateway.model_proxy.proxy import ModelProxy
from cc_gateway.model_proxy.scripted import ScenarioError, create_scripted_app, load_scenario_file
from cc_gateway.model_proxy.upstream import Upstream, choose_upstream
from cc_gateway.redis.bus import Bus
from cc_gateway.redis.embedded import EmbeddedRedis
from cc_gateway.redis.endpoint import RedisEndpoint
from cc_gateway.services.cloning import Cloning
from cc_gateway.services.feed import Feed
from cc_gateway.services.folders import Layout
from cc_gateway.services.hosts import Hosts
from cc_gateway.services.incarnations import Incarnations
from cc_gateway.services.launching import LaunchPolicy
from cc_gateway.services.lifecycle import Lifecycle
from cc_gateway.services.reading import Reader
from cc_gateway.services.recorder import Recorder
from cc_gateway.services.sessions import SessionService
from cc_gateway.services.turns import TurnService
from cc_gateway.settings import Settings
from cc_gateway.stores.engine import Database, sqlite_url

log = structlog.get_logger(__name__)

DESCRIPTION = """Runs Claude Code as a service: a place to run for each session, one record of all that happens.

Every answer that is an error has the form `{"error": {"code", "message", "details"}, "request_id"}`.
"""


class Gateway:
    """All parts of one gateway. `open` it in an `AsyncExitStack`: whatever was opened is closed, also half-way."""

    def __init__(self, settings: Settings, *, base_url: str) -> None:
        self.settings = settings
        self.base_url = base_url
        self.layout = Layout(settings.data_dir)
        self.services: Services
        self.driver: SessionDriver
        self.upstream: Upstream
        self.tokens: Tokens

    async def open(self, stack: AsyncExitStack) -> None:
        """Raises `StartupError` where a part cannot be had; its message names the mend."""
        settings = self.settings
        self.layout.prepare()
        stack.callback(self.layout.close)
        stack.enter_context(DataLock(settings.data_dir))
        self.tokens = Tokens(settings.auth, load_secret(settings.auth, settings.data_dir))
        database = await self._open_database(stack)
        bus = await self._open_redis(stack)
        self.upstream = await self._open_model(stack)
        self.driver = await open_driver(settings, self.layout.logs)
        stack.push_async_callback(self.driver.close)
        policy = self._policy()
        recorder = Recorder(database, bus)
        feed = Feed(database, bus, queue_size=settings.limits.listener_queue)
        await feed.open()
        stack.push_async_callback(feed.close)
        turn_service = TurnService(database, recorder, feed, settings.limits)
        session_service = SessionService(database, recorder, turn_service, feed, policy, self.driver, settings.limits)
        doors = await self._open_doors(stack, database, bus)
        await self._run_sessions(stack, recorder, bus, doors, policy, turn_service)
        self.services = Services(
            database,
            bus,
            self.tokens,
            session_service,
            turn_service,
            feed,
            Reader(database),
            settings.limits,
            self.base_url,
        )

    async def _open_database(self, stack: AsyncExitStack) -> Database:
        url = self.settings.store.database_url or sqlite_url(self.settings.data_dir / "cc-docker.sqlite3")
        database = Database(url, self.settings.store)
        stack.push_async_callback(database.close)
        await database.open()
        return database

    async def _open_redis(self, stack: AsyncExitStack) -> Bus:
        configured = self.settings.redis.redis_url
        if configured:
            url = configured.get_secret_value()
        else:
            embedded = EmbeddedRedis(
                self.settings.data_dir / "redis",
                self.layout.run_root / "redis.sock",
                maxmemory_clients=self.settings.redis.redis_maxmemory_clients,
            )
            stack.push_async_callback(embedded.stop)
            await embedded.start()
            url = embedded.address.url
        bus = Bus(url)
        stack.push_async_callback(bus.close)
        await bus.open()
        await RedisEndpoint.from_url(url).refuse_open()
        return bus

    async def _open_model(self, stack: AsyncExitStack) -> Upstream:
        socket = self.layout.run_root / "scripted.sock"
        upstream = choose_upstream(self.settings.model, socket)
        if upstream.scripted:
            path = self.settings.model.scenario_file
            try:
                scenario = await asyncio.to_thread(load_scenario_file, path) if path else None
            except (ScenarioError, OSError) as error:
                raise StartupError(f"cannot use CC_SCENARIO_FILE={path}: {error}", code="bad_scenario") from error
            server = await HttpSocket.open(create_scripted_app(scenario), socket)
            stack.callback(server.close)
        return upstream

    async def _open_doors(self, stack: AsyncExitStack, database: Database, bus: Bus) -> SessionDoors:
        incarnations = Incarnations(database)
        model = self.settings.model
        proxy = ModelProxy(
            self.upstream,
            self.tokens,
            admit=incarnations.admit,
            note_request=incarnations.note_model_request,
            connect_timeout=model.model_connect_timeout,
            read_timeout=model.model_read_timeout,
        )
        await proxy.open()
        stack.push_async_callback(proxy.close)
        doors = SessionDoors(proxy, RedisEndpoint.from_url(bus.url).open)
        stack.push_async_callback(doors.close_all)
        return doors

    def _policy(self) -> LaunchPolicy:
        settings = self.settings
        return LaunchPolicy(
            driver=self.driver.name,
            claude_binary=self.driver.claude_binary,
            claude_version=CLAUDE_VERSION,
            images=frozenset(settings.driver.session_images) if self.driver.takes_images else None,
            may_bypass=self.driver.isolated or self.upstream.scripted or settings.driver.unsafe,
            default_model=settings.model.default_model,
            skills_dir=settings.driver.skills_dir,
            setup_seconds=settings.driver.setup_timeout,
            max_event_bytes=settings.limits.max_event_bytes,
        )

    async def _run_sessions(
        self,
        stack: AsyncExitStack,
        recorder: Recorder,
        bus: Bus,
        doors: SessionDoors,
        policy: LaunchPolicy,
        turn_service: TurnService,
    ) -> None:
        """Start the loops, and wire their wakes."""
        settings = self.settings
        relays = Relays(recorder.database, bus, settings.limits.max_event_bytes)
        hosts = Hosts(private=settings.driver.clone_private)
        cloning = Cloning(self.driver, self.layout, settings.driver.clone_timeout, hosts)
        lifecycle = Lifecycle(
            recorder, bus, self.driver, doors, self.layout, policy, self.tokens, cloning, settings.driver
        )
        reconciler = Reconciler(
            recorder, bus, self.driver, lifecycle, relays, turn_service, settings.driver, settings.limits
        )
        recorder.wake = relays.wake = cloning.wake = reconciler.wake
        turn_service.is_heard = reconciler.hears
        task = asyncio.create_task(reconciler.run(), name="reconciler")

        async def stop() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await cloning.close()
            if settings.driver.keep_sessions:
                await reconciler.close()
            else:
                await reconciler.stop_all()
            await relays.close()

        stack.push_async_callback(stop)

    def describe(self) -> dict[str, Any]:
        """What a person should know of this gateway."""
        return {
            "url": self.base_url,
            "version": __version__,
            "model": self.upstream.name,
            "scripted": self.upstream.scripted,
            "driver": self.driver.name,
            "isolated": self.driver.isolated,
        }


def create_app(settings: Settings, *, base_url: str) -> FastAPI:
    """The public API over a gateway of its own, which lives as long as the application's lifespan."""
    gateway = Gateway(settings, base_url=base_url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await gateway.open(stack)
            app.state.services = gateway.services
            yield

    app = FastAPI(
        title="CC-Docker",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url="/docs",
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.gateway = gateway
    api = APIRouter(prefix="/api/v1")
    for module in (sessions, turns, events, websocket):
        api.include_router(module.router)
    app.include_router(api)
    app.include_router(health.router)
    errors.install(app)
    app.add_middleware(RequestMiddleware, max_body_bytes=settings.limits.max_body_bytes)
    return app
