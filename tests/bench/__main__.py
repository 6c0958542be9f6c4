"""`python -m bench`, which `scripts/bench` calls: options, the order of things, the end."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from bench.conditions import busy, conditions
from bench.databases import SQLITE
from bench.figures import Row
from bench.measure import MEASUREMENTS
from bench.report import table, write_json
from bench.world import Options, World, say

LONGEST_SECONDS = 600.0
"""Of one measurement: each wait in it has a bound of its own."""

DRIVERS = ("process", "docker")
INTERRUPTED = 130


def _arguments() -> argparse.Namespace:
    known = "\n".join(f"  {name:12}{what}" for name, (_, what) in MEASUREMENTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures CC-Docker side by side with what it is made of, in one run, and prints a table.",
        epilog=f"measurements:\n{known}\n\nRun it on a machine that does nothing else, and more than once.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it works, not how fast it is")
    parser.add_argument("--only", metavar="NAME,…", type=_names, default=list(MEASUREMENTS), help="these alone")
    parser.add_argument("--driver", choices=DRIVERS, default=DRIVERS[0], help="where sessions run")
    parser.add_argument(
        "--database",
        metavar="sqlite|postgresql|URL",
        default=SQLITE,
        help="postgresql starts a server of its own; on a given one (postgresql+asyncpg://…) databases are made and dropped",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write all figures there")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    return names


async def _run(arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    rows: list[Row] = []
    failed: dict[str, str] = {}
    options = Options(quick=arguments.quick, driver=arguments.driver, database=arguments.database)
    async with World(options) as world:
        found = await conditions(world)
        for name in arguments.only:
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    rows += await MEASUREMENTS[name][0](world)
            except Exception as error:  # the others count all the same
                failed[name] = f"{type(error).__name__}: {error}"
                say(f"{name} failed: {failed[name]}")
        found["busy_after"] = f"{await busy():.0%}"
    _report(arguments.json, rows, found, failed)
    return 1 if failed else 0


def _report(path: Path | None, rows: list[Row], found: dict[str, Any], failed: dict[str, str]) -> None:
    print(table(rows, found, failed))
    if path:
        write_json(path, rows, found, failed)
        say(f"all figures: {path}")


def main() -> int:
    arguments = _arguments()
    try:
        return asyncio.run(_run(arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
