"""Reads the two files that say who this wrapper is.

Above it: `__main__`. Below it: the file system. It knows only the layout that `cc_protocol.launch` describes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from cc_protocol.launch import (
    GATEWAY_SOCKET,
    REDIS_SOCKET,
    RUN_DIR_ENV,
    SECRETS_FILE,
    SESSION_FILE,
    Launch,
    Secrets,
)
from cc_wrapper.errors import ConfigurationError

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True)
class Run:
    """Everything that a wrapper is given."""

    launch: Launch
    secrets: Secrets
    gateway_socket: Path
    redis_socket: Path


def read_run(environ: Mapping[str, str]) -> Run:
    """Read the run folder that the environment names; raises `ConfigurationError` with one clear line."""
    folder = environ.get(RUN_DIR_ENV)
    if not folder:
        raise ConfigurationError(f"{RUN_DIR_ENV} is not set: it names the folder with {SESSION_FILE}")
    root = Path(folder)
    launch = _read(root / SESSION_FILE, Launch)
    for name, path in (("workspace", launch.workspace), ("claude_dir", launch.claude_dir)):
        if not Path(path).is_absolute() or not Path(path).is_dir():
            raise ConfigurationError(f"{name} is not an absolute path of a folder: {path}")
    return Run(launch, _read(root / SECRETS_FILE, Secrets), root / GATEWAY_SOCKET, root / REDIS_SOCKET)


def _read(path: Path, model: type[_M]) -> _M:
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not valid: {_problems(error)}") from None


def _problems(error: ValidationError) -> str:
    """Where and what, never the value: it may be a secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in found[:5])
