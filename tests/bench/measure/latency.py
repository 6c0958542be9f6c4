"""From a line on `claude`'s stdout to the event at a WebSocket client. How a line is timed: `bench.stamping`.

Recorded events come from a turn of many tool calls, each of which is on record before it is delivered; previews from a
turn that streams text word by word. The listener, a process beside the gateway, notes the moment before it parses.
"""

import asyncio
import time
from dataclasses import dataclass, field

import orjson
from websockets.asyncio.client import ClientConnection

from bench.figures import Aim, Row, Summary
from bench.sessions import BROKEN, Broken, session
from bench.stamping import Stamps
from bench.world import World, say
from support.api import Api
from support.scenario import bash, says, scripted

SECONDS = 120.0
WORD_MS = 20
AIM = Aim("figure", 5, "ms")


@dataclass
class Seen:
    """When what came (`time.monotonic_ns`): events by their id, deltas with their text."""

    events: dict[str, int] = field(default_factory=dict)
    deltas: list[tuple[str, int]] = field(default_factory=list)


async def measure(world: World) -> list[Row]:
    calls, words = world.options.times(5, 60), world.options.times(20, 200)
    work = scripted(*(bash(f"true {number}") for number in range(calls)), says("done"))
    talk = scripted({"text": [f"word{number:04} " for number in range(words)], "chunk_delay_ms": WORD_MS})
    async with world.stamping_gateway() as gateway, session(gateway) as (api, session_id):
        async with api.socket(session_id) as socket:
            say(f"event latency: a turn of {calls} tool calls")
            working = await _turn(socket, work)
            say(f"event latency: a turn of {words} words")
            talking = await _turn(socket, talk)
        lines = await _lines_of(api, session_id)
        stamps = Stamps.read(gateway.data_dir / "sessions" / session_id / "claude")
    events = [came - stamps.lines[lines[one]] for one, came in working.events.items() if one in lines]
    previews = [came - stamps.deltas[word] for text, came in talking.deltas if (word := _last_word(text))]
    return [
        _row("latency_event", "claude's line → recorded event at a WebSocket, p50", events),
        _row("latency_preview", "claude's line → preview at a WebSocket, p50", previews),
    ]


def _row(name: str, what: str, nanoseconds: list[int]) -> Row:
    found = Summary.of([value / 1e6 for value in nanoseconds])
    return Row(name, what, "ms", found.median, aim=AIM, details={"ms": found})


async def _turn(socket: ClientConnection, prompt: str) -> Seen:
    seen = Seen()
    await socket.send(orjson.dumps({"type": "prompt", "prompt": prompt}).decode())
    async with asyncio.timeout(SECONDS):
        while True:
            frame = await socket.recv()
            came = time.monotonic_ns()
            event = orjson.loads(frame)
            if event["type"] == "event_delta":
                seen.deltas.append((event["delta"]["content"].get("text", ""), came))
            elif "seq" in event:
                seen.events[event["id"]] = came
            if event["type"] == "turn.completed":
                return seen
            if event["type"] in BROKEN:
                raise Broken(f"{event['type']}: {event.get('error')}")


async def _lines_of(api: Api, session_id: str) -> dict[str, str]:
    """The uuid of the line of `claude` behind each event that has one, by the event's id."""
    found: dict[str, str] = {}
    after: int | None = 0
    while after is not None:
        answer = await api.get(f"sessions/{session_id}/events", params={"raw": "true", "limit": 1000, "after": after})
        page = answer.raise_for_status().json()
        for event in page["data"]:
            if event["raw"] and (uuid := orjson.loads(event["raw"]).get("uuid")):
                found[event["id"]] = uuid
        after = page["next_after"]
    return found


def _last_word(text: str) -> str | None:
    """The text of the last delta in a preview, in which several may have been made one."""
    words = text.split()
    return f"{words[-1]} " if words else None
