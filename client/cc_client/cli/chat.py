"""`cc-docker chat`: a conversation in the terminal, prompt by prompt, in one session.

Between prompts nothing runs here: the terminal's own line editor waits, and Ctrl-C and Ctrl-D are its. A turn runs in an
event loop that counts Ctrl-C. What happened in between, say from another client, is shown with the next prompt.
"""

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import Final

import typer

from cc_client import locate
from cc_client.cli.execute import report
from cc_client.cli.interrupts import Interrupts
from cc_client.cli.resolve import resolve
from cc_client.cli.run import Opening, config_of, workspace_of
from cc_client.cli.screen import Screen
from cc_client.cli.turn import TurnWatch
from cc_client.client import Client
from cc_client.errors import ApiError, CCClientError
from cc_client.models import Event, Preview, Session
from cc_client.render import notes
from cc_client.render.clean import one_line
from cc_client.render.live import LiveView

with contextlib.suppress(ImportError):
    import readline  # noqa: F401 (gives `input` its line editor and history)

LEAVE: Final = {"/exit", "/quit"}
_GONE: Final = {"not_found", "unauthenticated", "invalid_token"}


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Which session, or how the new one is to be."""

    session: str | None
    new: bool
    opening: Opening


class Chat:
    """One conversation at the terminal."""

    def __init__(self, options: ChatOptions) -> None:
        self._options = options
        self._screen = Screen()
        self._own: set[str] = set()
        self._view: LiveView
        self._client: Client
        self._watch: TurnWatch

    def run(self) -> None:
        """Talk until Ctrl-D or /exit."""
        try:
            with asyncio.Runner() as runner:
                runner.run(self._open())
                try:
                    self._talk(runner)
                finally:
                    runner.run(self._client.close())
        except CCClientError as error:
            raise typer.Exit(report(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    def _talk(self, runner: asyncio.Runner) -> None:
        while (prompt := self._asked()) is not None:
            if not prompt.strip():
                continue
            if prompt.strip() in LEAVE:
                return
            try:
                runner.run(self._turn(prompt))
            except CCClientError as error:
                report(error)
                if isinstance(error, ApiError) and error.code in _GONE:
                    raise typer.Exit(1) from None

    def _asked(self) -> str | None:
        """The next prompt; None at the end (Ctrl-D)."""
        while True:
            self._screen.line()
            try:
                return input("› " if sys.stdin.isatty() else "")
            except EOFError:
                return None
            except KeyboardInterrupt:
                self._screen.note("\n(Ctrl-D or /exit leaves)")

    # ------------------------------------------------------------ inside the loop

    async def _open(self) -> None:
        gateway = await asyncio.to_thread(locate.find)
        self._client = Client(gateway.url, gateway.token)
        self._view = LiveView(self._screen.width, self._own, scripted=notes.is_scripted(gateway))
        session = await self._session()
        cursor = await self._client.last_seq(session.session_id)
        self._watch = TurnWatch(self._client, session.session_id, show=self._show, say=self._say, cursor=cursor)
        about = f"“{one_line(session.title, 60)}”, " if session.title else ""
        self._session_id = session.session_id
        self._screen.note(f"{session.session_id} ({about}{session.status})")
        self._screen.note("Ctrl-C interrupts the agent, Ctrl-D or /exit leaves; other slash commands go to the agent")

    async def _session(self) -> Session:
        """The one that was named, the newest, or a new one."""
        client, options = self._client, self._options
        if options.session:
            return await client.session(await resolve(client, options.session))
        newest = [] if options.new else (await client.sessions(limit=1)).data
        if newest:
            return newest[0]
        opening = options.opening
        return await client.create_session(
            title=opening.title, workspace=workspace_of(opening), config=config_of(opening)
        )

    async def _turn(self, prompt: str) -> None:
        with Interrupts() as interrupts:
            turn = await self._client.send(self._session_id, prompt)
            self._own.add(turn.turn_id)
            if await self._watch.to_the_end(turn.turn_id, interrupts) is None:
                self._screen.line()
            if interrupts.terminated:
                raise KeyboardInterrupt

    def _say(self, text: str) -> None:
        self._screen.pieces(self._view.notice(text))

    def _show(self, item: Event | Preview) -> None:
        self._screen.pieces(self._view.take(item))
