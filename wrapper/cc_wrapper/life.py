"""One `claude` process from its start to its death.

Above it: the conductor (`session`), which decides what is written and what an end means. Below it: the process, its
control requests and the translator. It knows nothing of turns or of Redis.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final, Protocol

from cc_protocol.events import EventDelta, EventStart
from cc_protocol.launch import Launch
from cc_wrapper.claude.command import Choices, Endpoint, command, environment
from cc_wrapper.claude.control import Control, answer_to
from cc_wrapper.claude.framing import Framer, Oversize
from cc_wrapper.claude.identity import Conversation
from cc_wrapper.claude.process import Process, first_of
from cc_wrapper.claude.reaper import Reaper
from cc_wrapper.translate.line import parse, text_of
from cc_wrapper.translate.meaning import Meaning
from cc_wrapper.translate.stream import coalesced
from cc_wrapper.translate.translator import Translator
from cc_wrapper.translate.values import JsonObject, arr, obj, text

_START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_RAW_LIMIT: Final = 4 * 1024 * 1024
"""A line above this is reported by its events alone: twice would be too much for one entry."""

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where what `claude` says goes."""

    def said(self, meaning: Meaning, raw: str | None) -> None: ...

    def streamed(self, previews: list[EventStart | EventDelta]) -> None: ...

    async def room(self) -> None:
        """Returns once more can be taken."""

    def runs_as(self, claude_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ServerProblem:
    """An MCP server that is not connected."""

    name: str
    message: str


class Life:
    def __init__(self, launch: Launch, process: Process, conversation: Conversation, sink: Sink) -> None:
        self._launch = launch
        self._sink = sink
        self._framer = Framer(launch.max_line_bytes)
        self._translator = Translator(launch.mcp_servers)
        self._answers: set[asyncio.Task[None]] = set()
        self.process = process
        self.conversation = conversation
        self.control = Control(process.write_line)

    @classmethod
    async def start(
        cls,
        launch: Launch,
        choices: Choices,
        endpoint: Endpoint,
        conversation: Conversation,
        inherited: dict[str, str],
        reaper: Reaper,
        sink: Sink,
    ) -> "Life":
        argv = command(launch, choices, conversation)
        env = environment(launch, endpoint, inherited)
        process = await Process.start(argv, env, launch.workspace, reaper)
        log.info("claude started", extra={"pid": process.pid, "resumed": conversation.resume is not None})
        return cls(launch, process, conversation, sink)

    async def prepare(self) -> list[ServerProblem]:
        """Wait until `claude` takes prompts and its MCP servers are settled; raises `ControlError` if it dies."""
        await self.control.request("initialize", _START_SECONDS, hooks=None)
        if not self._launch.mcp_servers:
            return []
        deadline = asyncio.get_running_loop().time() + self._launch.mcp_connect_seconds
        while True:
            servers = [obj(one) for one in arr((await self.control.request("mcp_status", 10)).get("mcpServers"))]
            late = asyncio.get_running_loop().time() >= deadline
            if late or not any(server.get("status") == "pending" for server in servers):
                return [_problem(server) for server in servers if server.get("status") not in {"connected", "disabled"}]
            await asyncio.sleep(_POLL_SECONDS)

    async def read(self) -> None:
        """Take in all that `claude` says, until it is gone."""
        async for chunk in self.process.chunks():
            self._take(self._framer.feed(chunk))
            await self._wait_for_room()
        self._take(self._framer.close())
        self.control.abandon()
        self._sink.said(Meaning(self._translator.end()), None)

    async def _wait_for_room(self) -> None:
        """Stop reading while nobody takes what is read; but never from a process that is gone, whose pipe would be lost."""
        room = asyncio.ensure_future(self._sink.room())
        try:
            await first_of(room, self.process.exited)
        finally:
            room.cancel()

    def _take(self, lines: list[bytes | Oversize]) -> None:
        previews: list[EventStart | EventDelta] = []
        for line in lines:
            meaning = self._meaning(line)
            previews += meaning.previews
            if meaning.claims or meaning.signal:
                raw = None if isinstance(line, Oversize) or len(line) > _RAW_LIMIT else text_of(line)
                self._sink.said(meaning, raw)
        self._sink.streamed(coalesced(previews))

    def _meaning(self, line: bytes | Oversize) -> Meaning:
        if isinstance(line, Oversize):
            log.warning("line above the limit", extra={"bytes": line.size})
            return self._translator.oversize(line.size)
        parsed = parse(line)
        if parsed is None:
            log.warning("line not understood", extra={"bytes": len(line)})
            return self._translator.unparsable(text_of(line))
        self._own_business(parsed)
        return self._translator.line(parsed)

    def _own_business(self, line: JsonObject) -> None:
        match line.get("type"):
            case "control_response":
                self.control.answered(line)
            case "control_request":
                self._write(answer_to(line))
            case "result" | "system" if line.get("subtype") in {"init", "success"}:
                if claude_id := text(line.get("session_id")):
                    self._sink.runs_as(claude_id)

    def _write(self, line: bytes) -> None:
        task = asyncio.create_task(self._write_quietly(line))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _write_quietly(self, line: bytes) -> None:
        try:
            await self.process.write_line(line)
        except ConnectionError:
            log.info("claude takes no answer any more")


def _problem(server: JsonObject) -> ServerProblem:
    status = text(server.get("status")) or "unknown"
    return ServerProblem(text(server.get("name")) or "", text(server.get("error")) or f"status: {status}")


def why_it_ended(process: Process) -> str:
    """The exit of a process in words, with the end of what it wrote on stderr."""
    tail = process.stderr_tail[-2000:]
    return f"claude {_how_it_ended(process)}" + (f": {tail}" if tail else ".")


def _how_it_ended(process: Process) -> str:
    if process.alive:
        return "closed its output"
    if limit := process.out_of_memory:
        return f"was killed because memory ran out (limit {limit / 2**20:.0f} MiB)"
    code = process.exited.result()
    return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"


async def installed_version(launch: Launch, reaper: Reaper, inherited: dict[str, str], timeout: float = 20) -> str:
    """What `claude --version` says first; empty where it says nothing in time."""
    env = {name: value for name, value in inherited.items() if name in {"PATH", "HOME", "LANG"}}
    process = await Process.start([launch.claude_binary, "--version"], env, launch.workspace, reaper)
    output = b""
    try:
        async with asyncio.timeout(timeout):
            async for chunk in process.chunks():
                output += chunk
    except TimeoutError:
        process.kill()
    await process.gone_within(5)
    await process.close()
    words = output.decode("utf-8", "replace").split()
    return words[0] if words else ""
