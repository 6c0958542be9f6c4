"""Which session image is ours: its name follows from what it is built of, so that a stale wrapper cannot run.

`scripts/build-container.sh` computes the same, and stamps the image with `SOURCES_LABEL`. Both hash lines of
`<sha256>  <path>`, as `sha256sum` prints them.
"""

import hashlib
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from cc_gateway.drivers.base import DriverError
from cc_gateway.drivers.docker.engine import Engine

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


async def checked(engine: Engine, image: str | None) -> dict[str, Any]:
    """What the engine knows of an image in which sessions are to run.

    Raises `DriverError` where it is missing, or has another wrapper in it than the one this gateway knows.
    """
    if image is None:
        raise _refused("which image do sessions run in? Set CC_SESSION_IMAGE to the name that " + BUILD + " prints")
    found = await engine.image(image)
    if found is None:
        raise _refused(f"the engine has no image {image}: {BUILD} builds ours, any other has to be pulled or built")
    if not is_ours(found):
        built_from = _labels(found).get(SOURCES_LABEL)
        raise _refused(
            f"the image {image} was built from other sources ({built_from}) than this gateway's ({sources()}): build it anew"
            f" with {BUILD}, and what stands on it after it",
            code="image_stale",
        )
    return found


def is_ours(inspected: dict[str, Any]) -> bool:
    """Whether an image has the wrapper that this gateway knows; or a container, which inherits the labels of its image."""
    return _labels(inspected).get(SOURCES_LABEL) == sources()


def _labels(inspected: dict[str, Any]) -> dict[str, str]:
    return (inspected.get("Config") or {}).get("Labels") or {}


def _refused(message: str, *, code: str = "image_missing") -> DriverError:
    return DriverError(message, code=code, retryable=False)


def _lines(files: Iterable[tuple[str, Path]]) -> str:
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in files)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
