"""The pipe into which a script writes, read for as long as anybody holds its other end.

A server that the script left running goes on writing into it: without a reader that would stop it, or kill it. So the
pipe is read to the session's end, and what comes after the script's end is thrown away.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from cc_wrapper.setup.output import Output

_FLUSH_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 0.3
"""How long the pipe may stay open behind the script: all that it wrote itself is in there by then."""


class Listener(asyncio.Protocol):
    """Says what it hears, text by text: at once where a text is full, else after half a second."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.output = Output()
        self._say = say
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._finished = False

    def data_received(self, data: bytes) -> None:
        if self._finished:
            return
        self._say_all(self.output.feed(data))
        if self.output.waits and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _flush(self) -> None:
        self._timer = None
        self._say_all(self.output.flush())
        if self.output.waits:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush)

    async def finish(self) -> None:
        """The script has ended: say what is left of its output, and nothing from then on."""
        await asyncio.wait({self._ended}, timeout=_DRAIN_SECONDS)
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        self._say_all(self.output.close())

    def _say_all(self, texts: list[str]) -> None:
        for text in texts:
            self._say(text)
