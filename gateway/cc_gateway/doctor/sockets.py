"""Whether unix sockets work where those of sessions will be: bound, renamed, connected to, and removed."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cc_gateway.doctor.check import Check, Finding, failure, in_thread, ok, skipped
from cc_gateway.doctor.subject import Subject, nearest_folder
from cc_gateway.doctor.words import milliseconds
from cc_gateway.drivers.base import Folders, Owner
from cc_gateway.errors import StartupError
from cc_gateway.internal import LONGEST_PATH, ASGIApp, HttpSocket, Receive, Scope, Send
from cc_gateway.services.folders import LONGEST_SOCKET_FOLDER, give
from cc_protocol.launch import GATEWAY_SOCKET

PREFIX: Final = ".doctor-"


def checks(subject: Subject) -> list[Check]:
    return [
        Check(
            "sockets", lambda: _sockets(subject), "is the data folder on a network disk? Set CC_DATA_DIR to a local one"
        )
    ]


async def _sockets(subject: Subject) -> Finding:
    root = subject.layout.run_root
    length = len(os.fsencode(root)) + LONGEST_PATH - LONGEST_SOCKET_FOLDER
    if length > LONGEST_PATH:
        return failure(
            f"{root}, too long a path",
            f"sockets of sessions would have {length} characters, and {LONGEST_PATH} is the most",
            "set CC_DATA_DIR to a shorter path, such as /srv/cc-docker (or TMPDIR=/tmp)",
        )
    try:
        async with socket_folder(subject) as place:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            answer = await _ask(place.folders.run / GATEWAY_SOCKET)
            if answer != place.word:
                raise OSError(f"another answer than was sent: {answer[:40]!r}")
            return ok(f"in {root}, at most {length} of {LONGEST_PATH} characters, {milliseconds(loop.time() - begun)}")
    except NoFolder as error:
        return skipped(str(error))
    except (OSError, StartupError) as error:
        return failure(
            f"in {root}", f"a unix socket does not work there: {error}", "set CC_DATA_DIR to a folder on a local disk"
        )


class NoFolder(Exception):
    """There is nowhere to try it: the check of the data folder says why."""


@dataclass(frozen=True)
class Place:
    """A folder such as a session's, and the word that its socket answers."""

    folders: Folders
    word: str


@asynccontextmanager
async def socket_folder(subject: Subject, owner: Owner | None = None) -> AsyncIterator[Place]:
    """Folders for a moment, where those of sessions will be, and a socket that is served in them. Raises `NoFolder`."""
    root = nearest_folder(subject.layout.run_root)
    try:
        folder = Path(await in_thread(lambda: tempfile.mkdtemp(prefix=PREFIX, dir=root)))
    except OSError as error:
        raise NoFolder(f"no folder can be made in {root}") from error
    try:
        folders = Folders(folder / "workspace", folder / "claude", folder / "run")
        for part in (folders.workspace, folders.claude, folders.run):
            part.mkdir(mode=0o700)
            give(part, owner or Owner(os.geteuid(), os.getegid()))
        word = secrets.token_hex(8)
        server = await HttpSocket.open(_says(word), folders.run / GATEWAY_SOCKET)
        try:
            yield Place(folders, word)
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _says(word: str) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", str(len(word)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": word.encode()})

    return app


async def _ask(path: Path) -> str:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return (await reader.read()).rpartition(b"\r\n")[2].decode(errors="replace")
    finally:
        writer.close()
