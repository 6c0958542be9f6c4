"""`cc-docker run`: one prompt through a gateway, which is started where none runs, and served on until Ctrl-C."""

import asyncio
import math
import os
import shlex
import shutil
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from cc_client import locate
from cc_client.cli.execute import INTERRUPTED
from cc_client.cli.interrupts import Interrupts, unless
from cc_client.cli.screen import Screen
from cc_client.cli.turn import Say, Show, TurnWatch
from cc_client.client import Client
from cc_client.errors import GatewayStartError, UsageProblem
from cc_client.launch import LocalGateway
from cc_client.locate import Gateway
from cc_client.models import Event
from cc_client.render import notes
from cc_client.render.live import LiveView


@dataclass(frozen=True, slots=True)
class Opening:
    """How a new session is to be. None: as the gateway has it."""

    model: str | None = None
    workspace: str | None = None
    permission_mode: str | None = None
    title: str | None = None
    timeout: float | None = None
    setup: str | None = None
    repo: str | None = None
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line asks for."""

    prompt: str
    opening: Opening
    once: bool = False
    json: bool = False
    port: int | None = None
    unsafe: bool = False
    scripted: bool = False


def config_of(opening: Opening) -> dict[str, object]:
    """The session's config for the API."""
    return {
        "model": opening.model,
        "permission_mode": opening.permission_mode,
        "timeout_seconds": math.ceil(opening.timeout) if opening.timeout is not None else None,
        "setup": opening.setup,
    }


def workspace_of(opening: Opening) -> str | dict[str, JsonValue] | None:
    """The session's workspace for the API."""
    if opening.repo is None:
        return opening.workspace
    repository: dict[str, JsonValue] = {"type": "git", "git_repo": opening.repo}
    return repository | ({"git_branch": opening.branch} if opening.branch else {})


def command_name() -> str:
    """How the user calls this command: by its name where that is on the path, else by where it is."""
    folder = os.environ.get("CC_DATA_DIR")
    before = f"CC_DATA_DIR={shlex.quote(folder)} " if folder else ""
    own = Path(sys.argv[0])
    if shutil.which("cc-docker") or own.name != "cc-docker":
        return before + "cc-docker"
    return before + str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


class Run:
    """One run of the command, from the gateway's start to its stop."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._screen = Screen(quiet=options.json)

    async def __call__(self) -> int:
        with Interrupts() as interrupts:
            gateway = await asyncio.to_thread(_running)
            if gateway is not None:
                self._check(gateway)
                return await self._session(gateway, None, interrupts)
            async with AsyncExitStack() as stack:
                local = await LocalGateway.start(locate.data_dir(), *self._serve_options())
                stack.push_async_callback(self._stop, local, interrupts)
                started = await self._ready(local, interrupts)
                return INTERRUPTED if started is None else await self._session(started, local, interrupts)

    # ------------------------------------------------------------ the gateway

    def _serve_options(self) -> list[str]:
        options = self._options
        port = [] if options.port is None else ["--port", str(options.port)]
        return [*port, *(["--unsafe"] if options.unsafe else []), *(["--scripted"] if options.scripted else [])]

    def _check(self, gateway: Gateway) -> None:
        """What was asked of a gateway that we would start cannot be had from one that runs."""
        options = self._options
        where = f"a gateway runs already at {gateway.url}"
        if options.scripted and not notes.is_scripted(gateway):
            raise UsageProblem(
                f"--scripted: {where}, and its model is another", hint="stop it first, or leave this out"
            )
        if options.unsafe or options.port is not None:
            self._screen.note(f"{where}: --port and --unsafe have no effect", "yellow")

    async def _ready(self, local: LocalGateway, interrupts: Interrupts) -> Gateway | None:
        starting = asyncio.create_task(local.ready())
        with self._screen.waiting("starting the gateway …"):
            if await unless(starting, interrupts.first()):
                return starting.result()
        starting.cancel()
        return None

    async def _stop(self, local: LocalGateway, interrupts: Interrupts) -> None:
        """Bounded; one more Ctrl-C kills it."""
        if not local.running:
            return
        interrupts.forget()
        stopping = asyncio.create_task(local.stop())
        with self._screen.waiting("stopping the gateway …"):
            if not interrupts.terminated and not await unless(stopping, interrupts.first()):
                local.kill()
            await stopping

    # ------------------------------------------------------------ the session

    async def _session(self, gateway: Gateway, local: LocalGateway | None, interrupts: Interrupts) -> int:
        self._screen.pieces(notes.before(gateway, started=local is not None))
        self._screen.line()
        options, opening = self._options, self._options.opening
        async with Client(gateway.url, gateway.token) as client:
            session = await client.create_session(
                prompt=options.prompt, title=opening.title, workspace=workspace_of(opening), config=config_of(opening)
            )
            show, say = self._voices(gateway)
            watch = TurnWatch(client, session.session_id, show=show, say=say)
            status = await self._watched(watch, session.turn_id or "", local, interrupts)
        if status is None:
            return INTERRUPTED
        if options.once and local is not None:
            return status
        self._screen.line()
        self._screen.pieces(notes.after(gateway, session.session_id, command=command_name()))
        return status if local is None or options.once else await self._serve(local, interrupts)

    async def _watched(
        self, watch: TurnWatch, turn_id: str, local: LocalGateway | None, interrupts: Interrupts
    ) -> int | None:
        """The turn's exit status. Raises `GatewayStartError` where our gateway ends first."""
        watching = asyncio.create_task(watch.to_the_end(turn_id, interrupts))
        if local is None:
            return await watching
        ended = asyncio.create_task(local.ended())
        try:
            await asyncio.wait({watching, ended}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                return watching.result()
            raise _died(local, ended.result())
        finally:
            for task in (watching, ended):
                task.cancel()
            await asyncio.gather(watching, ended, return_exceptions=True)

    async def _serve(self, local: LocalGateway, interrupts: Interrupts) -> int:
        self._screen.line()
        self._screen.line(f"serving until Ctrl-C; the log is {local.log}", "dim")
        interrupts.forget()
        ended = asyncio.create_task(local.ended())
        if await unless(ended, interrupts.first()):
            raise _died(local, ended.result())
        ended.cancel()
        return 0

    def _voices(self, gateway: Gateway) -> tuple[Show, Say]:
        """How events are shown, and how the command itself speaks among them."""
        if self._options.json:
            return lambda item: Screen.json(item.data) if isinstance(item, Event) else None, self._screen.note
        view = LiveView(self._screen.width, scripted=notes.is_scripted(gateway))
        return lambda item: self._screen.pieces(view.take(item)), lambda text: self._screen.pieces(view.notice(text))


def _running() -> Gateway | None:
    return locate.from_environment() or locate.running(locate.data_dir())


def _died(local: LocalGateway, status: int) -> GatewayStartError:
    return GatewayStartError(
        f"the gateway ended with status {status}",
        status=status if 0 < status < 256 else 1,
        output=local.output(),
        hint=f"its whole log: {local.log}",
    )
