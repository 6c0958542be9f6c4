"""Confines a command with bubblewrap: own namespaces, no network, the host read-only, other people's data hidden."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cc_gateway.drivers.base import DriverError, Folders


def find_bubblewrap(wanted: str) -> str | None:
    """The path of a bubblewrap that works here, or None. Raises `DriverError` where it is `on` and does not work."""
    if wanted == "off":
        return None
    path = shutil.which("bwrap")
    if path and _works(path):
        return path
    if wanted == "on":
        why = (
            "it is not allowed to make namespaces here" if path else "it is not installed (apt-get install bubblewrap)"
        )
        raise DriverError(f"CC_BUBBLEWRAP=on, but {why}", code="bubblewrap_unavailable", retryable=False)
    return None


def _works(path: str) -> bool:
    command = [path, "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def confine(bwrap: str, folders: Folders, hidden: Path, binary: Path, command: list[str]) -> list[str]:
    """The command line that runs `command` confined.

    The host's files are there to read (the tools of the agent need them), but the gateway's data folder and the homes are
    empty, except for what this session and the programs themselves need.
    """
    arguments = [bwrap, "--unshare-all", "--new-session", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for path in (Path("/tmp"), Path("/run"), Path("/home"), Path("/root"), hidden):  # noqa: S108
        if path.is_dir():
            arguments += ["--tmpfs", str(path)]
    for path in _programs(binary):
        arguments += ["--ro-bind", str(path), str(path)]
    for path in (folders.workspace, folders.claude):
        arguments += ["--bind", str(path), str(path)]
    arguments += ["--ro-bind", str(folders.run), str(folders.run), "--chdir", str(folders.workspace), "--"]
    return arguments + command


def _programs(binary: Path) -> list[Path]:
    """Where Python, our packages and `claude` lie: they may be in a home that is hidden."""
    places = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent, binary.parent}
    places |= {Path(entry) for entry in sys.path if entry and os.path.isdir(entry)}
    return sorted(places, key=lambda path: len(path.parts))
