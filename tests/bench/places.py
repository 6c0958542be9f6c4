"""Where the bare `claude` of a start runs: as a process of this machine, or in a container of the session image."""

import asyncio
import os
import secrets
import shutil
import statistics
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from bench.images import remove_containers
from cc_gateway.drivers.claude import claude_binary
from cc_gateway.drivers.docker.container import INSIDE, SESSION_LABEL
from cc_gateway.drivers.docker.driver import AGENT
from cc_protocol.launch import Launch
from cc_wrapper.claude.reaper import die_with_parent
from support import docker
from support.processes import running_with

FLOOR_STARTS = 5


class Place(ABC):
    """A place for a bare `claude`."""

    start: str
    """What a bare start is, in words."""

    @abstractmethod
    def inside(self, launch: Launch) -> Launch:
        """The launch, whose folders are of this machine, as `claude` sees its paths there."""

    @abstractmethod
    async def spawn(
        self, argv: list[str], env: dict[str, str], launch: Launch, *, limit: int
    ) -> asyncio.subprocess.Process:
        """Start it. Its pipes are ours; the launch names the folders on this machine."""

    async def floor(self) -> dict[str, float]:
        """What the place alone costs, for the details."""
        return {}

    def beside(self, session_id: str) -> list[int]:
        """Processes that whoever runs the place keeps for one session, outside of it."""
        return []

    def close(self) -> None:  # noqa: B027
        """Remove what a bench that broke off has left behind."""


class ProcessPlace(Place):
    """This machine, as the user who runs the bench."""

    start = "claude: start → answer to initialize"

    def inside(self, launch: Launch) -> Launch:
        return launch.model_copy(update={"claude_binary": str(claude_binary(None))})

    async def spawn(
        self, argv: list[str], env: dict[str, str], launch: Launch, *, limit: int
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            cwd=Path(launch.workspace),
            limit=limit,
            preexec_fn=die_with_parent,
        )


class DockerPlace(Place):
    """A container of the session image, started by the `docker` command as anybody would: no more than it takes."""

    start = "docker run claude: start → answer to initialize"

    def __init__(self, image: str) -> None:
        self._image = image
        self._mark = f"cc-bench={secrets.token_hex(4)}"
        self._owner = AGENT if os.geteuid() == 0 else None

    def inside(self, launch: Launch) -> Launch:
        folders = {"workspace": str(INSIDE.workspace), "claude_dir": str(INSIDE.claude)}
        return launch.model_copy(update=folders)

    async def spawn(
        self, argv: list[str], env: dict[str, str], launch: Launch, *, limit: int
    ) -> asyncio.subprocess.Process:
        mounts = {launch.workspace: INSIDE.workspace, launch.claude_dir: INSIDE.claude}
        for folder in mounts:
            self._give_away(Path(folder))
        options = [f"--volume={ours}:{theirs}" for ours, theirs in mounts.items()]
        options += [f"--env={name}={value}" for name, value in env.items() if name != "PATH"]
        options += ["--interactive", f"--workdir={INSIDE.workspace}", f"--user={self._user}", "--network=host"]
        return await asyncio.create_subprocess_exec(
            *self._run(*options),
            *argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            limit=limit,
        )

    async def floor(self) -> dict[str, float]:
        taken = []
        for _ in range(FLOOR_STARTS):
            begun = time.monotonic()
            process = await asyncio.create_subprocess_exec(*self._run("--network=none"), "true")
            await process.wait()
            taken.append((time.monotonic() - begun) * 1000)
        return {"docker_run_true_ms": round(statistics.median(taken), 1)}

    def beside(self, session_id: str) -> list[int]:
        containers = docker.containers(**{SESSION_LABEL: session_id})
        return [process.pid for one in containers for process in running_with(one)]

    def close(self) -> None:
        remove_containers(self._mark)

    def _run(self, *options: str) -> list[str]:
        return ["docker", "run", "--rm", "--init", f"--label={self._mark}", *options, self._image]

    @property
    def _user(self) -> str:
        return f"{self._owner.uid}:{self._owner.gid}" if self._owner else f"{os.geteuid()}:{os.getegid()}"

    def _give_away(self, folder: Path) -> None:
        """Sessions of a gateway that is root run as another user, and so does this."""
        if self._owner:
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, self._owner.uid, self._owner.gid)
