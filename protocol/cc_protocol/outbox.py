"""What a wrapper reports, entry by entry, on the stream `session:{id}:outbox:<incarnation>`.

Numbered entries (`n` = 1, 2, 3 … in an incarnation) are kept by the wrapper until the gateway acknowledges them,
and may come twice; the gateway takes each `n` once and in order. `kind` and `n` stand first in the JSON, so that the
number of an entry can be read even where the rest cannot. A `Beat` has no number: it says that the wrapper
lives and what it believes, which is how a lost command is noticed and sent again.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from cc_protocol.events import AgentBody, Count, Dollars, EventId, Message, ModelUsage, TurnError, Word

EntryNumber = Annotated[int, Field(ge=1, le=2**62, strict=True)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(_Entry):
    """One event as the wrapper minted it: its id and its body."""

    id: EventId
    body: AgentBody


class Lines(_Entry):
    """What one line of the CLI meant: no, one or several events, and the line itself."""

    kind: Literal["lines"] = "lines"
    n: EntryNumber
    turn_id: str | None = None
    claims: list[Claim]
    raw: str | None = None


class Ready(_Entry):
    """`claude` runs and takes prompts; its MCP servers are connected or have failed."""

    kind: Literal["ready"] = "ready"
    n: EntryNumber
    cli_version: Word
    resumed: bool


class TurnEnd(_Entry):
    """How a turn ended, as the CLI's `result` (or its death) says."""

    kind: Literal["turn_end"] = "turn_end"
    n: EntryNumber
    turn_id: str
    outcome: Literal["completed", "failed", "interrupted"]
    result: str | None = None
    stop_reason: Word | None = None
    detail: Word | None = None
    usage: ModelUsage | None = None
    cost_usd: Dollars | None = None
    duration_ms: Count | None = None
    num_turns: Count | None = None
    error: TurnError | None = None


class Fatal(_Entry):
    """The wrapper cannot go on, and why. It ends after this."""

    kind: Literal["fatal"] = "fatal"
    n: EntryNumber
    code: Word
    message: Message


class Beat(_Entry):
    """The wrapper lives: once every few seconds, never kept."""

    kind: Literal["beat"] = "beat"
    ready: bool
    turn_id: str | None = Field(None, description="The turn in work.")
    last_turn_id: str | None = Field(None, description="The turn that ended last.")
    pending: list[str] = Field(default_factory=list, max_length=100, description="Turns taken that have not begun.")
    unacknowledged: Count = 0


Entry = Annotated[Lines | Ready | TurnEnd | Fatal | Beat, Field(discriminator="kind")]
ENTRY: Final[TypeAdapter[Any]] = TypeAdapter(Entry)
