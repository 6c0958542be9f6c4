"""When a turn is over, and how it ended."""

import pytest

from cc_wrapper.translate.meaning import PromptState, RunError, RunResult, Signal, StateChange
from cc_wrapper.turn import Turn

IDLE, RUNNING = StateChange(idle=True), StateChange(idle=False)
DIED = RunError("cli_exited", "claude was killed by signal 9.")


def at(state: str) -> PromptState:
    return PromptState("u", state)


def ok(words: str = "fine", **more: object) -> RunResult:
    return RunResult(is_error=False, result=words, **more)  # type: ignore[arg-type]


def aborted(*, is_error: bool = True) -> RunResult:
    return RunResult(
        is_error=is_error, aborted=True, error=RunError("error_during_execution", "x") if is_error else None
    )


def turn_after(*signals: Signal, interrupted_by: str | None = None) -> Turn:
    turn = Turn("turn_1", "u")
    turn.interrupted_by = interrupted_by
    for signal in signals:
        turn.note(signal)
    return turn


@pytest.mark.parametrize(
    ("signals", "over"),
    [
        ([RUNNING, at("queued"), at("started"), ok()], False),
        ([RUNNING, at("queued"), at("started"), ok(), at("completed")], False),
        ([RUNNING, at("queued"), at("started"), ok(), at("completed"), IDLE], True),
        ([IDLE], False),
        ([IDLE, at("queued")], False),
        ([at("queued"), IDLE, at("started")], False),
        ([at("queued"), at("cancelled"), IDLE], True),
        ([ok(), IDLE], True),
    ],
)
def test_a_turn_is_over_when_claude_rests_after_it_took_the_prompt_up(signals: list[Signal], over: bool) -> None:
    assert turn_after(*signals).over is over


def test_the_end_of_a_run_that_a_background_task_woke_is_not_ours() -> None:
    turn = turn_after(at("queued"), ok("theirs"), IDLE)
    assert (turn.over, turn.has_result) == (False, False)
    before_it_was_taken = Turn("turn_1", "u", tells_prompts=True)
    for signal in (ok("theirs"), IDLE):
        before_it_was_taken.note(signal)
    assert (before_it_was_taken.over, before_it_was_taken.has_result) == (False, False)
    other = turn_after(at("started"), ok("theirs", prompts=frozenset({"v"})))
    assert not other.has_result


def test_the_last_of_several_results_decides_and_all_of_them_count() -> None:
    turn = turn_after(at("started"), ok("first", cost_usd=0.5, num_turns=1), ok("last", cost_usd=0.25, num_turns=2))
    end = turn.end(1)
    assert (end.outcome, end.result, end.cost_usd, end.num_turns) == ("completed", "last", 0.75, 3)


@pytest.mark.parametrize(
    ("result", "interrupted_by", "outcome", "detail"),
    [
        (ok(), None, "completed", None),
        (ok(), "interrupted", "completed", None),
        (ok(detail="refusal"), None, "completed", "refusal"),
        (aborted(), "interrupted", "interrupted", "interrupted"),
        (aborted(), "stopped", "interrupted", "stopped"),
        (aborted(), None, "interrupted", "interrupted"),
        (aborted(is_error=False), "interrupted", "interrupted", "interrupted"),
        (aborted(is_error=False), None, "completed", None),
        (RunResult(is_error=True, detail="max_turns", error=RunError("max_turns", "x")), None, "failed", "max_turns"),
        (RunResult(is_error=True, error=RunError("x", "y")), "interrupted", "failed", None),
    ],
)
def test_what_the_result_says_decides(result: RunResult, interrupted_by: str, outcome: str, detail: str) -> None:
    end = turn_after(at("started"), result, interrupted_by=interrupted_by).end(1)
    assert (end.outcome, end.detail) == (outcome, detail)
    assert (end.error is not None) == (outcome == "failed")


def test_a_death_without_a_result_fails_the_turn_and_one_with_it_does_not() -> None:
    failed = turn_after(at("started")).end(1, error=DIED)
    assert (failed.outcome, failed.error and failed.error.type) == ("failed", "cli_exited")
    assert turn_after(at("started"), ok()).end(1, error=DIED).outcome == "completed"
    stopped = turn_after(at("started"), interrupted_by="stopped").end(1, error=DIED)
    assert (stopped.outcome, stopped.detail, stopped.error) == ("interrupted", "stopped", None)


def test_silence_ends_a_turn_only_where_claude_rests_or_tells_no_states() -> None:
    assert turn_after(ok()).quiet()
    assert turn_after(IDLE).quiet()
    assert not turn_after(RUNNING, at("started")).quiet()
    assert not turn_after(RUNNING, at("started"), ok(), at("completed")).quiet()
