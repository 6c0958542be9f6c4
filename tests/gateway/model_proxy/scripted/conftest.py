"""A scripted model on a loopback port, a client for it, and the real claude CLI pointed at it."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from cc_gateway.model_proxy.scripted import Scenario, create_scripted_app
from support.processes import belonging_to

BOUND = 60


def _claude() -> Path | None:
    spec = find_spec("claude_agent_sdk")
    binary = Path(spec.origin).parent / "_bundled" / "claude" if spec and spec.origin else None
    return binary if binary and binary.exists() else None


@dataclass
class Server:
    """A running scripted model, and the requests it saw."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def body(self, steps: Any, *, prompt: str = "go", **extra: Any) -> dict[str, Any]:
        return {
            "model": "claude-test",
            "max_tokens": 1000,
            "messages": [{"role": "user", "content": script(steps, prompt)}],
        } | extra

    async def ask(self, body: dict[str, Any]) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=BOUND) as client:
            return await client.post("/v1/messages", json=body)

    async def stream(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return sse((await self.ask(body | {"stream": True})).text)


@dataclass
class Run:
    """What one run of the CLI printed."""

    code: int
    lines: list[dict[str, Any]]
    errors: str = ""

    @property
    def result(self) -> dict[str, Any]:
        return next(line for line in reversed(self.lines) if line["type"] == "result")

    @property
    def session(self) -> str:
        return str(self.lines[0]["session_id"])

    def blocks(self, kind: str, role: str = "assistant") -> list[dict[str, Any]]:
        messages = [line["message"]["content"] for line in self.lines if line["type"] == role]
        return [
            block for content in messages if isinstance(content, list) for block in content if block["type"] == kind
        ]

    def of(self, subtype: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("subtype") == subtype]


class Talk:
    """A persistent CLI process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def send(self, **line: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        await self.process.stdin.drain()

    async def say(self, content: Any) -> None:
        await self.send(type="user", message={"role": "user", "content": content})

    async def interrupt(self) -> None:
        await self.send(type="control_request", request_id="r", request={"subtype": "interrupt"})

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> Run:
        assert self.process.stdout
        lines = []
        async with asyncio.timeout(BOUND):
            while raw := await self.process.stdout.readline():
                lines.append(json.loads(raw))
                if wanted(lines[-1]):
                    return Run(0, lines)
        raise AssertionError(f"the CLI ended before it said what was awaited: {lines[-3:]}")

    async def turn(self, content: Any) -> Run:
        await self.say(content)
        return await self.until(lambda line: line["type"] == "result")


@dataclass
class Cli:
    """The real CLI with a home and a workspace of its own."""

    binary: Path
    home: Path
    url: str
    retries: int = 2

    def _command(self, *flags: str) -> list[str]:
        fixed = ["-p", "--output-format", "stream-json", "--verbose", "--dangerously-skip-permissions"]
        return [str(self.binary), *fixed, "--setting-sources=", "--strict-mcp-config", *flags]

    def _env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.home / ".claude"),
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "x",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",
            "CLAUDE_CODE_MAX_RETRIES": str(self.retries),
        }

    @property
    def workspace(self) -> Path:
        path = self.home / "workspace"
        path.mkdir(exist_ok=True)
        return path

    async def run(self, prompt: str, *flags: str) -> Run:
        process = await self._start(asyncio.subprocess.DEVNULL, *flags, "--", prompt)
        try:
            out, err = await asyncio.wait_for(process.communicate(), BOUND)
        finally:
            await self._reap(process)
        return Run(process.returncode or 0, [json.loads(line) for line in out.splitlines()], err.decode())

    @asynccontextmanager
    async def talk(self, *flags: str) -> AsyncIterator[Talk]:
        process = await self._start(asyncio.subprocess.PIPE, "--input-format", "stream-json", *flags)
        try:
            yield Talk(process)
        finally:
            await self._reap(process)

    async def _start(self, stdin: int, *flags: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command(*flags),
            cwd=self.workspace,
            env=self._env(),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if stdin == asyncio.subprocess.DEVNULL else asyncio.subprocess.DEVNULL,
            limit=64 * 1024 * 1024,
        )

    async def _reap(self, process: asyncio.subprocess.Process) -> None:
        """End it and what it leaves behind: a killed CLI orphans its Bash tools."""
        if process.returncode is None:
            process.kill()
        await asyncio.wait_for(process.wait(), BOUND)
        for orphan in belonging_to(self.home):
            with suppress(psutil.Error):
                orphan.kill()


def script(steps: Any, prompt: str = "go") -> str:
    return f"{prompt}\n```scenario\n{json.dumps(steps)}\n```"


def sse(text: str) -> list[dict[str, Any]]:
    """The events of a stream; the `event:` line of each must say what its data says."""
    events = []
    for part in text.split("\n\n"):
        if part:
            name, data = part.split("\n", 1)
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
    return events


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start scripted models; each stops with the test."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(scenario: Scenario | None = None) -> Server:
        # Listening before the thread runs: a client's first connection waits in the backlog.
        listener = socket.create_server(("127.0.0.1", 0))
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def on_request(body: dict[str, Any], headers: Any) -> None:
            server.requests.append(body)
            server.headers.append(dict(headers))

        app = create_scripted_app(scenario, on_request=on_request)
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        runner = uvicorn.Server(config)
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((runner, thread))
        return server

    yield start
    for runner, thread in running:
        runner.should_exit = True
        thread.join(BOUND)


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve()


@pytest.fixture
def cli_for(tmp_path: Path) -> Callable[[Server], Cli]:
    binary = _claude()
    if binary is None:
        pytest.skip("the claude binary of the package claude-agent-sdk is not installed")
    return lambda server: Cli(binary, tmp_path, server.url)


@pytest.fixture
def cli(server: Server, cli_for: Callable[[Server], Cli]) -> Cli:
    return cli_for(server)


@pytest.fixture
def as_prompt() -> Callable[..., str]:
    return script
