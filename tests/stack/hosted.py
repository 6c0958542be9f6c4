"""A stack of docker-compose.yml as people host it: by scripts/setup.sh and Compose, under a name of its own."""

import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import httpx

from support import docker
from support.api import Api
from support.waiting import until

CHECKOUT: Final = Path(__file__).parents[2]
COMPOSE_FILE: Final = CHECKOUT / "docker-compose.yml"
DEBIAN_FILE: Final = CHECKOUT / "tests/stack/docker-compose.debian.yml"
SERVICES: Final = ("gateway", "redis", "postgres")
OURS: Final = ("CC_", "COMPOSE_", "POSTGRES_", "REDIS_", "ANTHROPIC_", "CLAUDE_")
"""What a developer's own environment must not bring in."""


def flavours() -> list[tuple[str, ...]]:
    """Compose as it can be called on this machine, the one that scripts/setup.sh would take first."""
    known = [("docker", "compose"), ("docker-compose",)]
    return [one for one in known if shutil.which(one[0]) and _run(*one, "version", check=False).returncode == 0]


def _run(
    *command: str | Path, check: bool = True, timeout: float = 60, environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    done = subprocess.run(
        command,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
    )
    words = " ".join(map(str, command))
    assert not check or done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


class HostedStack:
    """Its project, port, settings, data folder and gateway image are its own. `close` leaves nothing of it behind."""

    def __init__(self, folder: Path) -> None:
        self.name = f"cct-{secrets.token_hex(3)}"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env_file = folder / "env"
        self.data_dir = folder / "data"
        self.image = f"cc-docker-gateway:{self.name}"
        self.flavour = flavours()[0]
        self._files: list[Path] = [COMPOSE_FILE]
        # What a user may have written before the first set-up. The deployment's name is in the names of session containers.
        self.env_file.write_text(f"# mine\nCC_SCRIPTED=true\nCC_DEPLOYMENT='{self.name}'")

    def set_up(self) -> str:
        """Run scripts/setup.sh; what it printed."""
        chosen = {
            "COMPOSE_PROJECT_NAME": self.name,
            "CC_DATA_DIR": str(self.data_dir),
            "CC_PORT": str(self.port),
            "CC_GATEWAY_IMAGE": self.image,
        }
        script = CHECKOUT / "scripts/setup.sh"
        done = _run(script, "--env-file", self.env_file, environment=chosen, timeout=1500)
        return done.stdout + done.stderr

    def provide_images(self) -> None:
        """The official images of Redis and PostgreSQL, or the ones of tests/stack where they cannot be pulled."""
        official = re.findall(r"image: ((?:redis|postgres):\S+)", COMPOSE_FILE.read_text())
        assert len(official) == 2
        if all(_can_be_had(image) for image in official):
            return
        for service in ("redis", "postgres"):
            folder = CHECKOUT / "tests/stack" / service
            _run("docker", "build", "--tag", f"cc-docker-stack-{service}", folder, timeout=600)
        self._files.append(DEBIAN_FILE)

    def compose(
        self, *arguments: str, check: bool = True, flavour: tuple[str, ...] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        files = [part for file in self._files for part in ("--file", str(file))]
        command = (*(flavour or self.flavour), "--env-file", str(self.env_file), *files, *arguments)
        return _run(*command, check=check, timeout=180, environment=environment)

    def setting(self, name: str) -> str:
        found = re.findall(rf"^{name}=(.+)$", self.env_file.read_text(), re.MULTILINE)
        return str(found[-1])

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        filters = {"com.docker.compose.project": self.name, "com.docker.compose.service": service}
        (found,) = docker.containers(**filters)
        return found

    def state(self, service: str) -> dict[str, Any]:
        """What the engine says of how a service's container runs, or ended."""
        facts = docker.inspect(self.container(service))
        assert facts
        return dict(facts["State"])

    def session_containers(self) -> list[str]:
        return docker.run("ps", "--all", "--quiet", "--no-trunc", "--filter", f"name=^cc-{self.name}-").split()

    async def is_ready(self, seconds: float = 90) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:

            async def look() -> bool:
                try:
                    return (await http.get(f"{self.url}/health/ready")).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(look, "the gateway to be ready", seconds)

    def token(self) -> str:
        return self.compose("exec", "-T", "gateway", "cc-docker", "token").stdout.strip()

    def api(self) -> Api:
        return Api(self.url, self.token())

    def logs(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "100", check=False).stdout[-8000:]

    def close(self) -> None:
        try:
            self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20", check=False)
        finally:
            for container in self.session_containers():
                docker.run("rm", "--force", "--volumes", container, check=False)
            docker.run("image", "rm", "--no-prune", self.image, check=False)
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self.env_file.unlink(missing_ok=True)


def _can_be_had(image: str) -> bool:
    present = docker.run("image", "inspect", "--format", "{{.Id}}", image, check=False)
    return bool(present) or _run("docker", "pull", "--quiet", image, check=False, timeout=600).returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
