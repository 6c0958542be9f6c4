"""Asks the Docker engine. Its errors become the contract's: away (to be tried again), or refused (with its own words)."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp
import orjson
from aiodocker import Docker, DockerError
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerContextInvalidError, DockerContextTLSError

from cc_gateway.drivers.base import DriverAway, DriverError

CALL_SECONDS: Final = 60.0
"""Longest call: a start takes half a second, and some seconds where the engine is busy."""

PING_SECONDS: Final = 5.0
NO_ANSWER: Final = 900
"""The status by which aiodocker tells that it could not connect."""


class Missing(DriverError):
    """There is no such container or image."""


class NameTaken(DriverError):
    """A container of that name exists already, or somebody else is changing it."""


class Engine:
    """The calls that the driver makes. What is changed is named by id, never by name."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._client: Docker | None = None

    async def open(self) -> dict[str, Any]:
        """Connect. Returns the engine's `info`; raises `DriverAway` where none answers."""
        try:
            self._client = Docker(url=self._url, timeout=aiohttp.ClientTimeout(total=CALL_SECONDS))
        except (AssertionError, ValueError, OSError, DockerContextInvalidError, DockerContextTLSError) as error:
            raise DriverAway(
                f"no Docker engine found ({str(error) or 'there is no socket'})", code="engine_away"
            ) from error
        try:
            async with _translated(), asyncio.timeout(PING_SECONDS):
                return dict(await self._client.system.info())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._client:
            await self._client.close()
            self._client = None

    @property
    def _docker(self) -> Docker:
        assert self._client, "the engine has not been opened"
        return self._client

    @property
    def api_version(self) -> str:
        """The version of the API that is spoken with it."""
        return self._docker.api_version

    def _container(self, container: str) -> DockerContainer:
        return self._docker.containers.container(container)

    async def image(self, name: str) -> dict[str, Any] | None:
        """What the engine knows of an image; None where it has none of that name."""
        try:
            async with _translated():
                return dict(await self._docker.images.inspect(name))
        except Missing:
            return None

    async def inspect(self, container: str) -> dict[str, Any] | None:
        """A container by id or name; None where there is none."""
        try:
            async with _translated():
                return await self._container(container).show()
        except Missing:
            return None

    async def labelled(self, **labels: str) -> list[tuple[str, dict[str, str]]]:
        """Id and labels of the containers that carry these, whatever their state."""
        filters = orjson.dumps({"label": [f"{name}={value}" for name, value in labels.items()]}).decode()
        async with _translated():
            found = await self._docker.containers.list(all=True, filters=filters)
        return [(one.id, one["Labels"]) for one in found]

    async def create(self, name: str, config: dict[str, Any]) -> str:
        """Create a container and return its id. Raises `NameTaken`, or `Missing` where the image is."""
        async with _translated():
            return (await self._docker.containers.create(config, name=name)).id

    async def start(self, container: str) -> None:
        async with _translated():
            await self._container(container).start()

    async def stop(self, container: str, grace: float) -> None:
        """Ask it to end; kill it after `grace` seconds."""
        seconds = math.ceil(grace)
        async with _translated():
            await self._container(container).stop(
                t=seconds, timeout=aiohttp.ClientTimeout(total=seconds + CALL_SECONDS)
            )

    async def unpause(self, container: str) -> None:
        async with _translated():
            await self._container(container).unpause()

    async def wait(self, container: str) -> int:
        """Its exit code, once it has ended. The caller says how long to wait."""
        async with _translated():
            return int((await self._container(container).wait(timeout=aiohttp.ClientTimeout()))["StatusCode"])

    async def remove(self, container: str) -> None:
        """Remove it, running or not, and return when it is gone. One that is gone already is fine."""
        async with _translated(), asyncio.timeout(CALL_SECONDS):
            while await self.inspect(container) is not None:
                with suppress(Missing, NameTaken):  # somebody else is removing it
                    async with _translated():
                        await self._container(container).delete(force=True, v=True)
                    return
                await asyncio.sleep(0.1)

    async def logs(self, container: str, tail: int) -> str:
        """The last lines of both its streams; empty where there is no such container."""
        try:
            async with _translated():
                return "".join(await self._container(container).log(stdout=True, stderr=True, tail=tail))
        except Missing:
            return ""


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except DockerError as error:
        if error.status == NO_ANSWER:
            raise DriverAway(error.message, code="engine_away") from error
        if "bind source path does not exist" in error.message or "mounts denied" in error.message.lower():
            raise DriverError(
                f"the Docker engine does not see the gateway's data folder ({error.message}): it must have the same path in the"
                " gateway and on the engine's machine, see docs/deployment.md",
                code="data_dir_not_shared",
                retryable=False,
            ) from error
        kind = {404: Missing, 409: NameTaken}.get(error.status, DriverError)
        raise kind(f"the Docker engine says: {error.message}", code="engine_refused") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise DriverAway(f"the Docker engine does not answer: {error!r}", code="engine_away") from error


async def engine_answers(url: str | None) -> bool:
    """Whether there is an engine that we may use."""
    engine = Engine(url)
    try:
        await engine.open()
    except DriverError:
        return False
    await engine.close()
    return True
