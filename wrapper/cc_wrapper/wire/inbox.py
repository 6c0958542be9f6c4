"""The commands of the gateway, read from the input stream.

It is read from its beginning on each new connection: Redis may have lost its data and begun anew, and every command
may be taken twice. Commands for another incarnation are passed over, and so is what is no command.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError
from redis.asyncio import Redis

from cc_protocol.commands import COMMAND, Command
from cc_protocol.keys import COMMAND_FIELD, input_stream
from cc_wrapper.wire.link import answering

_BLOCK_MS: Final = 10_000
_COUNT: Final = 100

log = logging.getLogger(__name__)


class Inbox:
    def __init__(self, session_id: str, incarnation: int, take: Callable[[Command], None]) -> None:
        self._stream = input_stream(session_id)
        self._incarnation = incarnation
        self._take = take

    async def read(self, redis: Redis) -> None:
        """Read on this connection until it fails."""
        last: Any = "0"
        while True:
            async with answering():
                answer: Any = await redis.xread({self._stream: last}, count=_COUNT, block=_BLOCK_MS)
            for _, messages in answer or []:
                for message_id, fields in messages:
                    last = message_id
                    self._message(fields.get(COMMAND_FIELD.encode()))

    def _message(self, data: bytes | None) -> None:
        try:
            command: Command = COMMAND.validate_json(data or b"")
        except ValidationError:
            log.warning("not a command", extra={"bytes": len(data or b"")})
            return
        if command.incarnation == self._incarnation:
            self._take(command)
