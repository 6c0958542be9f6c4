"""What the `docker` driver needs: an engine that we may use, the image of sessions, and a disk with room below it."""

import errno
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from cc_gateway.doctor.check import Check, Finding, Trouble, failure, in_thread, note, ok, skipped
from cc_gateway.doctor.folder import judge
from cc_gateway.doctor.subject import Subject, nearest_folder
from cc_gateway.doctor.words import amount, in_container, plural
from cc_gateway.drivers.base import DriverAway, DriverError
from cc_gateway.drivers.choose import docker_driver
from cc_gateway.drivers.docker import DockerDriver
from cc_gateway.drivers.docker.engine import Engine
from cc_gateway.drivers.docker.image import BUILD, own_tag

ENGINE: Final = "engine"
IMAGE: Final = "image"
NO_ENGINE: Final = "the engine does not answer"

OLDEST: Final = (1, 41)
"""The version of the API that came with Docker 20.10."""

START: Final = "sudo systemctl start docker"
LIMITS: Final = (
    ("MemoryLimit", "memory"),
    ("PidsLimit", "the number of processes"),
    ("CpuCfsQuota", "CPUs"),
)


def checks(subject: Subject) -> list[Check]:
    late = "see whether the engine is well: docker info"
    return [
        Check(ENGINE, lambda: _engine(subject), late),
        Check(IMAGE, lambda: _image(subject), late),
        Check("Docker's disk", lambda: _disk(subject), late),
        Check("leftovers", lambda: _leftovers(subject), late),
    ]


@asynccontextmanager
async def opened(subject: Subject) -> AsyncIterator[DockerDriver]:
    """The driver as `serve` would open it. Raises `DriverError`."""
    driver = docker_driver(subject.settings, subject.layout.logs)
    await driver.open()
    try:
        yield driver
    finally:
        await driver.close()


# ---------------------------------------------------------------- the engine


async def _engine(subject: Subject) -> Finding:
    engine = Engine(subject.settings.driver.docker_url)
    try:
        info = await engine.open()
    except DriverAway as error:
        return failure("not reached", *why_away(error))
    try:
        return describe(info, engine.api_version, subject.settings.driver.container_runtime)
    finally:
        await engine.close()


def describe(info: dict[str, Any], api: str, runtime: str | None) -> Finding:
    """The facts of an engine in one line, and what it lacks (pure)."""
    version = re.split(r"[+~-]", str(info.get("ServerVersion", "?")))[0]
    facts = [
        f"Docker {version}",
        f"API {api.removeprefix('v')}",
        f"cgroup v{info.get('CgroupVersion', '1')}",
        str(info.get("Driver", "")),
        plural(int(info.get("NCPU", 0)), "CPU"),
        f"{info.get('MemTotal', 0) / 2**30:.1f} GB",
        *(
            name
            for name in ("rootless", "userns", "selinux")
            if any(name in one for one in info.get("SecurityOptions") or ())
        ),
    ]
    return ok(", ".join(fact for fact in facts if fact), *_lacks(info, version, api, runtime))


def _lacks(info: dict[str, Any], version: str, api: str, runtime: str | None) -> Iterator[Trouble]:
    if tuple(int(part) for part in re.findall(r"\d+", api)[:2]) < OLDEST:
        yield Trouble(
            f"Docker {version} is too old: 20.10 is needed", "sudo apt-get install docker.io, or https://get.docker.com"
        )
    if info.get("OSType", "linux") != "linux":
        yield Trouble(f"its containers are of {info['OSType']}", "switch it to Linux containers")
    known = info.get("Runtimes") or {}
    if runtime and runtime not in known:
        yield Trouble(
            f"it has no runtime {runtime}, only {', '.join(sorted(known))}", "unset CC_CONTAINER_RUNTIME, or install it"
        )
    missing = [what for name, what in LIMITS if info.get(name) is False]
    if missing:
        yield Trouble(
            f"it cannot limit {' and '.join(missing)}: one session may take all of it",
            "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or with cgroup_enable=memory; for a rootless engine:"
            " https://docs.docker.com/engine/security/rootless/",
            fatal=False,
        )


def why_away(error: BaseException) -> tuple[str, str]:
    """What keeps us from the engine, and the mend: by the system's error below the driver's."""
    number, said = _number(error), str(error)
    if number in (errno.EACCES, errno.EPERM):
        group = "add the socket's group to this container: --group-add $(stat -c %g /var/run/docker.sock)"
        return (
            f"you may not use it: {said}",
            group if in_container() else "sudo usermod -aG docker $USER, and log in again",
        )
    if number == errno.ECONNREFUSED:
        return f"it does not run: {said}", START
    if in_container():
        return said, "give this container the engine's socket: -v /var/run/docker.sock:/var/run/docker.sock"
    if number == errno.ENOENT or "no socket" in said:
        return (
            f"there is none where it was looked for: {said}",
            f"{START}; or sudo apt-get install docker.io; or name its address in CC_DOCKER_URL",
        )
    return said, "docker info says more; CC_DOCKER_URL names the engine's address"


def _number(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


# ---------------------------------------------------------------- what it holds


async def _image(subject: Subject) -> Finding:
    try:
        async with opened(subject) as driver:
            found = await driver.inspect_image()
            name = subject.settings.driver.session_image or own_tag()
            return ok(f"{name} {amount(found.get('Size') or 0)}, sources match")
    except DriverAway:
        return skipped(NO_ENGINE)
    except DriverError as error:
        if error.code not in ("image_missing", "image_stale"):
            return skipped("see the engine")
        return failure("it cannot be used", error.message, _image_mend(subject, error.code))


def _image_mend(subject: Subject, code: str) -> str:
    if subject.settings.driver.session_image:
        return f"set CC_SESSION_IMAGE to what this prints: {BUILD}"
    return f"{BUILD} --force" if code == "image_stale" else BUILD


async def _disk(subject: Subject) -> Finding:
    engine = Engine(subject.settings.driver.docker_url)
    try:
        info = await engine.open()
        await engine.close()
    except DriverError:
        return skipped(NO_ENGINE)
    return await in_thread(
        _room, Path(info.get("DockerRootDir") or "/nowhere"), nearest_folder(subject.settings.data_dir)
    )


def _room(root: Path, data: Path) -> Finding:
    if not root.is_dir():  # in a container, or with an engine elsewhere
        return skipped(f"{root} cannot be seen from here")
    if root.stat().st_dev == data.stat().st_dev:
        return ok(f"{root}: the data folder's")
    return judge(root, "see what takes it: docker system df; what no container uses goes with docker image prune --all")


async def _leftovers(subject: Subject) -> Finding:
    try:
        async with opened(subject) as driver:
            count = len([handle async for _, handle in driver.running()])
    except DriverError:
        return skipped(f"see {ENGINE} and {IMAGE}")
    if count == 0:
        return ok("none")
    if await subject.gateway():
        return ok(f"{plural(count, 'container')} of sessions, which the gateway looks after")
    return note(f"{plural(count, 'container')} of an earlier gateway: the next one takes them over or removes them")
