"""One prompt from its start to its end (pure).

A turn is over when `claude` is at rest again after it took the prompt up: several results may come before. The last
result decides how it ended, also where an interrupt was accepted. A `claude` that tells nothing of prompts and
states (another version) is taken at its first result.
"""

from typing import Final, Literal

from cc_protocol.events import ModelUsage, TurnError
from cc_protocol.outbox import TurnEnd
from cc_wrapper.translate.meaning import PromptState, RunError, RunResult, Signal, StateChange

NO_RESULT: Final = RunError("cli_no_result", "claude came to rest without a result.")

_MOST: Final = 2**53
"""The protocol's bound of a count; only nonsense reaches it."""


class Turn:
    def __init__(self, turn_id: str, uuid: str, *, tells_prompts: bool = False) -> None:
        """`tells_prompts`: this `claude` says when it takes a prompt up; until then no result can be this turn's."""
        self.turn_id = turn_id
        self.uuid = uuid
        self.interrupted_by: str | None = None
        self._results: list[RunResult] = []
        self._tells_prompts = tells_prompts
        self._prompt_state: PromptState | None = None
        self._tells_states = False
        self._idle = False
        self._over = False

    @property
    def over(self) -> bool:
        return self._over

    @property
    def has_result(self) -> bool:
        return bool(self._results)

    def note(self, signal: Signal) -> None:
        """Take in what a line said about the run."""
        match signal:
            case PromptState(uuid=self.uuid):
                self._prompt_state = signal
            case StateChange():
                self._tells_states, self._idle = True, signal.idle
                self._over = signal.idle and self._answered
            case RunResult() if self._is_ours(signal):
                self._results.append(signal)

    @property
    def _answered(self) -> bool:
        return self.has_result if self._prompt_state is None else self._prompt_state.over

    def _is_ours(self, result: RunResult) -> bool:
        """A run that was woken by a background task may end after our prompt was written and before it was taken up."""
        if result.prompts:
            return self.uuid in result.prompts
        return not self._tells_prompts if self._prompt_state is None else self._prompt_state.state != "queued"

    @property
    def might_be_over(self) -> bool:
        """`claude` rests although it never took the prompt up, or has a result and tells no states at all."""
        return self._idle or (self.has_result and not self._tells_states)

    def quiet(self) -> bool:
        """Nothing came for a while: whether that ends the turn."""
        self._over = self._over or self.might_be_over
        return self._over

    def end(self, n: int, *, error: RunError = NO_RESULT) -> TurnEnd:
        """How it ended; `error` counts where no result came."""
        if not self._results:
            return self._end_without_result(n, error)
        last = self._results[-1]
        outcome = _outcome(last, interrupted=self.interrupted_by is not None)
        failure = last.error if outcome == "failed" else None
        return TurnEnd(
            n=n,
            turn_id=self.turn_id,
            outcome=outcome,
            result=last.result,
            stop_reason=last.stop_reason,
            detail=self.interrupted_by or "interrupted" if outcome == "interrupted" else last.detail,
            usage=_sum([result.usage for result in self._results if result.usage is not None]),
            cost_usd=_total([result.cost_usd for result in self._results if result.cost_usd is not None]),
            duration_ms=_count([result.duration_ms or 0 for result in self._results]),
            num_turns=_count([result.num_turns or 0 for result in self._results]),
            error=failure and _turn_error(failure),
        )

    def _end_without_result(self, n: int, error: RunError) -> TurnEnd:
        if self.interrupted_by is not None:
            return interrupted(n, self.turn_id, self.interrupted_by)
        return TurnEnd(n=n, turn_id=self.turn_id, outcome="failed", detail=error.type, error=_turn_error(error))


def interrupted(n: int, turn_id: str, detail: str | None) -> TurnEnd:
    return TurnEnd(n=n, turn_id=turn_id, outcome="interrupted", detail=detail)


def _outcome(last: RunResult, *, interrupted: bool) -> Literal["completed", "failed", "interrupted"]:
    if last.aborted and (last.is_error or interrupted):
        return "interrupted"
    return "failed" if last.is_error else "completed"


def _turn_error(error: RunError) -> TurnError:
    return TurnError(type=error.type, message=error.message, http_status=error.http_status)


def _sum(usages: list[ModelUsage]) -> ModelUsage | None:
    if not usages:
        return None
    return ModelUsage(**{name: _count([getattr(one, name) for one in usages]) for name in ModelUsage.model_fields})


def _count(counts: list[int]) -> int:
    return min(sum(counts), _MOST)


def _total(costs: list[float]) -> float | None:
    return round(min(sum(costs), 1e9), 9) if costs else None
