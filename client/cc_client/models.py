"""What the gateway answers, as the client sees it. Fields that a newer gateway adds are ignored, not refused."""

from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cc_protocol.events import ModelUsage, TurnError

TURN_ENDS: Final = frozenset({"completed", "failed", "interrupted", "canceled"})
"""The statuses in which a turn has ended for good."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Session(_Answer):
    """A session as it was when the gateway answered."""

    session_id: str
    status: str
    reason: str | None = None
    container_id: str | None = None
    title: str | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    workspace: dict[str, JsonValue] = Field(default_factory=dict)
    config: dict[str, JsonValue] = Field(default_factory=dict)
    created_at: datetime
    updated_at: datetime
    incarnation: int = 0
    websocket_url: str = ""
    events_url: str = ""
    turn_id: str | None = None
    """The first turn, where the session was made with a prompt."""


class Turn(_Answer):
    """A turn. From `result` on, the fields are there once it has ended."""

    turn_id: str
    session_id: str
    number: int = 0
    status: str
    content: list[dict[str, JsonValue]] = Field(default_factory=list)
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempt: int = 0
    result: str | None = None
    stop_reason: str | None = None
    reason: str | None = None
    usage: ModelUsage | None = None
    cost_usd: float | None = None
    duration_ms: int | None = None
    num_turns: int | None = None
    error: TurnError | None = None

    @property
    def ended(self) -> bool:
        return self.status in TURN_ENDS


class Message(_Answer):
    """One step of the conversation as a person reads it."""

    id: str
    seq: int
    turn_id: str | None = None
    at: datetime
    role: str
    kind: str
    content: list[dict[str, JsonValue]] = Field(default_factory=list)
    name: str | None = None
    tool_use_id: str | None = None
    is_error: bool = False


class Event(_Answer):
    """A recorded event: its envelope, and all of it in `data` (the JSON object as the gateway sent it)."""

    id: str
    seq: int
    session_id: str
    turn_id: str | None = None
    processed_at: datetime
    source: str
    type: str
    data: dict[str, Any]

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Event":
        return cls.model_validate({**data, "data": data})


class Preview(_Answer):
    """A glimpse of an event that is on its way (`event_start`, `event_delta`): never recorded, may be missing."""

    type: str
    session_id: str | None = None
    turn_id: str | None = None
    data: dict[str, Any]

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Preview":
        return cls.model_validate({**data, "data": data})


Item = TypeVar("Item")


class Page(_Answer, Generic[Item]):
    """One page of a list. Give `next_cursor` as `cursor` for the next; None on the last."""

    data: list[Item]
    next_cursor: str | None = None


class EventPage(_Answer):
    """One page of the record. Give `next_after` as `after` for the next; None on the last."""

    data: list[Event]
    last_seq: int
    next_after: int | None = None

    @classmethod
    def of(cls, answer: dict[str, Any]) -> "EventPage":
        return cls.model_validate({**answer, "data": [Event.of(item) for item in answer.get("data", [])]})


class Accepted(_Answer):
    """What an interrupt hit: the turn that was running, or None."""

    turn_id: str | None = None


class GatewayFile(_Answer):
    """`gateway.json`, which a running gateway keeps in its data folder."""

    url: str
    pid: int
    host: str | None = None
    token: str
    version: str = ""
    model: str | None = None
    scripted: bool | None = None
    driver: str | None = None
    isolated: bool | None = None
