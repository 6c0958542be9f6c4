"""The contract of a session driver, on one screen. Its conformance suite is `tests/contracts/driver_contract.py`."""

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cc_protocol.launch import SECRETS_FILE, SESSION_FILE, Launch, Secrets

MARK: Final = "CC_SESSION_MARK"
"""What every process of a session carries in its environment: `<deployment>/<session>/<incarnation>`."""


def mark(deployment: str, session_id: str, incarnation: int) -> str:
    return f"{deployment}/{session_id}/{incarnation}"


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
    image: str | None = None
    """The image that its config names; None for the driver's own."""

    def write_files(self, inside: Folders, owner: "Owner | None" = None) -> None:
        """Write the two files of the run folder, with the paths as they are where the wrapper runs."""
        launch = self.launch.model_copy(update={"workspace": str(inside.workspace), "claude_dir": str(inside.claude)})
        _write(self.folders.run / SESSION_FILE, launch.model_dump_json(exclude_none=True), 0o444, owner)
        _write(self.folders.run / SECRETS_FILE, self.secrets.model_dump_json(), 0o400, owner)


@dataclass(frozen=True)
class Owner:
    """A user and a group of the machine, by number."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Clone:
    """A repository that is to be cloned into an empty folder of the gateway's, in at most `timeout` seconds."""

    session_id: str
    url: str
    branch: str | None
    into: Path
    timeout: float
    resolve: str | None = None
    """`host:port:address[,…]`: where the host is, as it has been checked. None: whatever the name says."""


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
    owner: Owner | None = None
    """Whom sessions run as, and who has to own their folders, where that is not the gateway's own user."""
    claude_binary: Path
    """The `claude` binary, as it is called where sessions run. Known once the driver is open."""
    takes_images: bool = False
    """Whether a session may name an image."""

    async def open(self) -> None:  # noqa: B027 - not every driver has something to do here
        """Look whether sessions can be started here. Raises `DriverError` that says what is missing and how to mend it."""

    async def close(self) -> None:  # noqa: B027
        """Let go of what the driver itself holds. Sessions run on."""

    @abstractmethod
    async def start(self, spec: SessionSpec) -> str:
        """Start this incarnation and return its handle.

        Idempotent per (session, incarnation): the second call finds what the first one started. What is left of an older
        incarnation is ended first. Returns once it has been started, not when it is ready. Raises `DriverError`.
        """

    @abstractmethod
    async def poll(self, handle: str) -> Exit | None:
        """None while it runs or is paused, else how it ended. A handle that nobody knows counts as ended. Returns at once."""

    async def paused(self, handle: str) -> bool:
        """Whether somebody has halted it: then its silence means nothing."""
        return False

    async def resume(self, handle: str) -> None:  # noqa: B027
        """Let it go on if it is paused."""

    async def outdated(self, handle: str) -> bool:
        """Whether it runs another wrapper than a start would now: the gateway has been updated in between."""
        return False

    @abstractmethod
    async def stop(self, handle: str, *, grace: float = 10) -> None:
        """End it and all that it started: ask, wait at most `grace` seconds, then kill. Idempotent, and bounded."""

    @abstractmethod
    async def clone(self, order: Clone) -> None:
        """Clone with network, but out of reach of gateway and Redis. What is left of an older try is ended first.

        Raises `DriverError` (`clone_failed`, final) in git's own words. Nothing of it runs on, whatever the end.
        """

    @abstractmethod
    async def logs(self, session_id: str, *, tail: int = 200) -> str:
        """The last lines that its wrapper wrote, also after it has been stopped; empty for an unknown session."""

    @abstractmethod
    def running(self) -> AsyncIterator[tuple[str, str]]:
        """Every (session id, handle) that runs or takes room here now, also what an earlier gateway started."""


class DriverError(Exception):
    """A place to run could not be given, and why. `retryable` where another try may help."""

    def __init__(self, message: str, *, code: str = "start_failed", retryable: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.retryable = retryable


class DriverAway(DriverError):
    """What runs sessions does not answer: nobody's failure, to be tried again."""


def _write(path: Path, text: str, mode: int, owner: Owner | None) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one."""
    temporary = path.with_name(f"{path.name}~{secrets.token_hex(4)}")  # two gateways may start one session at once
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        if owner:
            os.fchown(file.fileno(), owner.uid, owner.gid)
    temporary.replace(path)
