"""The Docker engine as an operator sees it: by its own command."""

import json
import subprocess
from typing import Any


def run(*arguments: str, check: bool = True, timeout: float = 60) -> str:
    """Run `docker …` and return what it prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def inspect(container: str) -> dict[str, Any] | None:
    """What the engine says of a container; None where there is none of that id or name."""
    found = json.loads(run("inspect", "--type", "container", container, check=False) or "[]")
    return dict(found[0]) if found else None


def containers(**labels: str) -> list[str]:
    """Ids of the containers that carry these labels, whatever their state."""
    filters = [part for name, value in labels.items() for part in ("--filter", f"label={name}={value}")]
    return run("ps", "--all", "--quiet", "--no-trunc", *filters).split()


def bridge_address() -> str:
    """The address by which containers with a network see this machine."""
    found = json.loads(run("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]
    return str(found.get("Gateway") or found["Subnet"].rpartition(".")[0] + ".1")
