"""Whether the settings can be read, and whether the tokens that they ask for are safe."""

import difflib
import ipaddress
import os
import time
from pathlib import Path
from typing import Final

from cc_gateway.auth import Tokens
from cc_gateway.doctor.check import Check, Finding, Result, Trouble, failure, in_thread, ok
from cc_gateway.doctor.subject import Subject
from cc_gateway.doctor.words import in_container
from cc_gateway.errors import StartupError
from cc_gateway.settings import SECTIONS, Settings

NEW_SECRET: Final = "CC_JWT_SECRET=$(python3 -c 'import secrets; print(secrets.token_urlsafe(48))')"  # noqa: S105
FEWEST_CHARACTERS: Final = 10
"""A random secret of 32 bytes has more different ones."""

OTHERS: Final = ("CC_API_URL", "CC_TOKEN", "CC_DEBUG")
"""Variables of the client and of this command."""


def read_settings() -> tuple[Settings | None, Result]:
    """The settings, where they can be read: without them, nothing else can be looked at."""
    begun = time.monotonic()
    settings = None
    try:
        settings = Settings.load()
        finding = _readable(settings)
    except StartupError as error:
        finding = Finding("they cannot be read", tuple(_wrong(line) for line in error.message.splitlines()[1:]))
    except (OSError, UnicodeDecodeError) as error:
        finding = failure(
            "they cannot be read", f"{Path('.env').absolute()}: {error}", "see that it is a text file that you may read"
        )
    return settings, Result("settings", finding, time.monotonic() - begun)


def _wrong(line: str) -> Trouble:
    variable, _, said = line.strip().partition(": ")
    return Trouble(f"{variable}: {said}", f"set {variable} anew or unset it: docs/configuration.md says what it may be")


def _readable(settings: Settings) -> Finding:
    file = Path(".env")
    found = "from the environment" + (f" and {file.absolute()}" if file.exists() else "")
    troubles = [_misspelt(name, close) for name in sorted(os.environ) if (close := _meant(name))]
    skills = settings.driver.skills_dir
    if skills and not skills.is_dir():
        troubles.append(Trouble(f"CC_SKILLS_DIR={skills} is no folder", f"mkdir -p {skills}, or unset it", fatal=False))
    return ok(found, *troubles)


def _meant(name: str) -> str | None:
    """The setting that a variable of nearly its name was meant for."""
    known = {f"CC_{field.upper()}" for section in SECTIONS for field in section.model_fields}
    if not name.startswith("CC_") or name in known or name in OTHERS:
        return None
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.9)), None)


def _misspelt(name: str, meant: str) -> Trouble:
    return Trouble(
        f"{name} is no setting: it has no effect", f"if {meant} is meant, write it that way; else unset {name}", False
    )


def checks(subject: Subject) -> list[Check]:
    return [Check("tokens", lambda: _tokens(subject))]


async def _tokens(subject: Subject) -> Finding:
    """The secret that signs them, the keys of an outside issuer, and whether they travel in clear."""
    auth = subject.settings.auth
    path = subject.settings.data_dir / "jwt.secret"
    configured = auth.jwt_secret.get_secret_value() if auth.jwt_secret else None
    secret = configured if configured is not None else await in_thread(_read, path)
    try:
        Tokens(auth, secret if secret is not None else "-" * 64)
    except StartupError as error:
        mend = NEW_SECRET if error.code == "weak_jwt_secret" else "set both or neither: docs/configuration.md"
        if configured is None and error.code == "weak_jwt_secret":
            mend = f"rm {path}: the next start makes a new one (tokens made before are void then)"
        return failure("they cannot be signed", error.message.partition(" (")[0], mend)
    return ok(_source(configured, secret, path), *_troubles(subject, configured, path))


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def _source(configured: str | None, secret: str | None, path: Path) -> str:
    if configured is not None:
        return "signed with CC_JWT_SECRET"
    return f"signed with {path}" if secret is not None else "the first start makes a secret to sign them"


def _troubles(subject: Subject, configured: str | None, path: Path) -> list[Trouble]:
    troubles = []
    if configured is not None and len(set(configured)) < FEWEST_CHARACTERS:
        troubles.append(Trouble("CC_JWT_SECRET is easy to guess: a few characters, repeated", NEW_SECRET, False))
    if configured is None and path.exists() and path.stat().st_mode & 0o077:
        troubles.append(
            Trouble(f"others on this machine may read {path}, and make tokens with it", f"chmod 600 {path}", False)
        )
    server = subject.settings.server
    encrypted = (server.public_url or "").startswith("https://")
    if not _is_loopback(server.host) and not encrypted and not in_container():
        troubles.append(
            Trouble(
                f"the gateway listens on {server.host} without TLS: tokens cross the network in clear",
                "put a proxy with TLS before it and set CC_PUBLIC_URL=https://…, or set CC_HOST=127.0.0.1",
                False,
            )
        )
    return troubles


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
