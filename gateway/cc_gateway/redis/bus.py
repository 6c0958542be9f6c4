"""Sends and reads over Redis: commands to wrappers, outbox entries from them, hints to listeners."""

from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cc_gateway.errors import StartupError
from cc_protocol import keys
from cc_protocol.commands import Ack, Command

log = structlog.get_logger(__name__)

INPUT_LENGTH = 4096  # acknowledgements mostly; a lost command is sent again
OUTBOX_BATCH = 256


def connect(url: str, *, timeout: float | None = 5, connections: int = 50) -> Redis:
    """A client. `timeout` None is for commands that block."""
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=10,
        socket_timeout=timeout,
        protocol=2,
        retry=Retry(NoBackoff(), 1),
    )
    return Redis(connection_pool=pool)


class Bus:
    """The gateway's side of the streams and channels of `cc_protocol.keys`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = connect(url)
        self._blocking = connect(url, timeout=None, connections=2000)

    async def open(self) -> None:
        """Check that Redis answers us. Raises `StartupError` with the reason."""
        try:
            await self.redis.ping()
            await self.redis.execute_command("ACL", "WHOAMI")  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise StartupError(
                f"cannot use Redis: {error}. It must run, be version 7 or newer, and allow ACL; or unset CC_REDIS_URL"
                " for one of our own",
                code="redis_unavailable",
            ) from error

    async def close(self) -> None:
        await self.redis.aclose()
        await self._blocking.aclose()

    async def alive(self) -> bool:
        try:
            return bool(await self.redis.ping())
        except (RedisError, OSError):
            return False

    # ------------------------------------------------------------ to a wrapper

    async def send(self, session_id: str, command: Command) -> None:
        await self.redis.xadd(
            keys.input_stream(session_id),
            {keys.COMMAND_FIELD: command.model_dump_json()},
            maxlen=INPUT_LENGTH,
            approximate=True,
        )

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
        self, session_id: str, incarnation: int, entry_ids: Sequence[bytes], acknowledged: int, events: Iterable[bytes]
    ) -> None:
        """After a commit, in one round trip: tell listeners, tell the wrapper, drop what is on record."""
        ack = Ack(incarnation=incarnation, n=acknowledged).model_dump_json()
        async with self.redis.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.publish(keys.output_channel(session_id), event)
            pipeline.xadd(
                keys.input_stream(session_id), {keys.COMMAND_FIELD: ack}, maxlen=INPUT_LENGTH, approximate=True
            )
            pipeline.xdel(keys.outbox_stream(session_id, incarnation), *entry_ids)
            await pipeline.execute()

    # ------------------------------------------------------------ to listeners

    def pubsub(self) -> PubSub:
        """A subscription of its own connection."""
        return self._blocking.pubsub()

    async def publish(self, session_id: str, events: Iterable[bytes]) -> None:
        """Tell listeners what has been recorded. A hint: who misses it reads the record."""
        channel = keys.output_channel(session_id)
        try:
            async with self.redis.pipeline(transaction=False) as pipeline:
                for event in events:
                    pipeline.publish(channel, event)
                await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("hint_not_published", session_id=session_id, error=str(error))
