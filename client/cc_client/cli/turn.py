"""Watching one turn to its end, with Ctrl-C in mind. Shared by `run` and `chat`."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from cc_client.cli.execute import INTERRUPTED, explanation
from cc_client.cli.interrupts import Interrupts, unless
from cc_client.client import Client
from cc_client.errors import ApiError, CCClientError
from cc_client.models import Event, Preview

Show = Callable[[Event | Preview], None]
Say = Callable[[str], None]

_STATUS: Final = {
    "turn.completed": 0,
    "turn.failed": 1,
    "turn.interrupted": INTERRUPTED,
    "turn.canceled": INTERRUPTED,
}


class TurnWatch:
    """Shows a session's events. `cursor` is the last recorded one that was shown."""

    def __init__(self, client: Client, session_id: str, *, show: Show, say: Say, cursor: int = 0) -> None:
        self._client = client
        self._session_id = session_id
        self._show = show
        self._say = say
        self.cursor = cursor

    async def to_the_end(self, turn_id: str, interrupts: Interrupts) -> int | None:
        """Show what happens until this turn ends; the exit status that fits its end.

        The first Ctrl-C interrupts the turn. None: the second came before the turn had ended.
        """
        watching = asyncio.create_task(self._watch(turn_id))
        try:
            if not await unless(watching, interrupts.first()):
                await self._interrupt(turn_id)
                if not await unless(watching, interrupts.second()):
                    return None
            return _STATUS[watching.result()]
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, CCClientError):
                await watching

    async def _watch(self, turn_id: str) -> str:
        async with contextlib.aclosing(self._client.follow(self._session_id, self.cursor)) as items:
            async for item in items:
                self._show(item)
                if isinstance(item, Event):
                    self.cursor = item.seq
                    if item.turn_id == turn_id and item.type in _STATUS:
                        return item.type
        raise AssertionError("the stream has no end")

    async def _interrupt(self, turn_id: str) -> None:
        self._say("Ctrl-C: interrupting the turn (once more leaves without waiting)")
        try:
            if await self._client.interrupt(self._session_id, turn_id) is None:
                await self._cancel(turn_id)
        except CCClientError as error:
            self._say(explanation(error)[0])

    async def _cancel(self, turn_id: str) -> None:
        """It does not run: perhaps it still waits in the queue, perhaps it has just ended."""
        with contextlib.suppress(ApiError):
            await self._client.cancel_turn(self._session_id, turn_id)
