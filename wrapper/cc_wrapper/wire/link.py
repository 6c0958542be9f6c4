"""Connections to Redis, and the judgement when there is no hope of another.

Refused by password for a while: this incarnation has been replaced, and the new password is the fence. Not reachable for
many minutes: nobody is there to report to. Both end the wrapper; a restart of Redis or of the gateway does neither.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from cc_protocol.launch import Secrets

REPLACED_AFTER: Final = 10.0
LOST_AFTER: Final = 600.0
ANSWER_SECONDS: Final = 30.0
_BACKOFF: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_STEADY_SECONDS: Final = 5.0
"""A connection that lasted this long was a good one: the next failure is the first again."""

log = logging.getLogger(__name__)


class LinkError(Exception):
    """There will be no connection any more."""


class ReplacedError(LinkError):
    """The password does not count any more: a newer incarnation runs."""


class LostError(LinkError):
    """Redis could not be reached for too long."""


class Contact:
    """How long it is since Redis was last heard of (pure but for the clock)."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._away_since: float | None = None
        self._refused_since: float | None = None

    def made(self) -> None:
        self._away_since = self._refused_since = None

    def failed(self, error: Exception) -> None:
        """Take in a failure; raises `LinkError` when it has been going on for too long."""
        now = self._clock()
        if _is_refusal(error) or _is_refusal(error.__cause__):  # redis-py hides a failed AUTH in a ConnectionError
            self._away_since = None
            self._refused_since = now if self._refused_since is None else self._refused_since
            if now - self._refused_since >= REPLACED_AFTER:
                raise ReplacedError(str(error))
        else:
            self._refused_since = None
            self._away_since = now if self._away_since is None else self._away_since
            if now - self._away_since >= LOST_AFTER:
                raise LostError(str(error))


def _is_refusal(error: BaseException | None) -> bool:
    return isinstance(error, AuthenticationError | NoPermissionError)


def answering() -> asyncio.Timeout:
    """The bound of every command: a Redis that takes longer counts as gone."""
    return asyncio.timeout(ANSWER_SECONDS)


class Link:
    """Runs what needs a connection, again and again."""

    def __init__(self, socket: Path, secrets: Secrets) -> None:
        self._socket = socket
        self._secrets = secrets

    def _client(self) -> Redis:
        return Redis(
            unix_socket_path=str(self._socket),
            username=self._secrets.redis_username,
            password=self._secrets.redis_password,
            protocol=2,
            driver_info=None,  # no CLIENT SETINFO, which the ACL refuses
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
            socket_connect_timeout=5,
            socket_timeout=None,  # else asyncio.wait_for, which on Python 3.11 now and then swallows a cancellation
        )

    async def run(self, name: str, use: Callable[[Redis], Awaitable[None]]) -> None:
        """Call `use` with a fresh connection each time that the last one failed; ends only by `LinkError`."""
        contact, failures = Contact(), 0
        while True:
            client, begun = self._client(), monotonic()
            try:
                async with answering():
                    await client.ping()
                contact.made()
                await use(client)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("redis failed", extra={"link": name, "error": f"{type(error).__name__}: {error}"[:200]})
                contact.failed(error)
            finally:
                with suppress(RedisError, OSError):
                    await client.aclose()
            failures = 0 if monotonic() - begun > _STEADY_SECONDS else failures
            await asyncio.sleep(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
            failures += 1
