"""Events per second that reach listeners, of a burst that is recorded meanwhile: one listener, and a hundred.

The burst is played into the outbox of a session (`bench.player`), so that it comes as fast as the gateway takes it. The
clock runs from the first entry sent until the last listener has the last event; each listener checks that none is missing
and none comes twice. With one listener recording is what takes the time, with a hundred delivering.
"""

import psutil

from bench.figures import Row, Summary
from bench.listeners import listeners
from bench.player import Player, player
from bench.sessions import session
from bench.world import World, say
from support.api import Api
from support.gateway import GatewayProcess

SECONDS = 120.0
KINDS = {"ws": "WebSocket", "sse": "SSE"}
CROWD = 100


async def measure(world: World) -> list[Row]:
    gateway = await world.gateway()
    rounds = world.options.times(1, 5)
    bursts = {1: world.options.times(500, 5000), CROWD: world.options.times(50, 500)}
    rows: list[Row] = []
    async with session(gateway) as (api, session_id), player(world, session_id) as played:
        for count, events in bursts.items():
            for kind, name in KINDS.items():
                say(f"deliveries: {events} events to {count} {name} listeners, {rounds} times")
                bursts_seen = [await _burst(gateway, api, played, kind, count, events) for _ in range(rounds)]
                rates, costs = (Summary.of(values) for values in zip(*bursts_seen, strict=True))
                rows.append(
                    Row(
                        f"deliveries_{kind}_{count}",
                        f"deliveries, {count} {name} listener{'s' if count > 1 else ''}",
                        "/s",
                        rates.median,
                        details={"per_second": rates, "gateway_cpu_us": costs, "events": events},
                    )
                )
    return rows


async def _burst(
    gateway: GatewayProcess, api: Api, played: Player, kind: str, count: int, events: int
) -> tuple[float, float]:
    """Deliveries per second, and microseconds of the gateway's processor time for each."""
    entries = await played.entries(events)
    after = (await api.events(played.session_id, limit=1, order="desc"))[0]["seq"]
    async with listeners(api, played.session_id, kind, count, after=after, events=events) as crowd:
        before = _cpu(gateway)
        begun = await played.play(entries)
        _, last = await crowd.span(SECONDS)
        spent = _cpu(gateway) - before
    deliveries = count * events
    return deliveries / ((last - begun) / 1e9), spent / deliveries * 1e6


def _cpu(gateway: GatewayProcess) -> float:
    times = psutil.Process(gateway.pid).cpu_times()
    return float(times.user + times.system)
