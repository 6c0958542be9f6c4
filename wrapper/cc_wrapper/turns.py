"""The turns of this incarnation: each prompt is taken once and run once, one at a time.

Above it: the conductor. It knows which turn runs and when it is over; how a prompt reaches `claude`, it does not.
"""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Callable
from typing import Final

import orjson
from pydantic import JsonValue

from cc_protocol.commands import Prompt
from cc_protocol.events import Content
from cc_wrapper.reporter import Reporter
from cc_wrapper.translate.meaning import PromptState, RunError, Signal
from cc_wrapper.turn import NO_RESULT, Turn

_QUIET_SECONDS: Final = 2.0
_NAMESPACE: Final = uuid.UUID("0c7f8a55-7a3f-5b43-8c55-3f4a5a0f9d10")


class Turns:
    def __init__(self, incarnation: int, reporter: Reporter, on_end: Callable[[], None]) -> None:
        self._incarnation = incarnation
        self._reporter = reporter
        self._seen: set[str] = set()
        self._pending: deque[Prompt] = deque()
        self._quiet: asyncio.TimerHandle | None = None
        self._on_end = on_end
        self._ended = asyncio.Event()
        self._tells_prompts = False
        self.current: Turn | None = None
        self.last_turn_id: str | None = None
        self.finished = 0

    @property
    def current_id(self) -> str | None:
        return self.current.turn_id if self.current else None

    @property
    def pending_ids(self) -> list[str]:
        return [prompt.turn_id for prompt in self._pending]

    def add(self, prompt: Prompt) -> None:
        if prompt.turn_id not in self._seen:
            self._seen.add(prompt.turn_id)
            self._pending.append(prompt)

    def drop(self, turn_id: str, detail: str) -> None:
        """End a turn that has not begun; do nothing for any other."""
        for prompt in list(self._pending):
            if prompt.turn_id == turn_id:
                self._pending.remove(prompt)
                self.last_turn_id = turn_id
                self._reporter.never_ran(turn_id, detail)

    def drop_all(self, detail: str) -> None:
        for prompt in list(self._pending):
            self.drop(prompt.turn_id, detail)

    def begin(self) -> Prompt | None:
        """The next prompt, whose turn runs from now on; None while one runs or none waits."""
        if self.current is not None or not self._pending:
            return None
        prompt = self._pending.popleft()
        self.current = Turn(prompt.turn_id, self._uuid(prompt.turn_id), tells_prompts=self._tells_prompts)
        self._ended = asyncio.Event()
        return prompt

    def _uuid(self, turn_id: str) -> str:
        """`claude` answers a uuid that it has seen never again, so a turn that another incarnation repeats has another."""
        return str(uuid.uuid5(_NAMESPACE, f"{turn_id}/{self._incarnation}"))

    def note(self, signal: Signal) -> None:
        """Take in what a line said about the run."""
        self._tells_prompts = self._tells_prompts or isinstance(signal, PromptState)
        if self.current is not None:
            self.current.note(signal)
            self._end_if_over()

    def watch_quiet(self) -> None:
        """Something was said just now; look again when nothing has been for a while."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self.current is not None and self.current.might_be_over:
            self._quiet = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._on_quiet, self.current)

    def _on_quiet(self, turn: Turn) -> None:
        if self.current is turn and turn.quiet():
            self._end_if_over()

    def _end_if_over(self) -> None:
        if self.current is not None and self.current.over:
            self.finished += 1
            self.end(NO_RESULT)

    def end(self, error: RunError) -> None:
        """The running turn ends, by its results or, where it has none, by this error."""
        turn, self.current = self.current, None
        if turn is not None:
            self.last_turn_id = turn.turn_id
            self._reporter.turn_end(turn, error)
            self._ended.set()
            self._on_end()

    async def wait_for_end(self, turn: Turn, timeout: float) -> bool:
        """Whether this turn has ended, at the latest after the timeout."""
        if self.current is turn:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._ended.wait()
        return self.current is not turn


def prompt_line(content: Content, prompt_uuid: str) -> bytes:
    """A prompt as `claude` takes it. One text goes as a plain string, which is where the CLI looks for slash commands."""
    plain: JsonValue = [*content]
    if len(content) == 1 and content[0].get("type") == "text":
        plain = content[0].get("text")
    line = {"type": "user", "message": {"role": "user", "content": plain}, "uuid": prompt_uuid}
    return orjson.dumps(line)
