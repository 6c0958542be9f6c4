"""What goes in and out of the API, as JSON. Requests refuse unknown fields."""

from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from cc_gateway.models import Session, SessionConfig, SessionStatus, Turn, TurnStatus, Workspace
from cc_protocol.events import Envelope, ModelUsage, TurnError
from cc_protocol.launch import PermissionMode


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """JSON that can be kept and given back: no lone surrogates, no integers beyond 64 bits, not too much."""
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:
        raise ValueError(f"cannot be kept: {error}") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"has {size} bytes as JSON; {MAX_METADATA_BYTES} are allowed")
    return value


MAX_METADATA_BYTES = 64 * 1024
Label = Annotated[str, Field(min_length=1, max_length=64)]
Metadata = Annotated[dict[Label, JsonValue], Field(max_length=64), AfterValidator(_storable)]
Title = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


# ---------------------------------------------------------------- content of a prompt


class TextBlock(_Request):
    type: Literal["text"]
    text: str = Field(min_length=1)


class Base64Image(_Request):
    type: Literal["base64"]
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
    data: str = Field(min_length=1, pattern=r"^[A-Za-z0-9+/]+={0,2}$")


class ImageBlock(_Request):
    type: Literal["image"]
    source: Base64Image


class Base64Document(_Request):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: str = Field(min_length=1, pattern=r"^[A-Za-z0-9+/]+={0,2}$")


class TextDocument(_Request):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str = Field(min_length=1)


class DocumentBlock(_Request):
    type: Literal["document"]
    source: Annotated[Base64Document | TextDocument, Field(discriminator="type")]
    title: str | None = Field(None, max_length=500)
    context: str | None = Field(None, max_length=10_000)


ContentBlock = Annotated[TextBlock | ImageBlock | DocumentBlock, Field(discriminator="type")]


class Prompt(_Request):
    """A prompt: a text, or blocks of text, images and documents."""

    prompt: str | None = Field(None, min_length=1, description="The prompt as text. Slash commands work too.")
    content: list[ContentBlock] | None = Field(None, min_length=1, max_length=100, description="The prompt as blocks.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "Prompt":
        if (self.prompt is None) == (self.content is None):
            raise ValueError("give either `prompt` or `content`")
        return self

    def blocks(self) -> list[dict[str, Any]]:
        if self.content is not None:
            return [block.model_dump(exclude_none=True) for block in self.content]
        return [{"type": "text", "text": self.prompt}]


# ---------------------------------------------------------------- requests


class CreateSession(_Request):
    """A new session. Everything is optional; with `prompt` its first turn is queued at once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "list the files here and say hello"},
                {
                    "title": "Nightly review",
                    "workspace": {"type": "persistent", "id": "my-repo"},
                    "config": {"model": "claude-sonnet-5", "append_system_prompt": "Answer in French."},
                    "metadata": {"team": "infra"},
                },
            ]
        },
    )

    workspace: Workspace = Field(default_factory=Workspace)
    config: SessionConfig = Field(default_factory=SessionConfig)
    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict)
    prompt: str | None = Field(None, min_length=1)


class UpdateSession(_Request):
    """Absent means keep. `metadata` merges by key, and null takes a key away; a null `title` clears it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"title": "Renamed", "metadata": {"team": None}}]}
    )

    title: Title | None = None
    metadata: Metadata | None = None
    model: str | None = Field(None, min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:/@\[\]-]+$")
    permission_mode: PermissionMode | None = None


class Chat(Prompt):
    """A prompt and how to wait for its answer."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "list the files here and say hello"},
                {"content": [{"type": "text", "text": "What is this?"}], "stream": True},
            ]
        },
    )

    stream: bool = Field(False, description="Do not wait: answer 202 with the turn's id, and follow the events.")
    timeout_seconds: float | None = Field(
        None, gt=0, le=86_400, description="Longest wait. The turn goes on after it; the answer is then 202."
    )


class Interrupt(_Request):
    turn_id: str | None = Field(None, description="The turn that is meant. Default: the one that runs.")


# ---------------------------------------------------------------- answers


class SessionOut(BaseModel):
    """A session as it is now."""

    session_id: str
    status: SessionStatus
    reason: str | None = Field(description="Why it is `failed` or `stopped`.")
    container_id: str | None = Field(description="The driver's handle of the place where it runs; null while starting.")
    title: str | None
    metadata: dict[str, JsonValue]
    workspace: Workspace
    config: SessionConfig
    created_at: datetime
    updated_at: datetime
    incarnation: int = Field(description="How many times it has been started.")
    websocket_url: str
    events_url: str
    turn_id: str | None = Field(None, description="The first turn, where the session was made with a prompt.")

    @classmethod
    def of(cls, session: Session, base_url: str, *, turn_id: str | None = None) -> "SessionOut":
        path = f"{base_url}/api/v1/sessions/{session.id}"
        return cls(
            session_id=session.id,
            status=session.status,
            reason=session.reason,
            container_id=session.handle,
            title=session.title,
            metadata=session.metadata,
            workspace=session.workspace,
            config=session.config,
            created_at=session.created_at,
            updated_at=session.updated_at,
            incarnation=session.incarnation,
            websocket_url=path.replace("http", "ws", 1) + "/stream",
            events_url=path + "/events",
            turn_id=turn_id,
        )


class TurnOut(BaseModel):
    """A turn. What follows `attempt` is there once it has ended."""

    turn_id: str
    session_id: str
    number: int
    status: TurnStatus
    content: list[dict[str, JsonValue]]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempt: int = Field(description="How many times it was handed to the agent; 0 while queued.")
    result: str | None = Field(None, description="The agent's final answer.")
    stop_reason: str | None = None
    reason: str | None = Field(None, description="Why it was interrupted or canceled.")
    usage: ModelUsage | None = None
    cost_usd: float | None = None
    duration_ms: int | None = None
    num_turns: int | None = None
    error: TurnError | None = Field(None, description="Why it failed.")

    @classmethod
    def of(cls, turn: Turn) -> "TurnOut":
        return cls(
            turn_id=turn.id,
            session_id=turn.session_id,
            number=turn.number,
            status=turn.status,
            content=turn.content,
            created_at=turn.created_at,
            started_at=turn.started_at,
            ended_at=turn.ended_at,
            attempt=turn.attempt,
            **{key: value for key, value in turn.outcome.items() if key in cls.model_fields},
        )


class SessionList(BaseModel):
    data: list[SessionOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last.")


class TurnList(BaseModel):
    data: list[TurnOut]
    next_cursor: str | None


class Message(BaseModel):
    """One step of the conversation as a person reads it."""

    id: str
    seq: int
    turn_id: str | None
    at: datetime
    role: Literal["user", "assistant", "tool", "system"]
    kind: Literal["text", "thinking", "tool_use", "tool_result", "error", "notice"]
    content: list[dict[str, JsonValue]]
    name: str | None = Field(None, description="The tool's name.")
    tool_use_id: str | None = Field(None, description="The call that this result answers.")
    is_error: bool = False


class MessageList(BaseModel):
    data: list[Message]
    next_cursor: str | None


class EventOut(Envelope):
    """A recorded event: the envelope, and beside it the fields of its type (`docs/events.md`)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "v": 1,
                    "id": "sevt_01k9x8h2m4n6p8q0r2s4t6v8w0",
                    "seq": 7,
                    "session_id": "sesn_01k9x8h2m4n6p8q0r2s4t6v8w0",
                    "turn_id": "turn_01k9x8h2m4n6p8q0r2s4t6v8w0",
                    "processed_at": "2026-11-21T10:00:00.000000Z",
                    "source": "agent",
                    "type": "agent.message",
                    "content": [{"type": "text", "text": "hello"}],
                }
            ]
        },
    )


class EventList(BaseModel):
    data: list[EventOut]
    last_seq: int = Field(description="Number of the newest event of the session.")
    next_after: int | None = Field(description="Give it as `after` (or `before`, newest first) for the next page.")


class InterruptOut(BaseModel):
    turn_id: str | None = Field(description="The turn that was asked to end; null where none was.")


class ErrorBody(BaseModel):
    code: str
    message: str
    details: dict[str, Any]


class ErrorOut(BaseModel):
    """Every error of this API."""

    error: ErrorBody
    request_id: str


class Health(BaseModel):
    status: Literal["ok", "degraded"]
    version: str
    checks: dict[str, str] = Field(default_factory=dict, description="`ok`, or what is wrong, part by part.")
