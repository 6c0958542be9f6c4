"""`python -m cc_gateway doctor`: runs the checks, prints what they found, and gives the exit status."""

import asyncio
import io
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Final

import structlog
from rich.console import Console
from rich.text import Text

from cc_gateway.doctor.configuration import read_settings
from cc_gateway.doctor.examination import Examination, examine
from cc_gateway.doctor.report import MARKS, as_json, pieces, plain

INTERRUPTED: Final = 130


def main(*, for_programs: bool) -> int:
    """0 where sessions can run, 1 where something keeps them from it."""
    _hush()
    settings, first = read_settings()
    try:
        examination = asyncio.run(_stoppable(examine(settings, first)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    if for_programs:
        print(json.dumps(as_json(examination), indent=2))
    else:
        _print(examination)
    return 0 if examination.well else 1


async def _stoppable(work: Coroutine[None, None, Examination]) -> Examination:
    """SIGTERM ends the work as Ctrl-C does, and what it has begun is taken back."""
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _hush() -> None:
    """What the parts log while they fail is what the report says better."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _print(examination: Examination) -> None:
    say = str if _knows_marks(sys.stdout.encoding) else plain
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False)
    for text, style in pieces(examination):
        console.print(Text(say(text), style=style), end="", soft_wrap=True)


def _knows_marks(encoding: str) -> bool:
    try:
        "".join(mark for mark, _ in MARKS.values()).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
