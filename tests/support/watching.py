"""Watching a session from outside: a client that comes back whatever happens, and what must hold of every record."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from websockets.exceptions import WebSocketException

from support.api import ENDED, Api

Event = dict[str, Any]
ENDS = {f"turn.{status}" for status in ENDED}


async def asked_of(api: Api, session_id: str, prompt: str) -> str:
    """Submit a prompt and wait until its turn calls a tool."""
    turn_id = await api.submit(session_id, prompt)
    await api.has_event(session_id, "agent.tool_use", turn_id=turn_id)
    return turn_id


class Follower:
    """A client that comes back with its cursor whatever happens, as our own does."""

    def __init__(self, api: Api, session_id: str) -> None:
        self._api = api
        self._session_id = session_id
        self._task = asyncio.create_task(self._follow())
        self._more = asyncio.Event()
        self.seen: list[Event] = []

    async def _follow(self) -> None:
        while True:
            after = self.seen[-1]["seq"] if self.seen else 0
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                async with self._api.socket(self._session_id, after=after) as connection:
                    while True:
                        one = json.loads(await connection.recv())
                        if "seq" in one:
                            self.seen.append(one)
                            self._more.set()
            await asyncio.sleep(0.05)

    async def has_seen(self, enough: Callable[[list[Event]], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not enough(self.seen):
                self._more.clear()
                await self._more.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def check_record(api: Api, session_id: str, follower: Follower | None = None) -> list[Event]:
    """The record has no gap, each turn one end and each tool call one result; and a follower saw just that."""
    events = await api.events(session_id)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["id"] for event in events}) == len(events)
    ends = Counter(event["turn_id"] for event in events if event["type"] in ENDS)
    assert set(ends.values()) <= {1}, ends
    results = Counter(event["tool_use_id"] for event in events if event["type"] == "agent.tool_result")
    assert set(results.values()) <= {1}, results
    if follower:
        await follower.has_seen(lambda seen: bool(seen) and seen[-1]["seq"] >= events[-1]["seq"], 10)
        assert follower.seen[: len(events)] == events
    return events


def calls(events: list[Event]) -> list[str]:
    return [event["input"]["command"] for event in events if event["type"] == "agent.tool_use"]
