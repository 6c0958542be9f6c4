"""Where the gateway is: named by the environment, or the one that runs on the data folder.

`CC_API_URL` with `CC_TOKEN` wins. Else `gateway.json` in the data folder counts, if its process lives and its address
answers; a file that a dead gateway left behind is no gateway.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from cc_client.errors import NoGateway
from cc_client.models import GatewayFile

FILE = "gateway.json"
_PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """An address with a token. `known` is there where the gateway runs on this machine's data folder."""

    url: str
    token: str
    known: GatewayFile | None = None


def setting(name: str) -> str | None:
    """A setting from the environment, else from `.env` in the current folder (as the gateway reads it)."""
    if os.environ.get(name):
        return os.environ[name]
    try:
        lines = Path(".env").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and key.strip() == name:
            return value.strip().strip("'\"") or None
    return None


def data_dir() -> Path:
    """The data folder: `CC_DATA_DIR`, or `$XDG_DATA_HOME/cc-docker`, or `~/.local/share/cc-docker`."""
    named = setting("CC_DATA_DIR")
    if named:
        return Path(named).expanduser().absolute()
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "cc-docker"


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own, which no proxy can reach for us."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def from_environment() -> Gateway | None:
    """The gateway that `CC_API_URL` and `CC_TOKEN` name. Raises `NoGateway` where only the address is set."""
    url, token = setting("CC_API_URL"), setting("CC_TOKEN")
    if not url:
        return None
    if not token:
        raise NoGateway("CC_API_URL is set, but CC_TOKEN is not", hint="`cc-docker token` on the gateway makes one")
    return Gateway(url.rstrip("/").removesuffix("/api/v1"), token)


def read_file(folder: Path) -> GatewayFile | None:
    """`gateway.json` of this folder; None where it is missing or half-written."""
    try:
        return GatewayFile.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def running(folder: Path) -> Gateway | None:
    """The gateway that runs on this folder; None where none does, also where a dead one left its file."""
    known = read_file(folder)
    if known is None or not _may_live(known) or not answers(known.url):
        return None
    return Gateway(known.url.rstrip("/"), known.token, known)


def find() -> Gateway:
    """The gateway to talk to. Raises `NoGateway`, which says how to start one."""
    gateway = from_environment() or running(data_dir())
    if gateway is None:
        raise NoGateway(f"no gateway is running on {data_dir()}", hint=_how_to_start())
    return gateway


def answers(url: str, path: str = "/health/live") -> bool:
    """Whether the gateway at this address says that it is well."""
    try:
        with httpx.Client(timeout=_PROBE_SECONDS, trust_env=not is_loopback(url)) as http:
            return http.get(url.rstrip("/") + path).status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _may_live(known: GatewayFile) -> bool:
    """What runs in a container, or on another machine, has pids of its own, which say nothing here."""
    return known.host not in (None, socket.gethostname()) or _lives(known.pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _how_to_start() -> str:
    how = "start one with `cc-docker serve`, or name one by CC_API_URL and CC_TOKEN"
    if (data_dir() / FILE).exists():
        how += f" (its {FILE} is a dead gateway's)"
    return how
