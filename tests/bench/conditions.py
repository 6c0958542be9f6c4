"""Under which circumstances figures were measured: without them a figure says nothing. No address, no path."""

import asyncio
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from bench.world import World, say
from cc_gateway.drivers.claude import CLAUDE_VERSION

MUCH = 0.1
ROOT = Path(__file__).parents[2]
LIBRARIES = ("fastapi", "uvicorn", "uvloop", "redis", "sqlalchemy", "pydantic", "websockets")


async def conditions(world: World) -> dict[str, Any]:
    options = world.options
    gateway = await world.gateway()
    facts = gateway.facts
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "quick": options.quick,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "busy_before": await _busy_before(),
        "driver": options.driver,
        "isolated": facts["isolated"],
        "database": await world.databases.describe(),
        "redis": await _redis(world.redis_url),
        "claude": CLAUDE_VERSION,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


async def _busy_before() -> str:
    found = await busy()
    if found > MUCH:
        say(f"the machine is busy already ({found:.0%}): expect figures that are too high, and run it again")
    return f"{found:.0%}"


async def busy(seconds: float = 2.0) -> float:
    """The share of the processors that others take, looked at while nothing is measured."""
    before = _times()
    await asyncio.sleep(seconds)
    spent = [after - then for after, then in zip(_times(), before, strict=True)]
    idle, waiting = spent[3:5]
    return 1 - (idle + waiting) / max(sum(spent), 1)


def _times() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def _commit() -> str:
    """The commit, with a star where the tree has changed since; empty outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False).stdout

    try:
        return git("rev-parse", "--short", "HEAD").strip() + ("*" if git("status", "--porcelain").strip() else "")
    except OSError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


async def _redis(url: str) -> str:
    async with Redis.from_url(url, protocol=2) as redis:
        info = await redis.info("server")
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"
