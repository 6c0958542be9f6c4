"""The setup script from its start to its end.

Above it: the conductor, which starts no `claude` before this is done. Below it: a shell, and the pipe that it writes into.
The script is its user's, and has what the agent's tools have; it gets neither the token nor a way to the model.
"""

import asyncio
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cc_protocol.launch import Launch
from cc_wrapper.claude.command import setup_environment
from cc_wrapper.claude.reaper import Living, Reaper, descendants, die_with_parent
from cc_wrapper.configure.folder import Folder
from cc_wrapper.errors import ConfigurationError, FatalError
from cc_wrapper.reporter import Reporter
from cc_wrapper.setup.listener import Listener

SCRIPT_FILE: Final = "cc-docker/setup.sh"
"""Below `claude_dir`. A file, so that what the script starts has an empty standard input and not the script in it."""

_SHELLS: Final = ("bash", "sh")
_KILL_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


class Setup:
    """The script of one incarnation, where its session has one."""

    def __init__(self, launch: Launch, reaper: Reaper, reporter: Reporter) -> None:
        self._launch = launch
        self._reaper = reaper
        self._reporter = reporter
        self._pipe: asyncio.BaseTransport | None = None
        self._running = False
        self._stopped = False
        self.left: frozenset[Living] = frozenset()
        """What the script left running. It belongs to the session, not to a `claude`."""

    async def run(self) -> None:
        """Run it to its end; raises `FatalError` where it does not end with 0. Returns at once where there is none."""
        if self._launch.setup is None or self._stopped:
            return
        self._running = True
        try:
            await self._run(self._launch.setup)
        finally:
            self._running = False

    async def _run(self, text: str) -> None:
        loop, listener = asyncio.get_running_loop(), Listener(self._reporter.setup_output)
        began = loop.time()
        exited = await self._start(text, listener)
        await asyncio.wait({exited}, timeout=self._launch.setup_seconds)
        code = exited.result() if exited.done() else None
        if code is None:
            await self._reaper.kill_descendants(_KILL_SECONDS)
        await listener.finish()
        if self._stopped:
            return
        log.info("setup ended", extra={"code": code})
        self._reporter.setup_completed(code if code is not None and code >= 0 else None, loop.time() - began)
        if code != 0:
            raise FatalError("setup_failed", why_it_failed(code, self._launch.setup_seconds, listener.output.tail()))
        self.left = frozenset(descendants(os.getpid()))

    async def _start(self, text: str, listener: Listener) -> "asyncio.Future[int]":
        """Start the shell; the future of its exit code."""
        env = setup_environment(self._launch, os.environ)
        try:
            Folder(Path(self._launch.claude_dir)).replace(SCRIPT_FILE, text)
        except OSError as error:
            raise ConfigurationError(f"cannot write {self._launch.claude_dir}: {error.strerror}") from None
        try:
            popen = subprocess.Popen(  # noqa: ASYNC220  a fork of a small process: milliseconds
                [find_shell(env), str(Path(self._launch.claude_dir, SCRIPT_FILE))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self._launch.workspace,
                start_new_session=True,  # `kill 0` in a script is not meant for us
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise FatalError("setup_failed", f"the setup script cannot be started: {error.strerror}") from None
        exited = self._reaper.watch(popen.pid)
        exited.add_done_callback(lambda done: setattr(popen, "returncode", done.result()))
        self._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: listener, popen.stdout)
        log.info("setup started", extra={"pid": popen.pid})
        return exited

    async def stop(self) -> None:
        """End it with all that it has started, if it runs, and run it no more."""
        self._stopped = True
        if self._running:
            await self._reaper.kill_descendants(_KILL_SECONDS)


def find_shell(env: Mapping[str, str]) -> str:
    """The script's shell: bash, or sh where there is none; as the script would find it, else where shells always lie."""
    for name in _SHELLS:
        for path in (env["PATH"], os.defpath):
            if found := shutil.which(name, path=path):
                return found
    raise FatalError("setup_failed", "the setup script cannot be started: there is neither bash nor sh here")


def why_it_failed(code: int | None, seconds: float, tail: str) -> str:
    """In words, with the last lines of its output. `code` is None where it took longer than `seconds`."""
    if code is None:
        how = f"was not done after {seconds:g} s"
    else:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"the setup script {how}" + (f". Its last lines:\n{tail}" if tail else " and wrote nothing.")
