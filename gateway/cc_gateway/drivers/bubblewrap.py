"""Confines a command with bubblewrap: own namespaces, no network, no capabilities, and of the host only what programs need."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from cc_gateway.drivers.base import DriverError, Folders

ISOLATION: Final = ("--unshare-all", "--new-session", "--cap-drop", "ALL")
"""Started by root, bubblewrap keeps every capability unless told otherwise: enough to unmount what hides the host."""

SYSTEM: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/profile",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl",
    "/etc/timezone",
)
"""What programs need of the host, and nothing that is somebody's."""

RESOLVER: Final = Path("/etc/resolv.conf")
PACKAGES: Final = ("cc_wrapper", "cc_protocol")


def find_bubblewrap(wanted: str) -> str | None:
    """The path of a bubblewrap that works here, or None. Raises `DriverError` where it is `on` and does not work."""
    if wanted == "off":
        return None
    path = shutil.which("bwrap")
    if path and _works(path):
        return path
    if wanted == "on":
        why = "it does not work here" if path else "it is not installed (apt-get install bubblewrap)"
        raise DriverError(f"CC_BUBBLEWRAP=on, but {why}", code="bubblewrap_unavailable", retryable=False)
    return None


def _works(path: str) -> bool:
    """Whether it can make its namespaces here, and leaves no capability in them."""
    script = "grep -q '^CapEff:[[:space:]]*0*$' /proc/self/status"
    command = [path, *ISOLATION, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "sh", "-c", script]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def confine(bwrap: str, folders: Folders, hidden: Path, binary: Path, command: list[str]) -> list[str]:
    """The command line that runs `command` confined.

    Args:
        folders: the session's own; workspace and claude folder can be written.
        hidden: the gateway's data folder, of which nothing else may be seen, whatever lies around it.
        binary: the `claude` binary.
    """
    arguments = [bwrap, *ISOLATION, "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108
    for place in SYSTEM:
        arguments += ["--ro-bind-try", place, place]
    programs = _programs(binary)
    for path in programs:
        if not path.is_relative_to(hidden):
            arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--tmpfs", str(hidden)]
    for path in programs:
        if path.is_relative_to(hidden):
            arguments += ["--ro-bind", str(path), str(path)]
    for path in (folders.workspace, folders.claude):
        arguments += ["--bind", str(path), str(path)]
    arguments += ["--ro-bind", str(folders.run), str(folders.run), "--chdir", str(folders.workspace), "--"]
    return arguments + command


def confine_to_one_folder(bwrap: str, folder: Path, command: list[str]) -> list[str]:
    """The command line that runs `command` with a network, and with this folder alone to write or to read."""
    arguments = [bwrap, *ISOLATION, "--share-net", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]  # noqa: S108
    for place in SYSTEM:
        arguments += ["--ro-bind-try", place, place]
    arguments += ["--ro-bind-try", str(RESOLVER.resolve()), str(RESOLVER)]  # often a link to where nothing is mounted
    return [*arguments, "--bind", str(folder), str(folder), "--chdir", str(folder), "--", *command]


def _programs(binary: Path) -> list[Path]:
    """Where Python, our packages and `claude` lie, as narrowly as can be: never a search path, which may be a home."""
    places = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable), Path(sys.executable).resolve(), binary}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            places.add(Path(spec.origin).parent)
    covered = [place for place in places if any(place != other and place.is_relative_to(other) for other in places)]
    return sorted(places - set(covered) - {Path("/"), Path("/usr")})
