"""Which session image is ours: its name follows from what it is built of, so that a stale wrapper cannot run.

`scripts/build-container.sh` computes the same, and stamps the image with `SOURCES_LABEL`. Both hash lines of
`<sha256>  <path>`, as `sha256sum` prints them.
"""

import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

REPOSITORY: Final = "cc-docker-session"
SOURCES_LABEL: Final = "org.cc-docker.sources"
PACKAGES: Final = (
    ("protocol", "cc_protocol"),
    ("wrapper", "cc_wrapper"),
    ("mcp-server", "cc_mcp_server"),
)
RECIPE: Final = (
    "container/Dockerfile",
    "container/libnss_agent.c",
    "container/requirements.txt",
    "pyproject.toml",
)
BUILD: Final = "scripts/build-container.sh"
DIGITS: Final = 12


@cache
def sources() -> str:
    """The hash of the packages that run in a session."""
    files = []
    for folder, package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec
        assert spec.origin
        root = Path(spec.origin).parent
        files += [(f"{folder}/{package}/{path.relative_to(root)}", path) for path in root.rglob("*.py")]
    return _digest(_lines(sorted(files, key=lambda file: file[0].encode())))


def own_tag() -> str | None:
    """The name of the image that belongs to this checkout; None where we do not run from one."""
    root = Path(__file__).parents[4]
    recipe = [(name, root / name) for name in RECIPE]
    if not all(path.is_file() for _, path in recipe):
        return None
    return f"{REPOSITORY}:{_digest(sources() + chr(10) + _lines(recipe))}"


def _lines(files: Iterable[tuple[str, Path]]) -> str:
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in files)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
