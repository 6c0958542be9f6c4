"""What a session's container is made of (pure). Every guard of design section 5 that Docker can give stands here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cc_gateway.drivers.base import MARK, Clone, Folders, Owner, mark
from cc_gateway.drivers.git import ENVIRONMENT, clone_command
from cc_protocol.launch import RUN_DIR_ENV

DEPLOYMENT_LABEL: Final = "org.cc-docker.deployment"
SESSION_LABEL: Final = "org.cc-docker.session"
INCARNATION_LABEL: Final = "org.cc-docker.incarnation"
PROBE_LABEL: Final = "org.cc-docker.probe"
"""What a probe carries in their stead: no sweep takes it for a session."""

INSIDE: Final = Folders(workspace=Path("/workspace"), claude=Path("/claude"), run=Path("/run/cc"))
"""Where a session's folders lie in its container."""

HOME: Final = "/home/agent"
CLAUDE: Final = Path("/usr/local/bin/claude")
WRAPPER: Final = ["/opt/cc/bin/python", "-P", "-m", "cc_wrapper"]
"""`-P`: it starts in the workspace, whose files must not pass for modules."""


@dataclass(frozen=True)
class Limits:
    """What one container may take: sizes in bytes, CPUs as a number that may be a fraction."""

    memory: int
    cpus: float
    pids: int
    files: int
    tmp: int


@dataclass(frozen=True)
class Guards:
    """How containers are confined: the same for all of a deployment."""

    owner: Owner
    limits: Limits
    runtime: str | None = None


def session_container(image: str, folders: Folders, guards: Guards, labels: dict[str, str]) -> dict[str, Any]:
    """The container of one incarnation: no network, its own folders, nothing else of the host."""
    config = confined(image, WRAPPER, guards, labels)
    incarnation = mark(labels[DEPLOYMENT_LABEL], labels[SESSION_LABEL], int(labels[INCARNATION_LABEL]))
    config["Env"] += [f"{RUN_DIR_ENV}={INSIDE.run}", f"{MARK}={incarnation}"]
    config["WorkingDir"] = str(INSIDE.workspace)
    config["HostConfig"]["NetworkMode"] = "none"
    config["HostConfig"]["Mounts"] = [
        bind(folders.workspace, INSIDE.workspace),
        bind(folders.claude, INSIDE.claude),
        bind(folders.run, INSIDE.run, read_only=True),
    ]
    return config


def clone_container(image: str, order: Clone, network: str, guards: Guards, labels: dict[str, str]) -> dict[str, Any]:
    """A throw-away container with a network and the folder that is cloned into: no sockets, nothing of the session."""
    config = confined(image, clone_command(order.url, order.branch, order.resolve), guards, labels)
    config["Env"] += [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    config["WorkingDir"] = str(INSIDE.workspace)
    config["HostConfig"]["NetworkMode"] = network
    config["HostConfig"]["Mounts"] = [bind(order.into, INSIDE.workspace)]
    return config


def probe_container(
    image: str, command: list[str], folders: Folders, guards: Guards, labels: dict[str, str]
) -> dict[str, Any]:
    """A throw-away container that sees of the host what a session sees."""
    config = confined(image, command, guards, labels)
    config["WorkingDir"] = str(INSIDE.workspace)
    config["HostConfig"]["NetworkMode"] = "none"
    config["HostConfig"]["Mounts"] = [
        bind(folders.workspace, INSIDE.workspace),
        bind(folders.run, INSIDE.run, read_only=True),
    ]
    return config


def confined(image: str, command: list[str], guards: Guards, labels: dict[str, str]) -> dict[str, Any]:
    """A container without rights. Networks and mounts are the caller's."""
    limits, owner = guards.limits, guards.owner
    ours = f"uid={owner.uid},gid={owner.gid}"
    return {
        "Image": image,
        "Entrypoint": [],
        "Cmd": command,
        "User": f"{owner.uid}:{owner.gid}",
        "Env": [f"HOME={HOME}", "USER=agent", "LOGNAME=agent"],
        "Labels": labels,
        "HostConfig": {
            "Init": True,
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "IpcMode": "private",
            "Memory": limits.memory,
            "MemorySwap": limits.memory,  # the same number means no swap
            "NanoCpus": int(limits.cpus * 1e9),
            "PidsLimit": limits.pids,
            "Ulimits": [
                {"Name": "nofile", "Soft": limits.files, "Hard": limits.files},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            # agents build and run programs in both; Docker's own default is noexec
            "Tmpfs": {
                "/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={limits.tmp}",  # noqa: S108
                HOME: f"rw,exec,nosuid,nodev,mode=0700,size={limits.tmp},{ours}",
            },
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "1"}},
            "RestartPolicy": {"Name": "no"},
            **({"Runtime": guards.runtime} if guards.runtime else {}),
        },
    }


def bind(source: Path, target: Path, *, read_only: bool = False) -> dict[str, Any]:
    """A mount by the API's `Mounts`, which do not create what is missing."""
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": str(target),
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }
