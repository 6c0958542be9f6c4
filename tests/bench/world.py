"""What is measured: a gateway as its user starts it, with a Redis that the bench can reach and a model both sides ask.

The model is a process of its own, the scripted model, and the gateway is told of it as of any model server
(`CC_MODEL_URL`): so both sides ask the same model, at the same address. Redis is the gateway's own embedded one, with
its own configuration, started by the bench: so entries can be played into it. All of it lies in a folder with a short
path, and goes at the end.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import images
from bench.databases import Databases
from bench.places import DockerPlace, Place, ProcessPlace
from bench.stamping import write_shim
from cc_gateway.drivers.claude import claude_binary
from cc_gateway.drivers.docker.container import DEPLOYMENT_LABEL
from cc_gateway.redis.embedded import EmbeddedRedis
from support.gateway import GatewayProcess
from support.processes import belonging_to, deployment_of

START_SECONDS = 60.0


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    quick: bool
    driver: str
    database: str

    def times(self, quick: int, full: int) -> int:
        """How often something is measured."""
        return quick if self.quick else full


class World:
    """Use it as an async context manager: whatever was started is ended, however the block ends."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.databases = Databases(options.database)
        self.place: Place = ProcessPlace()
        self.folder = Path()
        self.redis_url = ""
        self.model_url = ""
        self._image: str | None = None
        self._stack = AsyncExitStack()
        self._gateway: GatewayProcess | None = None

    async def __aenter__(self) -> "World":
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        say("cleaning up")
        await asyncio.shield(self._stack.aclose())

    async def _open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"cc-bench-{os.getpid()}-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._stack.callback(self._end_leftovers)
        if self.options.driver == "docker":
            self._image = await images.session_image()
            self.place = DockerPlace(self._image)
            self._stack.callback(self.place.close)
        await asyncio.to_thread(self.databases.open, self._stack.enter_context(ExitStack()))
        redis = EmbeddedRedis(self.folder / "redis", self.folder / "redis.sock", maxmemory_clients="256mb")
        self._stack.push_async_callback(redis.stop)
        await redis.start()
        self.redis_url = redis.address.url
        self.model_url = await self._start_model()

    async def _start_model(self) -> str:
        command = [sys.executable, "-m", "cc_gateway", "scripted-model", "--port", "0"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        self._stack.push_async_callback(process.wait)
        self._stack.callback(_end, process)
        assert process.stdout
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode()
        return line.split()[-1]

    def _end_leftovers(self) -> None:
        """What a gateway could not end. Its processes carry the folder's name; nobody else's do."""
        for process in belonging_to(self.folder):
            with contextlib.suppress(psutil.Error):
                process.kill()

    # ------------------------------------------------------------ gateways

    async def gateway(self) -> GatewayProcess:
        """The gateway that the measurements share, started when it is first asked for."""
        if self._gateway is None:
            self._gateway = await self._stack.enter_async_context(self._serving())
        return self._gateway

    @asynccontextmanager
    async def stamping_gateway(self) -> AsyncIterator[GatewayProcess]:
        """A gateway of its own whose `claude` is the shim of `bench.stamping`."""
        if self._image:
            async with images.stamping_image(self._image) as image, self._serving(CC_SESSION_IMAGE=image) as gateway:
                yield gateway
        else:
            shim = write_shim(self.folder / "claude-stamped", python=sys.executable, claude=str(claude_binary(None)))
            async with self._serving(CC_CLAUDE_BINARY=str(shim)) as gateway:
                yield gateway

    @asynccontextmanager
    async def _serving(self, **environment: str) -> AsyncIterator[GatewayProcess]:
        """A gateway with settings of its own, as its user starts it."""
        settings = {
            "CC_SCRIPTED": "false",
            "CC_MODEL_URL": self.model_url,
            "CC_REDIS_URL": self.redis_url,
            "CC_DRIVER": self.options.driver,
            "CC_UNSAFE": "true",  # a model that plays a script; without bubblewrap its commands would be refused
        }
        if self._image:
            settings["CC_SESSION_IMAGE"] = self._image
        async with self.databases.fresh() as database:
            gateway = GatewayProcess(self.folder / secrets.token_hex(3), **settings | database | environment)
            try:
                await asyncio.to_thread(gateway.start)
                yield gateway
            finally:
                await asyncio.to_thread(self._end, gateway)

    def _end(self, gateway: GatewayProcess) -> None:
        gateway.close()
        if self._image:
            images.remove_containers(f"{DEPLOYMENT_LABEL}={deployment_of(gateway.data_dir)}")


def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
