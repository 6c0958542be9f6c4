"""The contract of a session driver, on one screen. Its conformance suite is `tests/contracts/driver_contract.py`."""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cc_protocol.launch import SECRETS_FILE, SESSION_FILE, Launch, Secrets


@dataclass(frozen=True)
class Folders:
    """Where a session's things lie. All of it is made and owned by the gateway."""

    workspace: Path
    claude: Path
    run: Path


@dataclass(frozen=True)
class SessionSpec:
    """One incarnation of a session, as the gateway sees it (host paths)."""

    session_id: str
    incarnation: int
    folders: Folders
    launch: Launch
    secrets: Secrets

    def write_files(self, inside: Folders) -> None:
        """Write the two files of the run folder, with the paths as they are where the wrapper runs."""
        launch = self.launch.model_copy(update={"workspace": str(inside.workspace), "claude_dir": str(inside.claude)})
        _write(self.folders.run / SESSION_FILE, launch.model_dump_json(exclude_none=True), 0o444)
        _write(self.folders.run / SECRETS_FILE, self.secrets.model_dump_json(), 0o400)


@dataclass(frozen=True)
class Exit:
    """How a place to run ended. `code` is None where nobody saw it end; a signal counts as its negative."""

    code: int | None
    reason: str


class SessionDriver(ABC):
    """Starts, watches and stops sessions. It holds no session state: the handle is a string in the database."""

    name: str
    isolated: bool
    """Whether what runs here is kept from the host: decides what an agent may do unasked."""

    @abstractmethod
    async def start(self, spec: SessionSpec) -> str:
        """Start this incarnation and return its handle.

        Idempotent per (session, incarnation): the second call finds what the first one started. What is left of an older
        incarnation is ended first. Returns once it has been started, not when it is ready. Raises `DriverError`.
        """

    @abstractmethod
    async def poll(self, handle: str) -> Exit | None:
        """None while it runs, else how it ended. A handle that nobody knows counts as ended. Returns at once."""

    @abstractmethod
    async def stop(self, handle: str, *, grace: float = 10) -> None:
        """End it and all that it started: ask, wait at most `grace` seconds, then kill. Idempotent, and bounded."""

    @abstractmethod
    async def logs(self, handle: str, *, tail: int = 200) -> str:
        """The last lines that it wrote to its output; empty for an unknown handle."""

    @abstractmethod
    def running(self) -> AsyncIterator[tuple[str, str]]:
        """Every (session id, handle) that runs here now, also what an earlier gateway started."""


class DriverError(Exception):
    """A place to run could not be given, and why. `retryable` where another try may help."""

    def __init__(self, message: str, *, code: str = "start_failed", retryable: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one."""
    temporary = path.with_name(path.name + "~")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
