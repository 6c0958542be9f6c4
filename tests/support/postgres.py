"""A real PostgreSQL server of the tests' own: started in about two seconds, stopped, killed and frozen at will."""

import asyncio
import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psutil

LEAST_VERSION = 15
START_SECONDS = 30
MISSING = "needs PostgreSQL 15 or newer: apt-get install postgresql"


def binaries() -> Path | None:
    """The folder of the newest server on this machine that is new enough."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    if found := shutil.which("postgres"):
        folders.append(Path(found).resolve().parent)
    versions = {_version(folder): folder for folder in folders if (folder / "initdb").exists()}
    newest = max(versions, default=0)
    return versions[newest] if newest >= LEAST_VERSION else None


def _version(folder: Path) -> int:
    try:
        said = subprocess.check_output([folder / "postgres", "--version"], text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r"(\d+)", said)
    return int(found[1]) if found else 0


class PostgresServer:
    """A cluster in a temporary folder, on a free port of the loopback address, with a password of its own.

    Its collation is a linguistic one, as most servers have it: what relies on the order of bytes shows. It refuses root, so
    root runs it as `postgres` or `nobody`.
    """

    user = "tester"

    def __init__(self, *, fsync: bool = False) -> None:
        found = binaries()
        assert found, MISSING
        self._bin = found
        self._fsync = fsync
        self._account = _account()
        self.folder = Path(tempfile.mkdtemp(prefix="cc-pg-", dir="/tmp"))
        self.password = secrets.token_hex(12)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._init()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log_file(self) -> Path:
        return self.folder / "log"

    def _init(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self.password)
        if self._account:
            shutil.chown(self.folder, *self._account)
            shutil.chown(secret, *self._account)
        self._run(
            "initdb",
            *("--pgdata", str(self.data), "--username", self.user, "--pwfile", str(secret)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            *("--locale-provider", "icu", "--icu-locale", "en-US"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **self._identity())
        assert done.returncode == 0, done.stdout + done.stderr

    def _identity(self) -> dict[str, Any]:
        identity: dict[str, Any] = {"cwd": self.folder, "env": {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}}
        if self._account:
            user, group = self._account
            identity |= {"user": user, "group": group, "extra_groups": []}
        return identity

    def start(self, **settings: str) -> "PostgresServer":
        """Start it (again) on the same port, and wait until it takes connections."""
        own = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "shared_buffers": "32MB",
            "max_connections": "120",
            "log_line_prefix": "%m [%p] ",
        }
        options = [part for name, value in (own | settings).items() for part in ("-c", f"{name}={value}")]
        with self.log_file.open("ab") as log:
            command = [str(self._bin / "postgres"), "-D", str(self.data), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._identity())
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, f"PostgreSQL ended:\n{self.log()}"
            assert time.monotonic() < end, f"PostgreSQL did not start in {START_SECONDS} s:\n{self.log()}"
            time.sleep(0.02)
        return self

    def _answers(self) -> bool:
        command = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "2"]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT disconnects everybody (fast), SIGQUIT leaves what a crash leaves (immediate)."""
        assert self._process
        self._process.send_signal(how)
        self._process.wait(START_SECONDS)

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def backends(self) -> list[psutil.Process]:
        """The processes that serve a client each."""
        assert self._process
        children = psutil.Process(self._process.pid).children()
        return [child for child in children if _is_backend(child)]

    def recoveries(self) -> int:
        """How often it has come up since it was made, after a start or a crash."""
        return self.log_file.read_text(errors="replace").count("database system is ready to accept connections")

    def freeze(self) -> None:
        """It still takes connections (the kernel does) and never answers: postmaster and all its children stand still."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process
        postmaster = psutil.Process(self._process.pid)
        for process in (postmaster, *postmaster.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def close(self) -> None:
        """Stop it, whatever state it is in, and remove it."""
        if self._process and self._process.poll() is None:
            self.thaw()
            self.stop(signal.SIGQUIT)
        if not os.environ.get("CC_TEST_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")[-4000:] if self.log_file.exists() else ""

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+asyncpg://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    async def connect(self, database: str = "postgres") -> "asyncpg.Connection[Any]":
        """A connection of the test's own, to look and to disturb."""
        return await asyncpg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            database=database,
            timeout=10,
            command_timeout=30,
        )

    async def execute(self, statement: str, database: str = "postgres") -> None:
        connection = await self.connect(database)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def create_database(self, *, template: str | None = None) -> str:
        """The URL of a fresh database: an empty one, or a copy of another that nobody is connected to."""
        self._made += 1
        name = f"d{self._made}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
        return self.url(name)

    async def drop_database(self, url: str) -> None:
        await self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")


def create_database(server: PostgresServer) -> str:
    """The same for whoever cannot wait: in a thread, for a loop may run in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, server.create_database()).result(30)


def _is_backend(process: psutil.Process) -> bool:
    """A backend's title names user, database and client address; the server's own workers have none of these."""
    try:
        return PostgresServer.user in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _account() -> tuple[int, int] | None:
    """Who runs the server where we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise AssertionError("root cannot run PostgreSQL, and there is neither a user `postgres` nor `nobody`")


def _free_port() -> int:
    """A port below those that the kernel gives to clients: it must be free also after a stop."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
