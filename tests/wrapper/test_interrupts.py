"""An interrupt ends the turn that it names, and no other. One real `claude` for all tests here."""

import pytest

from cc_protocol.ids import TURN, new_id
from wrapper.harness import Stage, processes_with, scenario, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW = {"text": [f"{n} " for n in range(1000)], "chunk_delay_ms": 50}


async def test_a_text_that_streams_is_interrupted_and_what_was_said_is_kept(warm: Stage) -> None:
    turn = await warm.prompt(scenario(SLOW))
    seen = len(warm.previews)
    await until(lambda: [one for one in warm.previews[seen:] if one.type == "event_delta"])
    await warm.interrupt(turn)
    end = await warm.end_of(turn)
    assert (end.outcome, end.detail, end.error) == ("interrupted", "interrupted", None)
    [message] = warm.events("agent.message", turn)
    assert str(message.content[0]["text"]).startswith("0 ")
    assert [one.is_error for one in warm.events("span.model_request_end", turn)] == [True]


async def test_a_tool_that_runs_is_killed_by_an_interrupt(warm: Stage) -> None:
    turn = await warm.prompt(scenario({"tool": "Bash", "input": {"command": "tail -f /dev/null; echo killed-one"}}))
    await until(lambda: processes_with("echo killed-one"))
    await warm.interrupt(turn)
    assert (await warm.end_of(turn)).outcome == "interrupted"
    await until(lambda: not processes_with("echo killed-one"), 5)


async def test_the_turn_after_an_interrupted_one_runs(warm: Stage) -> None:
    turn = await warm.prompt(scenario(SLOW))
    after = await warm.prompt(scenario({"text": "Still here."}))
    await until(lambda: [beat for beat in warm.beats if beat.turn_id == turn])
    await warm.interrupt(turn)
    assert (await warm.end_of(turn)).outcome == "interrupted"
    assert (await warm.end_of(after)).result == "Still here."


async def test_an_interrupt_for_another_turn_does_nothing(warm: Stage) -> None:
    before = (await warm.run(scenario({"text": "Before."}))).turn_id
    turn = await warm.prompt(scenario({"text": ["a ", "b ", "c "], "chunk_delay_ms": 100}))
    await until(lambda: [beat for beat in warm.beats if beat.turn_id == turn])
    for other in (before, new_id(TURN)):
        await warm.interrupt(other)
    end = await warm.end_of(turn)
    assert (end.outcome, end.result) == ("completed", "a b c ")


async def test_a_turn_that_waits_is_interrupted_without_running(warm: Stage) -> None:
    first = await warm.prompt(scenario({"text": "First.", "delay_ms": 300}))
    waiting = await warm.prompt(scenario({"text": "Never."}))
    await warm.interrupt(waiting)
    assert (await warm.end_of(waiting)).outcome == "interrupted"
    assert (await warm.end_of(first)).result == "First."
    await warm.run(scenario({"text": "Later."}))
    assert warm.events("agent.message", waiting) == []


@pytest.mark.parametrize("round_number", range(5))
async def test_an_interrupt_right_behind_its_prompt_ends_the_turn(warm: Stage, round_number: int) -> None:
    turn = await warm.prompt(scenario(SLOW))
    await warm.interrupt(turn)
    assert (await warm.end_of(turn)).outcome == "interrupted"
    assert (await warm.run(scenario({"text": f"Next {round_number}."}))).outcome == "completed"


async def test_an_interrupt_that_comes_twice_interrupts_once(warm: Stage) -> None:
    turn = await warm.prompt(scenario(SLOW))
    await until(lambda: [beat for beat in warm.beats if beat.turn_id == turn])
    for _ in range(3):
        await warm.interrupt(turn)
    await warm.end_of(turn)
    assert (await warm.run(scenario({"text": "Fine."}))).result == "Fine."
    assert [one.turn_id for one in warm.entries if one.kind == "turn_end"].count(turn) == 1


async def test_an_interrupt_between_turns_does_nothing(warm: Stage) -> None:
    ended = (await warm.run(scenario({"text": "One."}))).turn_id
    await warm.interrupt(ended)
    assert (await warm.run(scenario({"text": "Two."}))).result == "Two."
