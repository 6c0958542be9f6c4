"""The events of a session: its facts, in the vocabulary of Anthropic's Managed Agents API.

Types and fields of that API keep its names and shapes (source: the events of the Python SDK `anthropic` 2.11.0,
beta `managed-agents-2026-04-01`). What we know beyond it stands beside as fields of our own, and only where it has
no word at all is a type ours (`turn.*`, `child.*`, `interaction.*`, some `session.status_*`, `session.setup_*`,
`cli.event`).

An event is a *body* (its type and fields, as one of the classes below) in an *envelope* (`Envelope`), flat in one
JSON object. The wrapper mints bodies and their ids; the gateway alone numbers them and so makes them a record.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from cc_protocol.ids import ID_PATTERN

VERSION: Final = 1

Content = list[dict[str, JsonValue]]
Count = Annotated[int, Field(ge=0, le=2**53)]
Dollars = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Word = Annotated[str, Field(max_length=256)]
Message = Annotated[str, Field(max_length=100_000)]
"""What comes from a container is bounded in every field: a number that no database holds would stop its relay."""

EventId = Annotated[str, Field(pattern=ID_PATTERN)]


class Source(StrEnum):
    """Who says so. What comes out of a container is a claim, and can never pass for the gateway's word."""

    GATEWAY = "gateway"
    AGENT = "agent"


class Envelope(BaseModel):
    """What stands around every recorded event."""

    v: Literal[1] = Field(VERSION, description="Version of this envelope.")
    id: str = Field(description="Identity of the event; a tool call is referred to by it.")
    seq: int = Field(ge=1, description="Number in the session, from 1, without gaps: the cursor everywhere.")
    session_id: str
    turn_id: str | None = Field(description="The turn that it belongs to, where there is one.")
    processed_at: datetime = Field(description="When the gateway recorded it (UTC).")
    source: Source
    type: str


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------- what the user says


class UserMessage(Body):
    type: Literal["user.message"] = "user.message"
    content: Content


class UserInterrupt(Body):
    type: Literal["user.interrupt"] = "user.interrupt"
    reason: str = "user"


# ---------------------------------------------------------------- what the agent says and does


class AgentMessage(Body):
    type: Literal["agent.message"] = "agent.message"
    content: Content
    model: str | None = None
    parent_tool_use_id: str | None = Field(None, description="The tool call whose sub-agent says this.")


class AgentThinking(Body):
    type: Literal["agent.thinking"] = "agent.thinking"
    thinking: str = ""
    parent_tool_use_id: str | None = None


class AgentToolUse(Body):
    type: Literal["agent.tool_use"] = "agent.tool_use"
    name: str
    input: dict[str, JsonValue]
    cli_tool_use_id: str = Field(description="The model's own id of the call (`toolu_…`).")
    parent_tool_use_id: str | None = None


class AgentMcpToolUse(Body):
    type: Literal["agent.mcp_tool_use"] = "agent.mcp_tool_use"
    mcp_server_name: str
    name: str
    input: dict[str, JsonValue]
    cli_tool_use_id: str
    parent_tool_use_id: str | None = None


class AgentToolResult(Body):
    type: Literal["agent.tool_result"] = "agent.tool_result"
    tool_use_id: str = Field(description="Event id of the `agent.tool_use` that it answers.")
    content: Content
    is_error: bool = False
    cli_tool_use_id: str
    parent_tool_use_id: str | None = None


class AgentMcpToolResult(Body):
    type: Literal["agent.mcp_tool_result"] = "agent.mcp_tool_result"
    mcp_tool_use_id: str = Field(description="Event id of the `agent.mcp_tool_use` that it answers.")
    content: Content
    is_error: bool = False
    cli_tool_use_id: str
    parent_tool_use_id: str | None = None


class ContextCompacted(Body):
    type: Literal["agent.thread_context_compacted"] = "agent.thread_context_compacted"
    trigger: Word | None = None
    pre_tokens: Count | None = None
    post_tokens: Count | None = None


# ---------------------------------------------------------------- model requests, usage, errors


class ModelUsage(Body):
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_creation_input_tokens: Count = 0
    cache_read_input_tokens: Count = 0


class ModelRequestStart(Body):
    type: Literal["span.model_request_start"] = "span.model_request_start"
    model: str | None = None
    parent_tool_use_id: str | None = None


class ModelRequestEnd(Body):
    type: Literal["span.model_request_end"] = "span.model_request_end"
    model_request_start_id: str
    is_error: bool = False
    model_usage: ModelUsage
    stop_reason: Word | None = None


class ContextFill(Body):
    """How full the model's context was at the last request of a turn."""

    used_tokens: Count
    max_tokens: Count | None = None


class SessionUsage(Body):
    """What one run of the agent used. Tokens and cost are of that run, not of the whole session."""

    type: Literal["session.usage"] = "session.usage"
    usage: ModelUsage
    cost_usd: Dollars | None = Field(None, description="As the CLI reckons it, in US dollars.")
    context: ContextFill | None = None


class RetryStatus(Body):
    type: Literal["retrying", "exhausted", "terminal"]


class ErrorDetail(Body):
    type: Word
    message: Message
    retry_status: RetryStatus
    mcp_server_name: Word | None = None
    http_status: Count | None = None
    attempt: Count | None = None
    max_retries: Count | None = None
    retry_delay_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class SessionError(Body):
    type: Literal["session.error"] = "session.error"
    error: ErrorDetail


class SetupOutput(Body):
    """A piece of what the setup script writes, stdout and stderr in one. One piece after another, they are the whole."""

    type: Literal["session.setup_output"] = "session.setup_output"
    text: Message


class SetupCompleted(Body):
    """The setup script has ended."""

    type: Literal["session.setup_completed"] = "session.setup_completed"
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = Field(
        None, description="All but 0 fail the session. Absent where a signal or the time limit ended it."
    )
    duration_ms: Count


class CliEvent(Body):
    """A line of the CLI that has no meaning of its own here. Nothing that it says is dropped."""

    type: Literal["cli.event"] = "cli.event"
    name: str = Field(description="The line's `type`, and its `subtype` after a slash.")
    line: JsonValue


# ---------------------------------------------------------------- turns (the gateway's word)


class TurnQueued(Body):
    type: Literal["turn.queued"] = "turn.queued"


class TurnStarted(Body):
    type: Literal["turn.started"] = "turn.started"
    incarnation: int
    attempt: int = 1


class TurnError(Body):
    type: Word
    message: Message
    http_status: Count | None = None


class TurnCompleted(Body):
    type: Literal["turn.completed"] = "turn.completed"
    result: str | None = None
    stop_reason: Word | None = None
    usage: ModelUsage | None = None
    cost_usd: Dollars | None = None
    duration_ms: Count | None = None
    num_turns: Count | None = None


class TurnFailed(TurnCompleted):
    type: Literal["turn.failed"] = "turn.failed"  # type: ignore[assignment]
    error: TurnError


class TurnInterrupted(TurnCompleted):
    type: Literal["turn.interrupted"] = "turn.interrupted"  # type: ignore[assignment]
    reason: str


class TurnCanceled(Body):
    type: Literal["turn.canceled"] = "turn.canceled"
    reason: str = "user"


# ---------------------------------------------------------------- the session's status (the gateway's word)


class StatusStarting(Body):
    type: Literal["session.status_starting"] = "session.status_starting"
    incarnation: int


class StatusRunning(Body):
    type: Literal["session.status_running"] = "session.status_running"


class StopReason(Body):
    """Why the agent rests: their `type`, our `detail` (`interrupted`, `max_turns`, …)."""

    type: Literal["end_turn", "requires_action", "retries_exhausted", "budget_reached", "refusal"]
    detail: str | None = None
    event_ids: list[str] | None = None


class StatusIdle(Body):
    type: Literal["session.status_idle"] = "session.status_idle"
    stop_reason: StopReason


class StatusWaiting(Body):
    type: Literal["session.status_waiting"] = "session.status_waiting"


class StatusAsleep(Body):
    type: Literal["session.status_asleep"] = "session.status_asleep"


class StatusStopped(Body):
    type: Literal["session.status_stopped"] = "session.status_stopped"
    reason: str = "user"


class StatusFailed(Body):
    type: Literal["session.status_failed"] = "session.status_failed"
    reason: str


class StatusTerminated(Body):
    type: Literal["session.status_terminated"] = "session.status_terminated"


class SessionUpdated(Body):
    """The fields of the session that a PATCH changed."""

    type: Literal["session.updated"] = "session.updated"
    title: str | None = None
    metadata: dict[str, JsonValue] | None = None
    model: str | None = None
    permission_mode: str | None = None


AgentBody = Annotated[
    AgentMessage
    | AgentThinking
    | AgentToolUse
    | AgentMcpToolUse
    | AgentToolResult
    | AgentMcpToolResult
    | ContextCompacted
    | ModelRequestStart
    | ModelRequestEnd
    | SessionUsage
    | SessionError
    | SetupOutput
    | SetupCompleted
    | CliEvent,
    Field(discriminator="type"),
]
"""What a container may claim."""

GatewayBody = Annotated[
    UserMessage
    | UserInterrupt
    | TurnQueued
    | TurnStarted
    | TurnCompleted
    | TurnFailed
    | TurnInterrupted
    | TurnCanceled
    | StatusStarting
    | StatusRunning
    | StatusIdle
    | StatusWaiting
    | StatusAsleep
    | StatusStopped
    | StatusFailed
    | StatusTerminated
    | SessionUpdated
    | SessionError,
    Field(discriminator="type"),
]
"""What only the gateway says."""

AGENT_BODY: Final[TypeAdapter[Any]] = TypeAdapter(AgentBody)
GATEWAY_BODY: Final[TypeAdapter[Any]] = TypeAdapter(GatewayBody)


# ---------------------------------------------------------------- previews: never recorded, never numbered


class PreviewTarget(Body):
    type: str
    id: str
    name: str | None = None


class EventStart(Body):
    """An event with this id is on its way."""

    type: Literal["event_start"] = "event_start"
    event: PreviewTarget


class ContentDelta(Body):
    type: Literal["content_delta"] = "content_delta"
    index: int = 0
    content: dict[str, JsonValue]


class EventDelta(Body):
    """The next piece of an announced event. The pieces form a prefix of the final event, which alone counts."""

    type: Literal["event_delta"] = "event_delta"
    event_id: str
    delta: ContentDelta


Preview = Annotated[EventStart | EventDelta, Field(discriminator="type")]
PREVIEW: Final[TypeAdapter[EventStart | EventDelta]] = TypeAdapter(Preview)
