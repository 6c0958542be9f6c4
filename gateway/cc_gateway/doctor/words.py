"""How things are said (pure), and what must never be: the one place of the doctor where secrets are taken out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from pydantic import SecretStr

from cc_gateway.settings import Settings

REDACTED: Final = "[redacted]"
SHORTEST_SECRET: Final = 4
LONGEST: Final = 600
DISKS: Final = ("ext3", "ext4", "xfs")


def shown(url: str) -> str:
    """An address without what stands in it for a password, and without its query, where some keep one."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(an address that cannot be read)"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{host}{port}{parts.path}".rstrip("/")


def secrets_of(settings: Settings) -> list[str]:
    """Every secret that the settings hold, the longest first. A name that is shown anyhow is none."""
    sections = (settings.auth, settings.redis, settings.model)
    values = [value for section in sections for value in dict(section).values() if isinstance(value, SecretStr)]
    texts = [value.get_secret_value() for value in values]
    texts += [settings.store.database_url or "", settings.model.model_url or "", *getproxies().values()]
    found = {text for text in texts if "://" not in text}
    names: set[str] = set()
    for url in set(texts) - found:
        passwords, others = _parts(url)
        found |= passwords
        names |= others
    return sorted((one for one in found - names if len(one) >= SHORTEST_SECRET), key=len, reverse=True)


def _parts(url: str) -> tuple[set[str], set[str]]:
    """The password of an address, as it stands there and as it is meant; and what in it is no secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return set(), set()
    password, user = parts.password or "", parts.username or ""
    return {password, unquote(password)}, {user, unquote(user), parts.hostname or "", parts.path.strip("/")}


def scrub(text: str, secrets: Iterable[str]) -> str:
    """On one line, without secrets, and without anything that could steer a terminal."""
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def amount(size: float) -> str:
    """Bytes as disks and images are counted: 628 MB, 73.1 GB."""
    for unit, value in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= value:
            return f"{size / value:.1f} {unit}" if unit != "MB" else f"{size / value:.0f} MB"
    return f"{size / 1e3:.0f} kB"


def plural(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def in_container() -> bool:
    """Whether this process itself is in one: then some mends are others.

    The files alone do not tell it: a machine whose disk was made from an image has them too.
    """
    marked = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    return marked and _type_of_root() not in DISKS


def _type_of_root() -> str:
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    return next((mount[2] for mount in reversed(mounts) if mount[1] == "/"), "")
