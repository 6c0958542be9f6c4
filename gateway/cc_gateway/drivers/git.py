"""How a repository is cloned, wherever that happens (pure): nothing but HTTP, nothing asked of anybody, no sub-modules."""

import re
from typing import Final

ENVIRONMENT: Final = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ASKPASS": "/bin/false",
    "LC_ALL": "C.UTF-8",
}

PROTOCOLS: Final = ("protocol.allow=never", "protocol.http.allow=always", "protocol.https.allow=always")
TELLING: Final = re.compile(r"^(fatal|error|warning|remote):")
MAX_WORDS: Final = 1500


def clone_command(url: str, branch: str | None, resolve: str | None = None) -> list[str]:
    """Clones into the folder in which it is run, which has to be empty.

    Redirects are not followed: they would lead past the check of the address in `resolve` (curl's form).
    """
    settings = (*PROTOCOLS, "http.followRedirects=false", *([f"http.curloptResolve={resolve}"] if resolve else ()))
    options = [part for setting in settings for part in ("-c", setting)]
    chosen = ["--branch", branch] if branch else []
    return ["git", *options, "clone", "--no-recurse-submodules", *chosen, "--", url, "."]


def own_words(output: str) -> str:
    """What git says is wrong, without its progress."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", output) if line.strip()]
    telling = [line for line in lines if TELLING.match(line)] or lines[-3:]
    return "\n".join(telling)[-MAX_WORDS:] or "git said nothing"
