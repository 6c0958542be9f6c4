"""What the API answers, as JSON."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cc_gateway.api import examples
from cc_gateway.models import Session, SessionConfig, SessionStatus, Turn, TurnStatus, Workspace
from cc_protocol.events import Envelope, ModelUsage, TurnError


class SessionOut(BaseModel):
    """A session as it is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SESSION]})

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

    model_config = ConfigDict(json_schema_extra={"examples": [examples.TURN]})

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

    model_config = ConfigDict(json_schema_extra={"examples": [examples.MESSAGE]})

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
        json_schema_extra={"examples": [examples.EVENT]},
    )


class EventList(BaseModel):
    data: list[EventOut]
    last_seq: int = Field(description="Number of the newest event of the session.")
    next_after: int | None = Field(description="Give it as `after` (or `before`, newest first) for the next page.")


class InterruptOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"turn_id": examples.TURN_ID}]})

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
