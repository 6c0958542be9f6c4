"""Where Redis listens, without logging in: for the pipes of sessions, and to see whether it answers strangers."""

import asyncio
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from cc_gateway.errors import StartupError


@dataclass(frozen=True)
class RedisEndpoint:
    """A unix socket, or host and port."""

    path: str | None
    host: str = ""
    port: int = 0
    tls: bool = False

    @classmethod
    def from_url(cls, url: str) -> "RedisEndpoint":
        parts = urlsplit(url)
        if parts.scheme != "unix" and parts.path not in ("", "/", "/0"):
            raise StartupError(
                "CC_REDIS_URL must name database 0: sessions cannot choose another", code="redis_database"
            )
        if parts.scheme == "unix":
            return cls(path=parts.path)
        return cls(None, parts.hostname or "localhost", parts.port or 6379, tls=parts.scheme == "rediss")

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(
            self.host, self.port, ssl=ssl.create_default_context() if self.tls else None
        )

    async def refuse_open(self) -> None:
        """Refuse a Redis that answers a stranger: a session could simply not log in, and be anybody.

        Raises:
            StartupError: an anonymous PING was answered.
        """
        try:
            reader, writer = await self.open()
        except OSError as error:
            raise StartupError(f"cannot reach Redis: {error}. Check CC_REDIS_URL", code="redis_unavailable") from error
        try:
            writer.write(b"PING\r\n")
            async with asyncio.timeout(5):
                answer = await reader.readline()
        finally:
            writer.close()
        if answer.startswith(b"+"):
            raise StartupError(
                "this Redis answers without a password, so any session could read all others: set `requirepass`, or"
                " `user default off` and a user for the gateway, and name it in CC_REDIS_URL",
                code="redis_open",
            )
