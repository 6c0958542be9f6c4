"""Events recorded per second through the relay: from the first played entry to the acknowledgement of the last.

Nobody listens. The baseline, on SQLite, is what the file takes by itself: rows of the same size, as many in a
transaction as the relay reads at once, each committed to the disk.
"""

import asyncio
import sqlite3
import time
from pathlib import Path

from bench.figures import Row, Summary
from bench.player import player
from bench.sessions import session
from bench.world import World, say
from cc_gateway.redis.bus import OUTBOX_BATCH

SECONDS = 120.0


async def measure(world: World) -> list[Row]:
    gateway = await world.gateway()
    rounds, events = world.options.times(1, 5), world.options.times(1000, 5000)
    ours: list[float] = []
    bare: list[float] = []
    async with session(gateway) as (_, session_id), player(world, session_id) as played:
        for done in range(rounds):
            say(f"recording {events} events: {done + 1} of {rounds}")
            entries = await played.entries(events)
            last, _ = await played.acknowledged()
            begun = await played.play(entries)
            ended = await played.wait_for_ack(last + events, SECONDS)
            ours.append(events / ((ended - begun) / 1e9))
            if world.databases.on_sqlite:
                bare.append(await asyncio.to_thread(_insert, world.folder / f"bare-{done}.sqlite3", entries))
    rates = Summary.of(ours)
    baseline = Summary.of(bare) if bare else None
    return [
        Row(
            "recording",
            "events recorded, outbox → acknowledged",
            "/s",
            rates.median,
            baseline.median if baseline else None,
            f"SQLite alone: rows, {OUTBOX_BATCH} a commit" if baseline else "",
            details={"per_second": rates, "bare_per_second": baseline, "events": events},
        )
    ]


def _insert(path: Path, entries: list[bytes]) -> float:
    """Rows per second into a file of their own, of the size of these entries."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE events (session TEXT, seq INTEGER, data TEXT, PRIMARY KEY (session, seq))")
    rows = [("session", number, entry.decode()) for number, entry in enumerate(entries)]
    begun = time.monotonic()
    for start in range(0, len(rows), OUTBOX_BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows[start : start + OUTBOX_BATCH])
        connection.execute("COMMIT")
    seconds = time.monotonic() - begun
    connection.close()
    return len(rows) / seconds
