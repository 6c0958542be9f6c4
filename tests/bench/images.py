"""Docker, for those who ask for it: the session image, and one like it with the shim of `bench.stamping` over `claude`."""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.stamping import write_shim
from cc_gateway.drivers.docker.container import CLAUDE
from support import docker

BUILD = Path(__file__).parents[2] / "scripts" / "build-container.sh"
REAL = CLAUDE.with_name("claude-real")
BUILD_SECONDS = 900.0

RECIPE = f"""FROM {{image}}
USER root
RUN mv {CLAUDE} {REAL}
COPY claude {CLAUDE}
USER {{user}}
"""


async def session_image() -> str:
    """The name of the image of this checkout; it is built where it is not there."""
    process = await asyncio.create_subprocess_exec(BUILD, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(BUILD_SECONDS):
        output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{BUILD.name} ended with {process.returncode}")
    return output.decode().split()[-1]


def remove_containers(label: str) -> None:
    """Remove the containers that carry this label, whatever their state."""
    if found := docker.run("ps", "--all", "--quiet", "--filter", f"label={label}").split():
        docker.run("rm", "--force", "--volumes", *found)


@asynccontextmanager
async def stamping_image(image: str) -> AsyncIterator[str]:
    """The same image with the shim; it goes with the block."""
    name = f"cc-bench-stamping:{secrets.token_hex(4)}"
    user = await asyncio.to_thread(docker.run, "image", "inspect", "--format", "{{.Config.User}}", image)
    with tempfile.TemporaryDirectory(prefix="cc-bench-") as context:
        write_shim(Path(context, "claude"), python="/usr/bin/python3", claude=str(REAL))
        Path(context, "Dockerfile").write_text(RECIPE.format(image=image, user=user))
        await asyncio.to_thread(docker.run, "build", "--quiet", "--tag", name, context, timeout=BUILD_SECONDS)
    try:
        yield name
    finally:
        with contextlib.suppress(AssertionError):
            await asyncio.to_thread(docker.run, "image", "rm", name)
