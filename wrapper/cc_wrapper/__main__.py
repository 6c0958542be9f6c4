"""`python -m cc_wrapper`: start-up, signals, and the exit code.

Exit codes: 0 stopped, or replaced by a newer incarnation; 70 it cannot go on and has said why; 75 Redis was away for too
long; 78 what it was given cannot be used.
"""

import asyncio
import logging
import os
import signal
import sys
from typing import Final

from cc_wrapper.claude.reaper import Reaper
from cc_wrapper.errors import ConfigurationError, WrapperError
from cc_wrapper.forwarder.server import Forwarder
from cc_wrapper.launch import Run, read_run
from cc_wrapper.logs import configure_logging
from cc_wrapper.session import Session
from cc_wrapper.wire.inbox import Inbox
from cc_wrapper.wire.link import Link, LinkError, ReplacedError
from cc_wrapper.wire.previews import Previews

OK: Final = os.EX_OK
FATAL: Final = os.EX_SOFTWARE
LOST: Final = os.EX_TEMPFAIL
BAD_CONFIGURATION: Final = os.EX_CONFIG

_FLUSH_SECONDS: Final = 1.5
_FATAL_FLUSH_SECONDS: Final = 30.0
_LAST_RESORT_SECONDS: Final = 8.0
"""Beside the flush. Whoever asks us to stop kills us after 10 s (the gateway's `stop_grace`)."""

log = logging.getLogger("cc_wrapper")


async def serve(run: Run) -> int:
    """Run one incarnation to its end."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    reaper = Reaper()
    reaper.install()
    launch, previews = run.launch, Previews(run.launch.session_id)
    link = Link(run.redis_socket, run.secrets)
    async with Forwarder(run.gateway_socket, run.secrets.token) as forwarder:
        session = Session(run, forwarder.endpoint, reaper, previews)
        inbox = Inbox(launch.session_id, launch.incarnation, session.take)
        links = [
            asyncio.create_task(link.run("outbox", session.outbox.send), name="outbox"),
            asyncio.create_task(link.run("inbox", inbox.read), name="inbox"),
            asyncio.create_task(link.run("previews", previews.send), name="previews"),
        ]
        try:
            return await _conduct(session, links, stopping)
        finally:
            await reaper.kill_descendants(patience=1)
            for task in links:
                task.cancel()
            await asyncio.wait(links, timeout=0.5)


async def _conduct(session: Session, links: "list[asyncio.Task[None]]", stopping: asyncio.Event) -> int:
    """Wait for the first reason to end, then end in order."""
    running = asyncio.create_task(session.run(), name="session")
    asked = asyncio.create_task(stopping.wait(), name="stop")
    await asyncio.wait({running, asked, *links}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    code, patience = _verdict(session, running, links)
    asyncio.get_running_loop().call_later(_LAST_RESORT_SECONDS + patience, _last_resort, code)
    await session.stop("stopped")
    await asyncio.wait({running}, timeout=1)
    running.cancel()
    if patience:
        await session.outbox.flush(patience)
    return code


def _verdict(session: Session, running: "asyncio.Task[None]", links: "list[asyncio.Task[None]]") -> tuple[int, float]:
    """The exit code, and how long the outbox may take to be sent."""
    for task in (running, *links):
        error = task.exception() if task.done() else None
        if isinstance(error, LinkError):
            log.warning("no more redis", extra={"reason": type(error).__name__})
            return (OK if isinstance(error, ReplacedError) else LOST), 0.0
        if error is not None:
            told = error if isinstance(error, WrapperError) else WrapperError("internal", repr(error))
            log.error("fatal", extra={"code": told.code}, exc_info=None if told is error else error)
            session.fatal(told.code, told.message)
            return FATAL, _FATAL_FLUSH_SECONDS
    log.info("asked to stop")
    return OK, _FLUSH_SECONDS


def _last_resort(code: int) -> None:
    """Every step of the end is bounded; should one not keep to it, this tells which, and ends the process all the same."""
    for task in asyncio.all_tasks():
        where = [f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in task.get_stack()]
        log.error("still running at the end", extra={"task": task.get_name(), "stack": where})
    os._exit(code or FATAL)


def main() -> int:
    try:
        run = read_run(os.environ)
        configure_logging(session_id=run.launch.session_id, incarnation=run.launch.incarnation)
    except ConfigurationError as error:
        print(f"cc_wrapper: {error.message}", file=sys.stderr)
        return BAD_CONFIGURATION
    return asyncio.run(serve(run))


if __name__ == "__main__":
    sys.exit(main())
