"""A warm turn: a persistent session and a model that answers at once, against a bare `claude` in the same state.

Three conversations of their own take turns: one over blocking REST, one over a WebSocket (`prompt` until
`turn.completed`), one with the bare `claude`. So all three grow alike, and none is measured at a better moment. The bare
turn ends with the `result` line; when `claude` is free again, which is what the wrapper has to wait for, stands beside.
It is a process in any case: a container's pipes are a way of their own.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import orjson
from websockets.asyncio.client import ClientConnection

from bench.bare import BareClaude
from bench.figures import Aim, Row, Summary
from bench.places import ProcessPlace
from bench.sessions import Broken, launch_of, next_event, session
from bench.world import World, say
from support.api import Api
from support.scenario import says, scripted

WARM_UP = 3
SECONDS = 60.0
PROMPT = scripted(says("ok"))
AIM = Aim("ratio", 1.3)


async def measure(world: World) -> list[Row]:
    gateway = await world.gateway()
    rounds = world.options.times(5, 40)
    free: list[float] = []
    async with session(gateway) as (api, over_rest), session(gateway) as (_, over_socket):
        bare = await BareClaude.start(launch_of(gateway, over_rest), ProcessPlace(), world.folder, world.model_url)
        try:
            await bare.initialized()
            async with api.socket(over_socket, previews="false") as socket:
                await next_event(socket, "session.status_idle")
                sides: dict[str, Callable[[], Awaitable[float]]] = {
                    "bare": lambda: _bare_turn(bare, free),
                    "rest": lambda: _rest_turn(api, over_rest),
                    "socket": lambda: _socket_turn(socket),
                }
                taken = await _alternate(sides, rounds)
        finally:
            await bare.close()
    summaries = {name: Summary.of(values) for name, values in taken.items()}
    details = {"bare_ms": summaries["bare"], "bare_until_free_ms": Summary.of(free[WARM_UP:])}
    return [
        Row(
            f"turn_{name}",
            what,
            "ms",
            summaries[name].median,
            summaries["bare"].median,
            "bare claude: prompt → result",
            AIM,
            {"ours_ms": summaries[name], **details},
        )
        for name, what in (("rest", "warm turn, REST"), ("socket", "warm turn, WebSocket"))
    ]


async def _alternate(sides: dict[str, Callable[[], Awaitable[float]]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each side. Who goes first changes from round to round; the first rounds do not count."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for done in range(WARM_UP + rounds):
        if done % 10 == 0:
            say(f"warm turns: {done} of {WARM_UP + rounds} rounds")
        for name in names[done % len(names) :] + names[: done % len(names)]:
            seconds = await sides[name]()
            if done >= WARM_UP:
                taken[name].append(seconds * 1000)
    return taken


async def _bare_turn(bare: BareClaude, free: list[float]) -> float:
    answered, at_rest = await bare.turn(PROMPT)
    free.append(at_rest * 1000)
    return answered


async def _rest_turn(api: Api, session_id: str) -> float:
    begun = time.monotonic()
    turn = await api.chat(session_id, PROMPT)
    if turn["status"] != "completed":
        raise Broken(f"the turn is {turn['status']}: {turn.get('error')}")
    return time.monotonic() - begun


async def _socket_turn(socket: ClientConnection) -> float:
    begun = time.monotonic()
    async with asyncio.timeout(SECONDS):
        await socket.send(orjson.dumps({"type": "prompt", "prompt": PROMPT}).decode())
        await next_event(socket, "turn.completed")
        seconds = time.monotonic() - begun
        await next_event(socket, "session.status_idle")
    return seconds
