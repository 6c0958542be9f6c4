"""From `POST /sessions` to a session that takes prompts, against a bare start of the same `claude`.

Our wait ends with `session.status_idle`, as a WebSocket listener sees it. The bare one ends with the answer to
`initialize`, which is what the wrapper waits for as well.
"""

import asyncio
import time

from bench.bare import BareClaude
from bench.figures import Row, Summary
from bench.sessions import deleted, launch_of, next_event, session
from bench.world import World, say
from cc_protocol.launch import Launch
from support.api import Api
from support.gateway import GatewayProcess

SECONDS = 90.0


async def measure(world: World) -> list[Row]:
    gateway = await world.gateway()
    rounds = world.options.times(2, 12)
    ours: list[float] = []
    bare: list[float] = []
    async with session(gateway) as (api, first):  # its start is not counted: it reads the binary from the disk
        like = launch_of(gateway, first)
        for done in range(rounds):
            say(f"create → ready: {done + 1} of {rounds}")
            bare.append(await _bare_start(world, like))
            ours.append(await _create(gateway, api))
    place = await world.place.floor()
    return [
        Row(
            "create_ready",
            "create → ready",
            "ms",
            Summary.of(ours).median,
            Summary.of(bare).median,
            world.place.start,
            details={"ours_ms": Summary.of(ours), "bare_ms": Summary.of(bare)} | place,
        )
    ]


async def _bare_start(world: World, like: Launch) -> float:
    bare = await BareClaude.start(like, world.place, world.folder, world.model_url)
    try:
        return await bare.initialized() * 1000
    finally:
        await bare.close()


async def _create(gateway: GatewayProcess, api: Api) -> float:
    """Milliseconds until a new session is ready. It is gone when this returns."""
    begun = time.monotonic()
    session_id = await api.open_session()
    try:
        async with asyncio.timeout(SECONDS), api.socket(session_id, previews="false") as socket:
            await next_event(socket, "session.status_idle")
            return (time.monotonic() - begun) * 1000
    finally:
        await deleted(gateway, api, session_id)
