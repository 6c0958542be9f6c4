"""The two files from which a wrapper learns who it is, in its read-only run folder.

`session.json` says what to run and holds no secret. `secrets.json` (mode 0400) holds what is good for this session and
incarnation alone: its token and its Redis password. Neither reaches the environment, which `inspect` shows and
every tool inherits.

    run/
      session.json   Launch
      secrets.json   Secrets
      gateway.sock   the gateway's internal listener (model proxy)
      redis.sock     Redis, as one ACL user that sees this session's keys alone
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SESSION_FILE: Final = "session.json"
SECRETS_FILE: Final = "secrets.json"
GATEWAY_SOCKET: Final = "gateway.sock"
REDIS_SOCKET: Final = "redis.sock"
RUN_DIR_ENV: Final = "CC_RUN_DIR"
"""The one variable that a driver sets for a wrapper."""

PermissionMode = Literal["default", "acceptEdits", "plan", "dontAsk", "bypassPermissions"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StdioServer(_Model):
    """An MCP server that is started as a process beside the agent."""

    type: Literal["stdio"] = "stdio"
    command: str = Field(min_length=1, max_length=4096)
    args: list[str] = Field(default_factory=list, max_length=256)
    env: dict[str, str] = Field(default_factory=dict)
    timeout: int | None = Field(None, ge=1, description="Longest tool call, in milliseconds.")


class HttpServer(_Model):
    """An MCP server that is reached over HTTP."""

    type: Literal["http", "sse"]
    url: str = Field(pattern=r"^https?://", max_length=4096)
    headers: dict[str, str] = Field(default_factory=dict)
    timeout: int | None = Field(None, ge=1, description="Longest tool call, in milliseconds.")


def _with_type(value: Any) -> Any:
    """Claude Code's own `.mcp.json` may leave the type out."""
    if isinstance(value, dict) and "type" not in value:
        return {**value, "type": "stdio" if "command" in value else "http"}
    return value


McpServer = Annotated[
    Annotated[StdioServer | HttpServer, Field(discriminator="type")],
    BeforeValidator(_with_type),
]


class Skill(_Model):
    """A skill, by the text of its SKILL.md."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    content: str = Field(min_length=1, max_length=256_000)


class Launch(_Model):
    """What one incarnation of a session runs. Paths are as the wrapper sees them."""

    session_id: str
    incarnation: int
    workspace: str
    claude_dir: str = Field(description="CLAUDE_CONFIG_DIR: the transcript lives here and outlives the incarnation.")
    claude_binary: str
    claude_version: str = Field(description="The pinned version; another one is refused.")
    driver: str
    model: str | None = None
    system_prompt: str | None = None
    append_system_prompt: str | None = None
    allowed_tools: list[str] | None = None
    disallowed_tools: list[str] = Field(default_factory=list)
    permission_mode: PermissionMode = "default"
    allow_bypass: bool = Field(False, description="Whether permissions may be skipped at all here.")
    max_turns: int | None = None
    mcp_servers: dict[str, McpServer] = Field(default_factory=dict)
    env: dict[str, str] = Field(default_factory=dict)
    skills: list[Skill] = Field(default_factory=list)
    setup: str | None = Field(None, description="Text of a shell script that runs before `claude` is started.")
    setup_seconds: float = 600.0
    beat_seconds: float = 2.0
    mcp_connect_seconds: float = 30.0
    max_line_bytes: int = 32 * 1024 * 1024


class Secrets(_Model):
    """What this incarnation may show to the gateway and to Redis."""

    token: str
    redis_username: str
    redis_password: str
