"""Following a session's events over the WebSocket, through every disconnection.

The cursor is the last recorded `seq` that was handed on. A connection asks for what comes after it; what comes twice is
dropped, a gap means a new connection. So each recorded event is handed on exactly once and in order, however often the
line breaks. Previews are handed on as they come; after a break some are missing.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from cc_client.errors import ApiError, Unreachable, api_error, stream_error
from cc_client.locate import is_loopback
from cc_client.models import Event, Preview

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 5.0
_MAX_FRAME: Final = 128 * 1024 * 1024
_FOR_GOOD: Final = frozenset({1002, 1003, 1007, 1008, 1009, 4400, 4401, 4403, 4404, 4410, 4422})
"""Close codes after which the same connection would end the same way."""
_PASSING: Final = frozenset({"unavailable", "internal_error", "too_many_requests"})
"""Errors after which a later try may fare better."""
_LOST: Final = (OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError)


class Follower:
    """One listener's way through a session's events. `patience`: longest time without a connection, in seconds."""

    def __init__(
        self, url: str, headers: dict[str, str], session_id: str, *, after: int, previews: bool, patience: float
    ) -> None:
        base = url.replace("http", "ws", 1)
        self._url = f"{base}/api/v1/sessions/{quote(session_id, safe='')}/stream"
        self._headers = headers
        self._previews = previews
        self._patience = patience
        self._proxy: Literal[True] | None = None if is_loopback(url) else True
        self.cursor = after

    async def items(self) -> AsyncGenerator[Event | Preview, None]:
        clock = asyncio.get_running_loop().time
        wait, alone_since = FIRST_WAIT, clock()
        while True:
            lost: BaseException | None = None
            try:
                async with self._connection() as connection:
                    try:
                        async for item in self._items(connection):
                            wait = FIRST_WAIT
                            yield item
                    finally:
                        alone_since = clock()
                    _check_close(connection)
            except InvalidStatus as refusal:
                lost = _refused(refusal)
            except InvalidURI as error:
                raise Unreachable(f"{self._url} is no address of a gateway") from error
            except _LOST as error:
                lost = error
            if clock() - alone_since > self._patience:
                raise Unreachable(f"the connection to {self._url} is lost: {lost or 'closed'}") from lost
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 (spread, not a secret)
            wait = min(wait * 2, LONGEST_WAIT)

    def _connection(self) -> connect:
        query = urlencode({"after": self.cursor, "previews": str(self._previews).lower()})
        return connect(
            f"{self._url}?{query}",
            additional_headers=self._headers,
            max_size=_MAX_FRAME,
            compression=None,
            open_timeout=10,
            close_timeout=2,
            proxy=self._proxy,
        )

    async def _items(self, connection: ClientConnection) -> AsyncIterator[Event | Preview]:
        """What one connection brings, until it ends or skips a number."""
        async for frame in connection:
            data = _parsed(frame)
            if "seq" in data:
                event = Event.of(data)
                if event.seq > self.cursor + 1:
                    return
                if event.seq == self.cursor + 1:
                    self.cursor = event.seq
                    yield event
            elif data.get("type") == "stream.error":
                _raise_unless_passing(stream_error(data.get("error")))
                return
            elif str(data.get("type")).startswith("event_"):
                yield Preview.of(data)


def _parsed(frame: str | bytes) -> dict[str, Any]:
    data = json.loads(frame)
    return data if isinstance(data, dict) else {}


def _check_close(connection: ClientConnection) -> None:
    """Raise where the gateway closed the connection for a reason that stays."""
    if connection.close_code in _FOR_GOOD:
        reason = connection.close_reason or f"the gateway closed the stream ({connection.close_code})"
        raise ApiError("stream_closed", reason, 0)


def _raise_unless_passing(error: ApiError) -> None:
    if error.code not in _PASSING:
        raise error


def _refused(refusal: InvalidStatus) -> ApiError:
    """The refusal of a handshake. Raises it at once, unless a later try may fare better."""
    response = refusal.response
    error = api_error(response.status_code, bytes(response.body or b""), response.headers.get("Retry-After"))
    if response.status_code in {429, 500, 502, 503, 504}:
        return error
    raise error
