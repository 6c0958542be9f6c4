"""Sends and reads over Redis: commands to wrappers, outbox entries from them, hints to listeners."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, cast

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cc_gateway.errors import StartupError
from cc_protocol import keys
from cc_protocol.commands import Ack, Command

log = structlog.get_logger(__name__)

INPUT_LENGTH = 4096  # acknowledgements mostly; a lost command is sent again
OUTBOX_BATCH = 128
MAX_HINTS = 1000
BLOCK_MS = 2000
ANSWER_SECONDS = 5.0  # more than a command that blocks may take: longer silence means that the connection is gone


class BoundedRedis(Redis):
    """A client whose every command ends in time, one way or the other.

    redis-py's own `socket_timeout` goes through `asyncio.wait_for`, which on Python 3.11 now and then swallows a
    cancellation: a task that is to end would go on for ever.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


def connect(url: str, *, connections: int = 50) -> BoundedRedis:
    """A client. A command that gets no answer raises `TimeoutError` (an `OSError`)."""
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=ANSWER_SECONDS,
        socket_timeout=None,
        socket_connect_timeout=ANSWER_SECONDS,
        protocol=2,
        retry=Retry(NoBackoff(), 1),
    )
    return cast(BoundedRedis, BoundedRedis.from_pool(pool))


async def _execute(pipeline: Pipeline) -> None:
    async with asyncio.timeout(ANSWER_SECONDS):
        await pipeline.execute()


class Bus:
    """The gateway's side of the streams and channels of `cc_protocol.keys`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = connect(url)
        self._blocking = connect(url, connections=2000)
        self._hints: asyncio.Queue[tuple[str, list[bytes]]] = asyncio.Queue(MAX_HINTS)
        self._publisher: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Check that Redis answers us. Raises `StartupError` with the reason."""
        try:
            await self.redis.ping()
            await self.redis.execute_command("ACL", "WHOAMI")
        except (RedisError, OSError) as error:
            raise StartupError(
                f"cannot use Redis: {error}. It must run, be version 7 or newer, and allow ACL; or unset CC_REDIS_URL"
                " for one of our own",
                code="redis_unavailable",
            ) from error

        self._publisher = asyncio.create_task(self._publish(), name="hints")

    async def close(self) -> None:
        if self._publisher:
            self._publisher.cancel()
            await asyncio.gather(self._publisher, return_exceptions=True)
        await self.redis.aclose()
        await self._blocking.aclose()

    async def alive(self) -> bool:
        try:
            async with asyncio.timeout(2):
                return bool(await self.redis.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    # ------------------------------------------------------------ to a wrapper

    async def send(self, session_id: str, command: Command) -> None:
        await self._add_command(self.redis, session_id, command)

    async def hand_over(self, session_id: str, commands: Iterable[Command]) -> None:
        """Send commands that begin a turn. What stands before them in the stream is of turns that have ended: it goes."""
        async with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(keys.input_stream(session_id))
            for command in commands:
                self._add_command(pipeline, session_id, command)
            await _execute(pipeline)

    async def forget(self, session_id: str, incarnation: int) -> None:
        """Drop the streams of an incarnation that has ended."""
        await self.redis.delete(keys.input_stream(session_id), keys.outbox_stream(session_id, incarnation))

    # ------------------------------------------------------------ from a wrapper

    async def read_outbox(
        self, session_id: str, incarnation: int, *, block_ms: int
    ) -> list[tuple[bytes, bytes | None]]:
        """The first entries as (stream id, JSON or None where the entry is not one of ours); waits for one.

        Always from the head: what is on record has been dropped. `block_ms` 0 does not wait at all.
        """
        stream = keys.outbox_stream(session_id, incarnation)
        reply: Any = await self._blocking.xread({stream: b"0"}, count=OUTBOX_BATCH, block=block_ms or None)
        if not reply:
            return []
        field = keys.ENTRY_FIELD.encode()
        return [(entry_id, fields.get(field)) for entry_id, fields in reply[0][1]]

    async def settle(
        self, session_id: str, entry_ids: Sequence[bytes], ack: Ack | None, events: Iterable[bytes], incarnation: int
    ) -> None:
        """After a commit, in one round trip: tell listeners, tell the wrapper, drop what is on record."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.publish(keys.output_channel(session_id), event)
            if ack:
                self._add_command(pipeline, session_id, ack)
            pipeline.xdel(keys.outbox_stream(session_id, incarnation), *entry_ids)
            await _execute(pipeline)

    @staticmethod
    def _add_command(redis: Redis, session_id: str, command: Command) -> Awaitable[Any]:
        """On a pipeline this only notes the command, and there is nothing to wait for."""
        fields: dict[Any, Any] = {keys.COMMAND_FIELD: command.model_dump_json()}
        return redis.xadd(keys.input_stream(session_id), fields, maxlen=INPUT_LENGTH, approximate=True)

    # ------------------------------------------------------------ to listeners

    def pubsub(self) -> PubSub:
        """A subscription of its own connection."""
        return self._blocking.pubsub()

    def publish_soon(self, session_id: str, events: list[bytes]) -> None:
        """Tell listeners what has been recorded. A hint that nobody waits for: who misses it reads the record."""
        with contextlib.suppress(asyncio.QueueFull):
            self._hints.put_nowait((session_id, events))

    async def _publish(self) -> None:
        while True:
            session_id, events = await self._hints.get()
            try:
                async with self.redis.pipeline(transaction=False) as pipeline:
                    for event in events:
                        pipeline.publish(keys.output_channel(session_id), event)
                    await _execute(pipeline)
            except (RedisError, OSError) as error:
                log.warning("hint_not_published", session_id=session_id, error=str(error))
