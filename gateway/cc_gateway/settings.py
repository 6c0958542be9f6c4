"""The settings, read once from the environment (and `.env`) by the entry point and handed down from there.

Each class is one subject; `docs/configuration.md` is generated from them (`python -m cc_gateway docs configuration`).
"""

import hashlib
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cc_gateway.errors import StartupError


def default_data_dir() -> Path:
    """Where an embedded gateway keeps its things: `$XDG_DATA_HOME/cc-docker`, or `~/.local/share/cc-docker`."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "cc-docker"


class _Section(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CC_", env_file=".env", env_ignore_empty=True, extra="ignore", populate_by_name=True
    )


class ServerSettings(_Section):
    """The gateway's own place: its folder and its public address."""

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder of everything that is kept: database, sessions, keys. One gateway at a time.",
    )
    host: str = Field("127.0.0.1", description="Address of the public listener.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the public listener; 0 takes a free one.")
    public_url: str | None = Field(
        None, description="How clients reach the gateway, for the addresses in answers. Default: from host and port."
    )
    deployment: str = Field(
        "local", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="Name that keeps deployments on one engine apart."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`text` for people, `json` for machines; `auto` looks whether a terminal reads."
    )


class AuthSettings(_Section):
    """Who may use the API."""

    jwt_secret: SecretStr | None = Field(
        None, description="Secret that signs tokens (32 bytes or more). Default: made once, kept in the data folder."
    )
    jwt_issuer: str = Field("cc-docker", description="`iss` of the tokens that are made and accepted.")
    jwt_audience: str = Field("cc-docker-api", description="`aud` of user tokens.")
    jwt_public_key: str | None = Field(
        None, description="PEM public key (RS256) of an outside issuer whose user tokens are accepted too."
    )
    jwt_outside_issuer: str | None = Field(None, description="`iss` of the outside issuer's tokens.")
    token_hours: float = Field(12.0, gt=0, le=24 * 366, description="How long a made token is good for, in hours.")


class StoreSettings(_Section):
    """The database."""

    database_url: str | None = Field(
        None,
        repr=False,
        description="`postgresql+asyncpg://USER:PASSWORD@HOST:5432/DATABASE` (PostgreSQL >= 15; `?sslmode=…` and other options"
        " as libpq has them) or `sqlite+aiosqlite:////FOLDER/FILE`. Default: SQLite in the data folder.",
    )
    database_pool_size: int = Field(10, ge=1, le=1000, description="Connections to PostgreSQL that are kept open.")
    database_max_overflow: int = Field(
        10, ge=0, le=1000, description="Connections to PostgreSQL beyond these that may be opened for a while."
    )
    database_pool_timeout: float = Field(
        5.0, gt=0, le=300, description="Longest wait for one of these connections, in seconds; then requests get 503."
    )
    database_connect_timeout: float = Field(
        5.0, gt=0, le=300, description="Longest connect to PostgreSQL, login included, in seconds."
    )
    database_command_timeout: float = Field(
        10.0,
        ge=1,
        le=300,
        description="Longest statement on PostgreSQL, in seconds: the server ends it then (`statement_timeout`), and a server"
        " that does not answer counts as away.",
    )


class RedisSettings(_Section):
    """Redis, over which gateway and sessions talk."""

    redis_url: SecretStr | None = Field(
        None,
        description="URL of a Redis or Valkey (>= 7). Default: one of our own, started and stopped with the gateway.",
    )
    redis_maxmemory_clients: str = Field("256mb", description="Memory that all clients of our own Redis may hold.")


class ModelSettings(_Section):
    """The model behind the proxy. The first of these that is set is used; with none, the scripted model answers."""

    model_url: str | None = Field(
        None, pattern=r"^https?://", description="Base URL of a server that speaks the Messages API (Ollama, vLLM, …)."
    )
    model_key: SecretStr | None = Field(
        None, description="Key for `CC_MODEL_URL`, sent as `x-api-key`, if it wants one."
    )
    anthropic_api_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("ANTHROPIC_API_KEY"), description="Anthropic API key."
    )
    oauth_token: SecretStr | None = Field(
        None, validation_alias=AliasChoices("CLAUDE_CODE_OAUTH_TOKEN"), description="Token of `claude setup-token`."
    )
    scripted: bool = Field(False, description="Use the scripted model even where a key is set.")
    scenario_file: Path | None = Field(None, description="Scenario for the scripted model (JSON).")
    default_model: str | None = Field(None, description="Model of sessions that name none. Default: the CLI's own.")
    model_connect_timeout: float = Field(10.0, gt=0, description="Longest connect to the model, in seconds.")
    model_read_timeout: float = Field(600.0, gt=0, description="Longest silence of the model, in seconds.")


class DriverSettings(_Section):
    """Where sessions run."""

    driver: Literal["auto", "docker", "process"] = Field(
        "auto",
        description="How a session gets a place to run: `docker`, `process`, or `auto`: Docker where an engine answers that"
        " has the session image, else processes.",
    )
    docker_url: str | None = Field(
        None,
        description="Address of the Docker engine (`unix://…`, `tcp://…`). Default: as the `docker` command finds it.",
    )
    session_image: str | None = Field(
        None, description="Image of sessions that name none. Default: the one that belongs to this checkout."
    )
    session_images: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Further images that a session may name (`config.image`), with commas between.",
    )
    session_memory: ByteSize = Field(
        ByteSize(2 * 1024**3), ge=64 * 1024**2, description="Memory of one session's container, such as `2GiB`."
    )
    session_cpus: float = Field(
        2.0, gt=0, le=1024, description="CPUs of one session's container, at most what there are; may be a fraction."
    )
    session_pids: int = Field(512, ge=16, description="Processes and threads of one session's container.")
    session_files: int = Field(16_384, ge=256, description="Files that a process of a container may have open.")
    session_tmp: ByteSize = Field(
        ByteSize(1024**3),
        ge=1024**2,
        description="Size of `/tmp` and of the home each; what is in them counts as memory.",
    )
    container_runtime: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]+$", description="Container runtime, such as `runsc`. Default: the engine's own."
    )
    unsafe: bool = Field(
        False, description="Let a real model run unlisted commands although nothing isolates it (process driver)."
    )
    bubblewrap: Literal["auto", "on", "off"] = Field(
        "auto", description="Confine sessions of the process driver with bubblewrap: `auto` where it is installed."
    )
    claude_binary: Path | None = Field(
        None, description="The `claude` binary. Default: the pinned one of our packages."
    )
    skills_dir: Path | None = Field(None, description="Folder of the skills that sessions may name (`NAME/SKILL.md`).")
    clone_timeout: float = Field(600.0, gt=0, description="Longest clone of a git workspace, in seconds.")
    clone_private: bool = Field(
        False, description="Let repositories be cloned from private addresses, this machine's own among them."
    )
    clone_network: str = Field("bridge", description="Network of the container in which a repository is cloned.")
    start_timeout: float = Field(60.0, gt=0, description="Longest start of a session, in seconds.")
    setup_timeout: float = Field(
        600.0, gt=0, le=86_400, description="Longest setup script of a session, in seconds: beside its start."
    )
    stop_grace: float = Field(10.0, gt=0, description="How long a session may take to stop by itself, in seconds.")
    silence_seconds: float = Field(30.0, gt=0, description="Silence after which a wrapper counts as dead, in seconds.")
    keep_sessions: bool = Field(
        False, description="Leave sessions running when the gateway stops; the next one finds them again."
    )
    max_restarts: int = Field(3, ge=0, description="Failed starts in a row after which a session is `failed`.")

    @field_validator("session_images", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


class LimitSettings(_Section):
    """What one request, session and deployment may take."""

    max_body_bytes: int = Field(48 * 1024 * 1024, gt=0, description="Longest request body, in bytes.")
    max_prompt_bytes: int = Field(32 * 1024 * 1024, gt=0, description="Longest prompt as JSON, in bytes.")
    max_queued_turns: int = Field(20, ge=1, description="Turns that may wait in one session.")
    max_sessions: int = Field(100, ge=1, description="Sessions of one owner that are not deleted.")
    turn_timeout_seconds: int = Field(3600, ge=1, description="Default for a session's `timeout_seconds`.")
    idle_timeout_seconds: int = Field(1800, ge=1, description="Default for a session's `idle_timeout_seconds`.")
    max_event_bytes: int = Field(
        33 * 1024 * 1024, ge=2 * 1024 * 1024, description="Longest outbox entry that is taken, in bytes."
    )
    listener_queue: int = Field(
        1000, ge=10, description="Messages that a slow listener may lag behind, before it is cut."
    )
    websocket_ping_seconds: float = Field(20.0, gt=0, description="Interval of WebSocket pings, in seconds.")
    heartbeat_seconds: float = Field(15.0, gt=0, description="Interval of SSE heartbeats, in seconds.")


def _variable(name: str) -> str:
    """The environment variable of a field, by which an error names it: some have a name of their own."""
    return name if name.isupper() else f"CC_{name.upper()}"


SECTIONS: tuple[type[_Section], ...] = (
    ServerSettings,
    AuthSettings,
    StoreSettings,
    RedisSettings,
    ModelSettings,
    DriverSettings,
    LimitSettings,
)


@dataclass(frozen=True)
class Settings:
    """All settings, one field a subject."""

    server: ServerSettings = field(default_factory=ServerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    driver: DriverSettings = field(default_factory=DriverSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

    @classmethod
    def load(cls) -> "Settings":
        """Read the environment. Raises `StartupError` that names each wrong variable and what was expected."""
        found: dict[str, Any] = {}
        wrong: list[str] = []
        for name, section in zip((one.name for one in fields(cls)), SECTIONS, strict=True):
            try:
                found[name] = section()
            except ValidationError as error:
                wrong += [f"  {_variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors() if e["loc"]]
        if wrong:
            raise StartupError("wrong settings:\n" + "\n".join(wrong), code="bad_settings")
        return cls(**found)

    @property
    def data_dir(self) -> Path:
        return self.server.data_dir.expanduser().absolute()

    @property
    def deployment_id(self) -> str:
        """What tells this deployment's containers and processes from those of any other gateway on the machine."""
        return f"{self.server.deployment}-{hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:8]}"

    def text_logs(self) -> bool:
        return self.server.log_format == "text" or (self.server.log_format == "auto" and sys.stderr.isatty())
