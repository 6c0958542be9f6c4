"""Memory of a session at rest, against a bare `claude` at rest after the same turns.

All processes of the session count: the wrapper, `claude`, and what confines or starts them; in a container, all that is in
it. PSS shares out what several processes map (the binary, Python), so as many of each side rest at the same time, and where
sessions are containers the bare `claude` lies in one of the same image. What the engine keeps beside a container is told
in the details alone.
"""

import asyncio
import contextlib
from collections import defaultdict
from pathlib import Path

import psutil

from bench.bare import BareClaude
from bench.figures import Aim, Row, Summary
from bench.sessions import launch_of, session
from bench.world import World, say
from support.processes import of_session
from support.scenario import says, scripted

TURNS = 3
SETTLE_SECONDS = 5.0
KINDS = ("Pss", "Rss")

Memory = dict[str, float]
"""MB by kind, and PSS by process (`Pss of …`)."""


async def measure(world: World) -> list[Row]:
    gateway = await world.gateway()
    pairs = world.options.times(1, 3)
    async with contextlib.AsyncExitStack() as stack:
        names: list[tuple[str, str]] = []
        for number in range(pairs):
            say(f"memory: session and bare claude {number + 1} of {pairs}")
            api, session_id = await stack.enter_async_context(session(gateway))
            like = launch_of(gateway, session_id)
            bare = await BareClaude.start(like, world.place, world.folder, world.model_url)
            stack.push_async_callback(bare.close)
            await bare.initialized()
            for _ in range(TURNS):
                await api.chat(session_id, scripted(says("ok")))
                await bare.turn(scripted(says("ok")))
            names.append((session_id, bare.name))
        say(f"memory: {SETTLE_SECONDS:.0f} s of rest")
        await asyncio.sleep(SETTLE_SECONDS)
        ours = [_memory(session_id) for session_id, _ in names]
        bares = [_memory(name) for _, name in names]
        beside = sum(_rollup(pid)["Pss"] for pid in world.place.beside(names[0][0]))
    return [_row(kind, ours, bares, {"engine_beside_mb": round(beside, 1)}) for kind in KINDS]


def _row(kind: str, ours: list[Memory], bares: list[Memory], more: Memory) -> Row:
    figure, baseline = (Summary.of([one[kind] for one in side]) for side in (ours, bares))
    return Row(
        f"memory_{kind.lower()}",
        f"memory of an idle session, {kind.upper()}",
        "MB",
        figure.median,
        baseline.median,
        "bare claude, idle after the same turns",
        Aim("ratio", 1.3) if kind == "Pss" else None,
        {"ours_mb": figure, "bare_mb": baseline, "one_session": ours[0], **more},
    )


def _memory(name: str) -> Memory:
    """What all processes that carry this name take together."""
    found: Memory = defaultdict(float)
    for process in of_session(name):
        taken = _rollup(process.pid)
        for kind in KINDS:
            found[kind] += taken[kind]
        found[f"Pss of {_what(process)}"] += taken["Pss"]
    if not found:
        raise RuntimeError(f"no process of {name} can be seen: is the bench run by the user of the sessions, or root?")
    return {what: round(value, 1) for what, value in found.items()}


def _rollup(pid: int) -> Memory:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines[1:])
    return {kind: float(fields[kind].split()[0]) * 1024 / 1e6 for kind in KINDS}


def _what(process: psutil.Process) -> str:
    command = process.cmdline()
    name = process.name()
    return "wrapper" if "cc_wrapper" in command and name.startswith("python") else name
