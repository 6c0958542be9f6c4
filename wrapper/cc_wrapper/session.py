"""The conductor: prompts in, entries out, one turn at a time, one `claude` after another.

Above it: `__main__`. Below it: the `Life` of the running `claude`, the turns and the outbox. All state is changed on the
event loop by plain functions; what has to wait runs in tasks of its own and comes back to them.
"""

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any, Final

from cc_protocol.commands import Ack, Command, Configure, Interrupt, Prompt
from cc_protocol.events import EventDelta, EventStart
from cc_protocol.outbox import Beat
from cc_wrapper.chooser import Chooser
from cc_wrapper.claude.command import Choices, Endpoint
from cc_wrapper.claude.identity import Identity
from cc_wrapper.claude.reaper import Reaper
from cc_wrapper.configure.apply import configure
from cc_wrapper.errors import ControlError, FatalError
from cc_wrapper.interrupter import Interrupter
from cc_wrapper.launch import Run
from cc_wrapper.life import Life, installed_version, why_it_ended
from cc_wrapper.reporter import Reporter
from cc_wrapper.setup.script import Setup
from cc_wrapper.translate.meaning import Meaning, RunError
from cc_wrapper.turns import Turns, prompt_line
from cc_wrapper.wire.outbox import Outbox
from cc_wrapper.wire.previews import Previews

_DEATHS: Final = 5
_PENDING_TOLD: Final = 100
_BACKOFF: Final = (0.0, 0.5, 1.0, 2.0)
_LOST: Final = ("No conversation found", "is already in use")

log = logging.getLogger(__name__)


class Session:
    def __init__(self, run: Run, endpoint: Endpoint, reaper: Reaper, previews: Previews) -> None:
        launch = run.launch
        self._launch, self._endpoint, self._reaper, self._previews = launch, endpoint, reaper, previews
        self.outbox = Outbox(launch.session_id, launch.incarnation, launch.beat_seconds, self._beat)
        self._reporter = Reporter(self.outbox)
        self._turns = Turns(launch.incarnation, self._reporter, on_end=self._next)
        self._identity = Identity(launch.session_id, launch.claude_dir)
        self._chooser = Chooser(launch, self._reporter)
        self._setup = Setup(launch, reaper, self._reporter)
        self._life: Life | None = None
        self._last_end = ""
        self._ready = False
        self._changing = 0
        self._stopping = False
        self._interrupter = Interrupter(self._turns, on_done=self._next)
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------ what the gateway says

    def take(self, command: Command) -> None:
        match command:
            case Ack():
                self.outbox.acknowledge(command.n, resend=command.resend)
            case Prompt():
                self._turns.add(command)
                self._next()
            case Interrupt():
                self._interrupt(command.turn_id)
            case Configure():
                self._configure(command)

    def _next(self) -> None:
        """Write the next prompt if `claude` is free for it."""
        life = self._life
        if life is None or not self._ready or self._stopping or self._interrupter.busy or self._changing:
            return
        if prompt := self._turns.begin():
            assert self._turns.current is not None
            self._spawn(self._write(life, prompt_line(prompt.content, self._turns.current.uuid)))

    async def _write(self, life: Life, line: bytes) -> None:
        try:
            await life.process.write_line(line)
        except ConnectionError:
            log.warning("claude does not take the prompt")  # it is dying: its end is the turn's

    def _interrupt(self, turn_id: str) -> None:
        turn = self._turns.current
        if turn is None or turn.turn_id != turn_id:
            self._turns.drop(turn_id, "interrupted")
        elif self._life is not None:
            self._interrupter.interrupt(self._life, turn)

    def _configure(self, command: Configure) -> None:
        """Take over what is new: the gateway repeats the settings with every prompt."""
        before = self._chooser.chosen
        self._chooser.take(command)
        if self._life is not None and self._ready and self._chooser.chosen != before:
            self._changing += 1
            self._spawn(self._change(self._life, before))

    async def _change(self, life: Life, before: Choices) -> None:
        try:
            if not await self._chooser.tell(life, before) and life is self._life:
                self._ready = False
        finally:
            self._changing -= 1
            self._next()

    # ------------------------------------------------------------ what `claude` says (a `Sink`)

    def said(self, meaning: Meaning, raw: str | None) -> None:
        if meaning.claims:
            self._reporter.lines(meaning.claims, raw, self._turns.current_id)
        if meaning.signal is not None:
            self._turns.note(meaning.signal)
        self._turns.watch_quiet()

    def streamed(self, previews: list[EventStart | EventDelta]) -> None:
        self._previews.put(previews)

    async def room(self) -> None:
        await self.outbox.room()

    def runs_as(self, claude_id: str) -> None:
        if self._ready:
            self._identity.adopt(claude_id)

    def _beat(self, unacknowledged: int) -> Beat:
        return Beat(
            ready=self._ready,
            turn_id=self._turns.current_id,
            last_turn_id=self._turns.last_turn_id,
            pending=self._turns.pending_ids[:_PENDING_TOLD],
            unacknowledged=unacknowledged,
        )

    # ------------------------------------------------------------ one `claude` after another

    async def run(self) -> None:
        """Keep a `claude` running until told to stop; raises `WrapperError` when it cannot be kept."""
        await self._check_version()
        await self._setup.run()
        configure(self._launch)  # not before: a script may well fill the workspace
        deaths = 0
        while not self._stopping:
            finished = self._turns.finished
            await self._live()
            deaths = 1 if self._turns.finished > finished else deaths + 1
            if self._stopping:
                return
            if deaths >= _DEATHS:
                raise FatalError("cli_crashes", f"{deaths} times in a row without finishing a turn: {self._last_end}")
            await asyncio.sleep(_BACKOFF[min(deaths, len(_BACKOFF)) - 1])

    async def _check_version(self) -> None:
        binary, pinned = self._launch.claude_binary, self._launch.claude_version
        version = await installed_version(self._launch, self._reaper, dict(os.environ))
        if version != pinned:
            raise FatalError(
                "cli_version",
                f"{binary} is version {version or 'unknown'}, but {pinned} is pinned: install that version "
                "(the wheel claude-agent-sdk carries one) or change the pin",
            )

    async def _live(self) -> None:
        life = await Life.start(
            self._launch,
            self._chooser.chosen,
            self._endpoint,
            self._identity.conversation(),
            dict(os.environ),
            self._reaper,
            self,
        )
        self._life = life
        preparing = self._spawn(self._prepare(life, self._chooser.chosen))
        try:
            await life.read()
        finally:
            preparing.cancel()
            await self._bury(life)

    async def _prepare(self, life: Life, started_with: Choices) -> None:
        try:
            problems = await life.prepare()
        except ControlError as error:
            log.warning("claude did not start", extra={"code": error.code})
            life.process.kill()
            return
        for problem in problems:
            self._reporter.problem(
                "mcp_connection_failed_error", problem.message, status="exhausted", mcp_server_name=problem.name
            )
        while (now := self._chooser.chosen) != started_with:  # what was chosen while it started
            if not await self._chooser.tell(life, started_with):
                return
            started_with = now
        self._ready = True
        self._reporter.ready(self._launch.claude_version, resumed=life.conversation.resume is not None)
        self._next()

    async def _bury(self, life: Life) -> None:
        """What remains when a `claude` is gone: its orphans, its turn, its conversation."""
        was_ready, self._ready, self._life = self._ready, False, None
        life.process.kill()
        await life.process.gone_within(2)
        await self._reaper.kill_descendants(patience=2, but=self._setup.left)
        await life.process.close()
        why = self._last_end = why_it_ended(life.process)
        log.info("claude ended", extra={"code": life.process.exited.result() if not life.process.alive else None})
        self._turns.end(RunError("cli_exited", why))
        if not was_ready and any(words in life.process.stderr_tail for words in _LOST):
            self._reporter.problem("conversation_lost_error", why)
            self._identity.renew()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ------------------------------------------------------------ the end

    async def stop(self, why: str) -> None:
        """The ladder: interrupt, end of input, SIGINT, SIGKILL. Bounded; what runs ends interrupted."""
        self._stopping = True
        self._turns.drop_all(why)
        await self._setup.stop()
        life, turn = self._life, self._turns.current
        if life is None:
            return
        if turn is not None:
            await self._interrupter.ask(life, turn, why, seconds=1)
        await life.process.stop()

    def fatal(self, code: str, message: str) -> None:
        self._stopping = True
        self._turns.end(RunError(code, message))
        self._turns.drop_all(code)
        self._reporter.fatal(code, message)
