"""Whether a session's container would reach what it has to: seen from inside one that is thrown away.

This finds at one stroke an engine in a virtual machine or elsewhere, user ids that it maps, SELinux, and a gateway in a
container whose paths are not the host's.
"""

import inspect
import json
import shlex
from pathlib import Path
from typing import Any, Final

from cc_gateway.doctor import inside
from cc_gateway.doctor.check import CONTAINER_SECONDS, Check, Finding, Trouble, failure, ok, skipped
from cc_gateway.doctor.engine import opened
from cc_gateway.doctor.sockets import NoFolder, Place, socket_folder
from cc_gateway.doctor.subject import Subject
from cc_gateway.doctor.words import in_container
from cc_gateway.drivers.base import DriverError
from cc_gateway.drivers.claude import CLAUDE_VERSION
from cc_gateway.drivers.docker import DockerDriver
from cc_gateway.drivers.docker.container import CLAUDE, INSIDE, WRAPPER
from cc_gateway.drivers.docker.image import BUILD
from cc_protocol.launch import GATEWAY_SOCKET

FILE: Final = "doctor"


def checks(subject: Subject) -> list[Check]:
    late = "see whether the engine is overloaded: docker stats"
    return [Check("containers", lambda: _containers(subject), late, CONTAINER_SECONDS)]


async def _containers(subject: Subject) -> Finding:
    try:
        async with opened(subject) as driver:
            try:
                async with socket_folder(subject, driver.owner) as place:
                    return await _look_from_inside(driver, place, subject)
            except NoFolder as error:
                return skipped(str(error))
            except DriverError as error:
                return _not_started(error, subject.settings.data_dir)
    except DriverError:
        return skipped("see the engine and the image")


async def _look_from_inside(driver: DockerDriver, place: Place, subject: Subject) -> Finding:
    command = [WRAPPER[0], "-I", "-c", inspect.getsource(inside)]
    command += [str(INSIDE.run / GATEWAY_SOCKET), str(INSIDE.workspace / FILE), str(CLAUDE)]
    code, output = await driver.probe(place.folders, command)
    try:
        found = json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return failure("one was started", f"it ended with status {code}: {output.strip()[-300:]}", f"{BUILD} --force")
    arrived = (place.folders.workspace / FILE).exists()
    return judge(found, place.word, arrived, subject.settings.data_dir)


def judge(found: dict[str, Any], word: str, arrived: bool, data_dir: Path) -> Finding:
    """What the view from inside means (pure). `arrived`: whether what was written there has arrived here."""
    said = f"one reaches socket and workspace as user {found['uid']}, and has claude {found['claude'].get('ok')}"
    troubles = []
    if found["socket"].get("ok") != word:
        troubles.append(_no_socket(found["socket"].get("error", "another answer"), data_dir))
    elif "ok" not in found["workspace"]:
        troubles.append(_no_writing(found["workspace"]["error"], data_dir))
    elif not arrived:
        troubles.append(_elsewhere(data_dir))
    if found["claude"].get("ok") != CLAUDE_VERSION:
        problem = f"the claude in the image is {found['claude']}, and {CLAUDE_VERSION} is needed"
        troubles.append(Trouble(problem, f"{BUILD} --force, and unset CC_SESSION_IMAGE"))
    return ok(said if not troubles else "one was started", *troubles)


def _no_socket(error: str, data_dir: Path) -> Trouble:
    if error == "ENOENT":
        return _elsewhere(data_dir)
    if error in ("EACCES", "EPERM"):
        return Trouble(
            f"a container may not connect to a socket of {data_dir} ({error}): SELinux forbids it, or the engine maps user ids",
            f"sudo chcon -Rt container_file_t {shlex.quote(str(data_dir))} (SELinux), or use an engine without userns-remap",
        )
    return Trouble(
        f"a container sees the folder, and not the sockets in it ({error}): the engine runs in a virtual machine",
        "run the gateway on the machine of the engine (in a container of its own), or set CC_DRIVER=process",
    )


def _no_writing(error: str, data_dir: Path) -> Trouble:
    return Trouble(
        f"a session could not write its workspace ({error}): the engine maps user ids (rootless, userns-remap), or SELinux",
        "run the gateway as the user of the rootless engine, or use an engine without userns-remap; SELinux: sudo chcon -Rt"
        f" container_file_t {shlex.quote(str(data_dir))}",
    )


def _elsewhere(data_dir: Path) -> Trouble:
    """The engine knows another folder by this path, or none."""
    path = shlex.quote(str(data_dir))
    if in_container():
        mend = f"give the data folder one path on the host and here: CC_DATA_DIR={path} and -v {path}:{path}"
    else:
        mend = "use an engine on this machine (CC_DOCKER_URL, docker context use default), and a data folder that it may see"
    return Trouble(f"the engine does not see {data_dir} as it is here", mend)


def _not_started(error: DriverError, data_dir: Path) -> Finding:
    said = error.message
    if ("does not exist" in said and "source path" in said) or "not shared" in said:
        trouble = _elsewhere(data_dir)
        return failure("none can be started", f"{trouble.problem}: {said}", trouble.mend)
    if "rlimit" in said:
        return failure("none can be started", said, "set CC_SESSION_FILES to what the engine may give")
    return failure("none can be started", said, "see the engine's log: sudo journalctl -u docker -n 50")
