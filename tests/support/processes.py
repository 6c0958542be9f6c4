"""What runs on this machine on behalf of a gateway, seen from outside."""

import contextlib
import hashlib
import os
from pathlib import Path

import psutil

from support import docker
from support.stack import FULL
from support.waiting import until

AROUND = ("bwrap", "docker-init")


def belonging_to(data_dir: Path) -> list[psutil.Process]:
    """Every process that carries a path of this data folder, or its deployment, in its environment: all of a gateway's."""
    words = (str(data_dir), deployment_of(data_dir))
    return [p for p in _alive() if any(word in value for value in _environment(p).values() for word in words)]


def deployment_of(data_dir: Path) -> str:
    """What the processes and containers of this data folder's gateway are marked with."""
    return f"local-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:8]}"


def of_session(session_id: str) -> list[psutil.Process]:
    """Every process that carries this session's name in its environment: wrapper, agent, tools."""
    return [p for p in _alive() if any(session_id in value for value in _environment(p).values())]


def claude_of(session_id: str) -> psutil.Process:
    """The session's `claude` itself, not what runs it or what it runs."""
    return _only(p for p in of_session(session_id) if "--input-format=stream-json" in _command(p))


def wrapper_of(session_id: str) -> psutil.Process:
    """The session's wrapper, not what stands around it."""
    return _only(p for p in of_session(session_id) if "cc_wrapper" in _command(p) and _name(p) not in AROUND)


def running_with(word: str) -> list[psutil.Process]:
    """Processes with this word on their command line."""
    return [p for p in _alive() if any(word in argument for argument in _command(p))]


async def all_gone(data_dir: Path, seconds: float = 15) -> None:
    """Wait until nothing of this gateway runs any more."""

    async def look() -> bool:
        return not belonging_to(data_dir) and not (FULL and _containers(data_dir))

    try:
        await until(look, "everything to be gone", seconds)
    except AssertionError:
        left = [(p.pid, _command(p)[:4]) for p in belonging_to(data_dir)], FULL and _containers(data_dir)
        raise AssertionError(f"still running: {left}") from None


def _containers(data_dir: Path) -> list[str]:
    return docker.containers(**{"org.cc-docker.deployment": deployment_of(data_dir)})


def _alive() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _only(found: object) -> psutil.Process:
    processes = list(found)  # type: ignore[call-overload]
    assert len(processes) == 1, processes
    return processes[0]
