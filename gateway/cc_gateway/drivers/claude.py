"""Where the `claude` binary is, for drivers that run it on this machine."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from cc_gateway.drivers.base import DriverError

CLAUDE_VERSION: Final = "2.1.329"
SDK_VERSION: Final = "0.2.186"
"""The release of the wheel `claude-agent-sdk` that carries it."""


def require_version(binary: Path) -> None:
    """Raises `DriverError` unless this is the pinned version: another one may say things that nobody has tested."""
    try:
        output = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverError(f"{binary} does not run: {error}", code="cli_missing") from error
    found = output.split()[0] if output.split() else "unknown"
    if found != CLAUDE_VERSION:
        raise DriverError(
            f"{binary} is version {found}, but {CLAUDE_VERSION} is needed: unset CC_CLAUDE_BINARY for the pinned one, or"
            f" pip install 'claude-agent-sdk=={SDK_VERSION}'",
            code="cli_version",
        )


def claude_binary(configured: Path | None) -> Path:
    """The configured binary, else the pinned one in the wheel `claude-agent-sdk`.

    Raises:
        DriverError: there is none; the message names the mend.
    """
    if configured:
        if not os.access(configured, os.X_OK):
            raise DriverError(f"CC_CLAUDE_BINARY={configured} is not an executable file", code="cli_missing")
        return configured
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec and spec.origin:
        path = Path(spec.origin).parent / "_bundled" / "claude"
        if os.access(path, os.X_OK):
            return path
    raise DriverError(
        f"the claude binary is missing: pip install 'claude-agent-sdk=={SDK_VERSION}' brings {CLAUDE_VERSION}, or set"
        " CC_CLAUDE_BINARY" + (f" (there is one at {found})" if (found := shutil.which("claude")) else ""),
        code="cli_missing",
    )
