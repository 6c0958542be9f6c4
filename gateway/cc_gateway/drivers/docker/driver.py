"""The `docker` driver. The container's name is the lock, its id what is started and removed, its label the incarnation.

Handle: the container's id.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog

from cc_gateway.drivers.base import Clone, DriverError, Exit, Folders, Owner, SessionDriver, SessionSpec
from cc_gateway.drivers.docker.container import (
    CLAUDE,
    DEPLOYMENT_LABEL,
    INCARNATION_LABEL,
    INSIDE,
    PROBE_LABEL,
    SESSION_LABEL,
    Guards,
    Limits,
    clone_container,
    probe_container,
    session_container,
)
from cc_gateway.drivers.docker.engine import Engine, Missing, NameTaken
from cc_gateway.drivers.docker.image import BUILD, checked, is_ours, own_tag
from cc_gateway.drivers.git import own_words
from cc_gateway.drivers.logs import LogFile, last_lines

log = structlog.get_logger(__name__)

AGENT: Final = Owner(10001, 10001)
"""Whom sessions run as where the gateway is root: the image's own user."""

TRIES: Final = 5
TRY_SECONDS: Final = 0.3
KEPT_LINES: Final = 2000


@dataclass(frozen=True)
class DockerOptions:
    """What an operator may choose. `image`: None for the one that belongs to this checkout."""

    limits: Limits
    url: str | None = None
    image: str | None = None
    runtime: str | None = None
    clone_network: str = "bridge"


class DockerDriver(SessionDriver):
    """Runs each session in a container of its own."""

    name = "docker"
    isolated = True
    claude_binary = CLAUDE
    takes_images = True

    def __init__(self, *, deployment: str, logs: Path, options: DockerOptions) -> None:
        """
        Args:
            deployment: tells our containers from those of other deployments on the engine.
            logs: the folder in which the output of sessions that have ended is kept.
        """
        self._deployment = deployment
        self._logs = logs
        self._engine = Engine(options.url)
        self._image = options.image or own_tag()
        self._clone_network = options.clone_network
        self.owner = AGENT if os.geteuid() == 0 else Owner(os.geteuid(), os.getegid())
        self._guards = Guards(self.owner, options.limits, options.runtime)

    async def open(self) -> None:
        info = await self._engine.open()
        try:
            await self.inspect_image()
            self._check_runtime(info)
            self._fit_cpus(info)
        except BaseException:
            await self._engine.close()
            raise

    async def inspect_image(self, image: str | None = None) -> dict[str, Any]:
        """What the engine knows of this image, or of the one of sessions that name none.

        Raises `DriverError` where it is missing, or has another wrapper in it than the one this gateway knows.
        """
        return await checked(self._engine, image or self._image)

    def _check_runtime(self, info: dict[str, Any]) -> None:
        known = info.get("Runtimes") or {}
        runtime = self._guards.runtime
        if runtime and runtime not in known:
            raise DriverError(
                f"the engine has no runtime {runtime}, only {', '.join(sorted(known))}: see CC_CONTAINER_RUNTIME",
                code="runtime_missing",
                retryable=False,
            )

    def _fit_cpus(self, info: dict[str, Any]) -> None:
        """The engine refuses to give a container more CPUs than it has."""
        limits, there = self._guards.limits, float(info.get("NCPU") or 0)
        if 0 < there < limits.cpus:
            log.info("fewer_cpus", wanted=limits.cpus, there=there)
            self._guards = replace(self._guards, limits=replace(limits, cpus=there))

    async def close(self) -> None:
        await self._engine.close()

    async def start(self, spec: SessionSpec) -> str:
        for _ in range(TRIES):
            found = await self._engine.inspect(self._name_of(spec.session_id))
            if found and not await self._make_way(found, spec):
                return await self._started(found["Id"], found["State"]["Status"])
            await asyncio.to_thread(spec.write_files, INSIDE, self.owner)
            try:
                return await self._started(await self._create(spec), "created")
            except NameTaken:  # somebody was faster, or the old one is still being removed
                await asyncio.sleep(TRY_SECONDS)
        raise DriverError(f"the container {self._name_of(spec.session_id)} cannot be made: its name stays taken")

    async def _make_way(self, found: dict[str, Any], spec: SessionSpec) -> bool:
        """Remove the container of an older incarnation. False where it is this very one; a newer one is not touched."""
        theirs = int(found["Config"]["Labels"].get(INCARNATION_LABEL, 0))
        if theirs == spec.incarnation:
            return False
        if theirs > spec.incarnation:
            raise DriverError(f"incarnation {theirs} of {spec.session_id} runs already", code="replaced")
        await self.stop(found["Id"], grace=0)
        return True

    async def _create(self, spec: SessionSpec) -> str:
        image = spec.image or self._image
        assert image
        if image != self._image:
            await self.inspect_image(image)
        labels = {
            DEPLOYMENT_LABEL: self._deployment,
            SESSION_LABEL: spec.session_id,
            INCARNATION_LABEL: str(spec.incarnation),
        }
        config = session_container(image, spec.folders, self._guards, labels)
        try:
            return await self._engine.create(self._name_of(spec.session_id), config)
        except Missing as error:
            message = f"the engine has no image {image} any more: {BUILD} builds ours"
            raise DriverError(message, code="image_missing", retryable=False) from error

    async def _started(self, container: str, status: str) -> str:
        """Start it if it has only been created. What cannot be started is not left behind."""
        if status != "created":
            return container
        try:
            await self._engine.start(container)
        except DriverError:
            await self._engine.remove(container)
            raise
        return container

    async def poll(self, handle: str) -> Exit | None:
        found = await self._engine.inspect(_checked(handle))
        if found is None:
            return Exit(None, "its container was removed")
        state = found["State"]
        if state["Status"] in ("created", "running", "paused", "restarting"):
            return None
        return _exit_of(state, found["HostConfig"]["Memory"])

    async def paused(self, handle: str) -> bool:
        found = await self._engine.inspect(_checked(handle))
        return bool(found and found["State"]["Paused"])

    async def resume(self, handle: str) -> None:
        if await self.paused(handle):
            await self._engine.unpause(_checked(handle))

    async def outdated(self, handle: str) -> bool:
        found = await self._engine.inspect(_checked(handle))
        return found is not None and not is_ours(found)

    async def stop(self, handle: str, *, grace: float = 10) -> None:
        found = await self._engine.inspect(_checked(handle))
        if found is None:
            return
        session_id = found["Config"]["Labels"].get(SESSION_LABEL)
        with suppress(Missing):
            if found["State"]["Paused"]:  # the engine does not stop what is paused
                await self._engine.unpause(found["Id"])
            if found["State"]["Running"] and grace > 0:
                await self._engine.stop(found["Id"], grace)
        if session_id:
            await self._keep_logs(found["Id"], session_id)
        await self._engine.remove(found["Id"])

    async def clone(self, order: Clone) -> None:
        assert self._image
        name = f"{self._name_of(order.session_id)}-clone"
        labels = {DEPLOYMENT_LABEL: self._deployment, SESSION_LABEL: order.session_id}
        config = clone_container(self._image, order, self._clone_network, self._guards, labels)
        await self._engine.remove(name)
        try:
            async with asyncio.timeout(order.timeout):
                code, output = await self._run_once(name, config)
        except TimeoutError:
            message = f"cloning took longer than {order.timeout:.0f} s (CC_CLONE_TIMEOUT)"
            raise DriverError(message, code="clone_failed", retryable=False) from None
        if code != 0:
            raise DriverError(own_words(output), code="clone_failed", retryable=False)

    async def probe(self, folders: Folders, command: list[str]) -> tuple[int, str]:
        """Run a command where a session would run, with such folders: its exit code, and what it printed.

        The caller says how long to wait. Nothing of it stays, whatever the end. Raises `DriverError`.
        """
        assert self._image
        config = probe_container(self._image, command, folders, self._guards, {PROBE_LABEL: self._deployment})
        return await self._run_once(f"cc-{self._deployment}-probe-{secrets.token_hex(4)}", config)

    async def _run_once(self, name: str, config: dict[str, Any]) -> tuple[int, str]:
        """Run a container to its end and remove it: its exit code, and the end of what it printed."""
        container = await self._engine.create(name, config)
        try:
            await self._engine.start(container)
            return await self._engine.wait(container), await self._engine.logs(container, 50)
        finally:
            await asyncio.shield(self._engine.remove(container))

    async def _keep_logs(self, container: str, session_id: str) -> None:
        try:
            if text := await self._engine.logs(container, KEPT_LINES):
                await asyncio.to_thread(LogFile(self._logs, session_id).append, text)
        except (DriverError, OSError) as error:  # no reason to leave the container
            log.warning("logs_not_kept", session_id=session_id, error=str(error))

    async def logs(self, session_id: str, *, tail: int = 200) -> str:
        kept = await asyncio.to_thread(LogFile(self._logs, session_id).tail, tail)
        present = await self._engine.logs(self._name_of(session_id), tail) if _is_name(session_id) else ""
        return last_lines("\n".join(part.rstrip("\n") for part in (kept, present) if part), tail)

    async def running(self) -> AsyncIterator[tuple[str, str]]:
        for container, labels in await self._engine.labelled(**{DEPLOYMENT_LABEL: self._deployment}):
            if session_id := labels.get(SESSION_LABEL):
                yield session_id, container

    def _name_of(self, session_id: str) -> str:
        return f"cc-{self._deployment}-{session_id}"


def _is_name(text: str) -> bool:
    return text.replace("_", "").isalnum()


def _checked(handle: str) -> str:
    """A handle that cannot be a container's id names none: it must not become part of a path of the engine's API."""
    return handle if handle.isalnum() else "none"


def _exit_of(state: dict[str, Any], memory: int) -> Exit:
    code = int(state["ExitCode"])
    if state.get("OOMKilled"):
        return Exit(code, f"it ran out of memory (limit {memory / 2**20:.0f} MiB)")
    if code > 128:
        try:
            name = signal.Signals(code - 128).name
        except ValueError:
            return Exit(code, f"exited with status {code}")
        return Exit(128 - code, f"killed by {name}")
    return Exit(code, f"exited with status {code}" + (f": {state['Error']}" if state.get("Error") else ""))
