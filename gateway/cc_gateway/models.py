"""The nouns of the gateway: sessions, turns, recorded events, and who asks."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cc_protocol.events import Source
from cc_protocol.launch import McpServer, PermissionMode, Skill


def now() -> datetime:
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class SessionStatus(StrEnum):
    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    ASLEEP = "asleep"
    STOPPED = "stopped"
    FAILED = "failed"


LIVE: Final = frozenset({SessionStatus.STARTING, SessionStatus.IDLE, SessionStatus.RUNNING, SessionStatus.WAITING})
"""The states in which a session has, or is getting, an incarnation."""


class TurnStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELED = "canceled"


ENDED: Final = frozenset({TurnStatus.COMPLETED, TurnStatus.FAILED, TurnStatus.INTERRUPTED, TurnStatus.CANCELED})

SkillName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
ToolRule = Annotated[str, Field(min_length=1, max_length=1000)]
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


NOT_BUILT_YET: Final = {
    "budget_usd": "budgets",
    "children": "child sessions",
    "models": "model allow-lists",
    "network": "network policies",
    "secrets": "secrets",
}
"""Fields of a session's config that are planned: named here, so that nobody believes that they have an effect."""

OWN_VARIABLES: Final = re.compile(
    r"^(CC_.*|ANTHROPIC_(BASE_URL|API_KEY|AUTH_TOKEN|CUSTOM_HEADERS|UNIX_SOCKET)|CLAUDE_CONFIG_DIR|CLAUDE_CODE_OAUTH_TOKEN"
    r"|CLAUDE_CODE_USE_.*|CLAUDECODE|HOME|LD_.*|DYLD_.*|NODE_OPTIONS|BUN_.*|IS_SANDBOX)$"
)
"""Environment that the wrapper owns: it decides where the model is and who asks."""


def not_built_yet(values: Any) -> Any:
    """Refuse planned fields and values by name (before validation)."""
    if isinstance(values, dict):
        for field in NOT_BUILT_YET.keys() & values.keys():
            raise PydanticCustomError(
                "not_supported_yet",
                "{feature} (`{field}`) are not built yet in this version",
                {"field": field, "feature": NOT_BUILT_YET[field]},
            )
        if values.get("permission_mode") == "ask":
            raise PydanticCustomError(
                "not_supported_yet", "`permission_mode: ask` is not built yet in this version", {}
            )
    return values


class SessionConfig(BaseModel):
    """How the agent of a session is set up. Everything is optional."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:/@\[\]-]+$")
    system_prompt: str | None = Field(None, max_length=200_000, description="Replaces Claude Code's own system prompt.")
    append_system_prompt: str | None = Field(None, max_length=200_000, description="Stands after the system prompt.")
    allowed_tools: list[ToolRule] | None = Field(
        None, max_length=200, description="Tools that need no permission, such as `Read` or `Bash(git *)`."
    )
    disallowed_tools: list[ToolRule] = Field(
        default_factory=list, max_length=200, description="Tools that are refused."
    )
    permission_mode: PermissionMode | None = Field(
        None, description="Default: the most that the driver's isolation allows."
    )
    mcp_servers: dict[ServerName, McpServer] = Field(default_factory=dict, max_length=50)
    env: dict[EnvName, Annotated[str, Field(max_length=32_768, pattern=r"^[^\x00]*$")]] = Field(
        default_factory=dict, max_length=200, description="Environment of the agent's tools. Not for secrets."
    )
    skills: list[SkillName | Skill] = Field(
        default_factory=list, max_length=50, description="Skills by name (of the operator's folder) or by text."
    )
    timeout_seconds: int | None = Field(None, ge=1, le=86_400, description="Longest turn; then it is interrupted.")
    idle_timeout_seconds: int | None = Field(
        None, ge=1, le=604_800, description="Rest after which the session falls asleep."
    )
    max_turns: int | None = Field(None, ge=1, le=10_000, description="Model requests that one turn may take.")
    setup: str | None = Field(
        None,
        min_length=1,
        max_length=65_536,
        pattern=r"^[^\x00]*$",
        description="Text of a shell script (bash) that runs in the workspace whenever the session gets a place to run, before"
        " the agent starts. The session fails where it does not end with 0.",
    )
    image: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$",
        description="Container image of the session, one of those that the operator allows. Default: the deployment's.",
    )

    _planned = model_validator(mode="before")(staticmethod(not_built_yet))

    @field_validator("env")
    @classmethod
    def _not_our_own(cls, env: dict[str, str]) -> dict[str, str]:
        if taken := sorted(name for name in env if OWN_VARIABLES.match(name)):
            raise ValueError(f"{', '.join(taken)}: set by CC-Docker itself; choose other names")
        return env


class Workspace(BaseModel):
    """Where a session's files live: `ephemeral` and `git` go with the session, `persistent` is kept under its `id`.

    `git` begins with a clone of `git_repo`, the others with nothing.
    """

    model_config = ConfigDict(extra="forbid")

    type: Literal["ephemeral", "persistent", "git"] = "ephemeral"
    id: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Name of a persistent workspace.")
    git_repo: str | None = Field(
        None,
        max_length=2048,
        pattern=r"^https?://[^\s/?#@]+/[^\s?#]*$",
        description="Address of a repository, without password.",
    )
    git_branch: str | None = Field(
        None,
        max_length=255,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/+#-]*$",
        description="Branch or tag. Default: the repository's own.",
    )

    @model_validator(mode="before")
    @classmethod
    def _planned(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("type") in ("inherit", "clone"):
            raise PydanticCustomError(
                "not_supported_yet", "`{type}` workspaces are not built yet in this version", {"type": values["type"]}
            )
        return values

    @model_validator(mode="after")
    def _id_where_it_means_something(self) -> "Workspace":
        if (self.type == "persistent") != (self.id is not None):
            raise ValueError("a persistent workspace needs an `id`, others have none")
        if (self.type == "git") != (self.git_repo is not None):
            raise ValueError("a git workspace needs a `git_repo`, others have none")
        if self.git_branch is not None and self.git_repo is None:
            raise ValueError("`git_branch` needs a `git_repo`")
        return self


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation with its workspace, owner and settings."""

    id: str
    owner: str
    status: SessionStatus
    reason: str | None
    title: str | None
    metadata: dict[str, JsonValue]
    config: SessionConfig
    workspace: Workspace
    created_at: datetime
    updated_at: datetime
    stop_requested: bool
    deleted_at: datetime | None
    incarnation: int
    incarnation_started_at: datetime | None
    handle: str | None
    ready: bool
    failed_starts: int
    idle_since: datetime | None
    redis_hash: str | None


@dataclass(frozen=True, slots=True)
class TurnState:
    """How far a turn is. What was asked and answered may be many megabytes, and stays in the database."""

    id: str
    session_id: str
    number: int
    status: TurnStatus
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    incarnation: int | None
    attempt: int
    model_requested: bool
    interrupt_reason: str | None
    interrupted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Turn(TurnState):
    """One prompt and all that follows to its end."""

    content: list[dict[str, JsonValue]]
    outcome: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One line of the record. `data` is the body's fields as JSON text, kept as it came."""

    session_id: str
    seq: int
    id: str
    turn_id: str | None
    type: str
    source: Source
    processed_at: datetime
    data: bytes
    raw: str | None = None

    def to_json(self, *, raw: bool = False) -> bytes:
        """The event as clients see it: envelope and body, flat. The body's bytes are passed on, not parsed."""
        envelope: dict[str, Any] = {
            "v": 1,
            "id": self.id,
            "seq": self.seq,
            "session_id": self.session_id,
            "turn_id": self.turn_id,
            "processed_at": rfc3339(self.processed_at),
            "source": self.source.value,
            "type": self.type,
        }
        if raw:
            envelope["raw"] = self.raw
        head = orjson.dumps(envelope)
        return head if self.data == b"{}" else head[:-1] + b"," + self.data[1:]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the subject of a valid user token."""

    subject: str
    token_id: str
