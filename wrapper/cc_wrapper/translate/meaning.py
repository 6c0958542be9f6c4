"""What a line of the CLI means: events, previews, and what it says about the run (values only)."""

from dataclasses import dataclass, field

from cc_protocol.events import EventDelta, EventStart, ModelUsage
from cc_protocol.outbox import Claim


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed."""

    type: str
    message: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """A `result` line. What it says decides how a turn ended."""

    is_error: bool
    aborted: bool = False
    result: str | None = None
    stop_reason: str | None = None
    detail: str | None = None
    usage: ModelUsage | None = None
    cost_usd: float | None = None
    duration_ms: int | None = None
    num_turns: int | None = None
    error: RunError | None = None
    prompts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StateChange:
    """`session_state_changed`: whether `claude` is at rest."""

    idle: bool


@dataclass(frozen=True, slots=True)
class PromptState:
    """`command_lifecycle`: how far the prompt with this uuid has come."""

    uuid: str
    state: str

    @property
    def over(self) -> bool:
        return self.state in {"completed", "cancelled", "discarded", "refused"}


Signal = RunResult | StateChange | PromptState


@dataclass(frozen=True, slots=True)
class Meaning:
    """All that one line means; nothing at all for a line that is the wrapper's own business."""

    claims: list[Claim] = field(default_factory=list)
    previews: list[EventStart | EventDelta] = field(default_factory=list)
    signal: Signal | None = None
