"""A prompt goes in; messages, thoughts, tool calls, usage and one end come out. One real `claude` for all tests here."""

import base64
import struct
import zlib
from pathlib import Path

import pytest

from cc_protocol.ids import TURN, new_id
from wrapper.harness import Stage, scenario, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def position(stage: Stage, body: object) -> int:
    """The number of the entry that holds this event."""
    return next(one.n for one in stage.entries if body in [claim.body for claim in getattr(one, "claims", [])])


def text(words: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": words}]


async def test_a_prompt_becomes_a_message_and_an_end(warm: Stage) -> None:
    end = await warm.run(scenario({"text": "Hello."}))
    assert (end.outcome, end.result, end.stop_reason, end.error) == ("completed", "Hello.", "end_turn", None)
    assert [event.content for event in warm.events("agent.message", end.turn_id)] == [text("Hello.")]


async def test_the_pieces_of_a_message_are_a_prefix_of_it_under_its_id(warm: Stage) -> None:
    end = await warm.run(scenario({"text": [f"piece {n} " for n in range(20)], "chunk_delay_ms": 2}))
    [claim] = [claim for claim in warm.claims(end.turn_id) if claim.body.type == "agent.message"]
    mine = [one for one in warm.previews if one.type == "event_delta" and one.event_id == claim.id]
    pieces = "".join(str(one.delta.content["text"]) for one in mine)
    assert len(mine) > 1
    assert str(claim.body.content[0]["text"]).startswith(pieces)


async def test_every_model_request_starts_and_ends(warm: Stage) -> None:
    end = await warm.run(scenario({"tool": "Bash", "input": {"command": "true"}}, {"text": "Two."}))
    starts = [claim.id for claim in warm.claims(end.turn_id) if claim.body.type == "span.model_request_start"]
    ends = warm.events("span.model_request_end", end.turn_id)
    assert [one.model_request_start_id for one in ends] == starts
    assert len(starts) == 2
    assert not any(one.is_error for one in ends)
    assert all(one.model_usage.output_tokens > 0 for one in ends)


async def test_thinking_is_kept(warm: Stage) -> None:
    end = await warm.run(scenario({"blocks": [{"thinking": "Hm."}, {"text": "Yes."}]}))
    assert [event.thinking for event in warm.events("agent.thinking", end.turn_id)] == ["Hm."]


async def test_a_tool_result_refers_to_the_event_of_its_call(warm: Stage) -> None:
    end = await warm.run(scenario({"tool": "Bash", "input": {"command": "echo out"}}, {"text": "Done."}))
    [call] = [claim for claim in warm.claims(end.turn_id) if claim.body.type == "agent.tool_use"]
    [result] = warm.events("agent.tool_result", end.turn_id)
    assert (call.body.name, call.body.input) == ("Bash", {"command": "echo out"})
    assert (result.tool_use_id, result.cli_tool_use_id) == (call.id, call.body.cli_tool_use_id)
    assert (result.content, result.is_error) == (text("out"), False)


async def test_parallel_calls_each_get_their_result(warm: Stage) -> None:
    calls = [{"tool": "Bash", "input": {"command": f"echo {n}"}} for n in range(4)]
    end = await warm.run(scenario({"blocks": calls}, {"text": "Done."}))
    by_id = {claim.id: claim.body for claim in warm.claims(end.turn_id)}
    results = warm.events("agent.tool_result", end.turn_id)
    said = {str(by_id[one.tool_use_id].input["command"]): one.content for one in results}
    assert said == {f"echo {n}": text(str(n)) for n in range(4)}


async def test_an_mcp_tool_is_known_by_its_server_even_with_underscores(warm: Stage) -> None:
    name = "mcp__tools__of_ours__echo"
    end = await warm.run(scenario({"tool": name, "input": {"text": "hi"}}, {"text": "Done."}))
    [call] = [claim for claim in warm.claims(end.turn_id) if claim.body.type == "agent.mcp_tool_use"]
    [result] = warm.events("agent.mcp_tool_result", end.turn_id)
    assert (call.body.mcp_server_name, call.body.name) == ("tools__of_ours", "echo")
    assert (result.mcp_tool_use_id, result.content) == (call.id, text("echo: hi"))


async def test_an_mcp_server_that_does_not_start_is_reported(warm: Stage) -> None:
    error = await warm.event("session.error")
    assert (error.error.type, error.error.mcp_server_name) == ("mcp_connection_failed_error", "broken")


async def test_what_may_not_be_done_is_refused_and_the_turn_goes_on(warm: Stage) -> None:
    call = {"tool": "WebFetch", "input": {"url": "http://127.0.0.1:9/", "prompt": "x"}}
    end = await warm.run(scenario(call, {"text": "Then not."}))
    [result] = warm.events("agent.tool_result", end.turn_id)
    assert result.is_error
    assert end.outcome == "completed"


async def test_usage_and_cost_are_those_of_the_turn_alone(warm: Stage) -> None:
    ends = [await warm.run(scenario({"text": "x", "usage": {"input_tokens": 1000, "output_tokens": 10}})) for _ in "12"]
    first, second = [warm.events("session.usage", end.turn_id)[-1] for end in ends]
    assert first.usage.input_tokens == second.usage.input_tokens == 1000
    assert first.cost_usd == pytest.approx(second.cost_usd)
    assert second.context.used_tokens == 1010
    assert second.context.max_tokens is not None
    assert ends[1].cost_usd == pytest.approx(second.cost_usd)


async def test_an_image_reaches_the_model(warm: Stage) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    words = {"type": "text", "text": scenario({"text": "Seen."})}
    end = await warm.run([{"type": "image", "source": source}, words])
    assert end.outcome == "completed"
    assert '"type": "image"' in str(warm.model.requests[-1][0]["messages"]).replace("'", '"')


def png() -> bytes:
    """One white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\xff\xff\xff")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, "model_request_failed_error"),
        (429, "model_rate_limited_error"),
        (529, "model_overloaded_error"),
        (401, "authentication_error"),
        (403, "model_request_failed_error"),
    ],
)
async def test_a_model_that_keeps_failing_fails_the_turn_with_its_reason(warm: Stage, status: int, kind: str) -> None:
    end = await warm.run(scenario({"error": {"status": status, "message": "no luck"}}))
    assert end.outcome == "failed"
    assert end.error is not None
    assert (end.error.type, end.error.http_status) == (kind, status)
    errors = [one.error for one in warm.events("session.error", end.turn_id)]
    assert errors[-1].retry_status.type == "exhausted"
    assert all(one.retry_status.type == "retrying" and one.attempt for one in errors[:-1])


async def test_a_request_that_is_tried_again_is_told_and_succeeds(warm: Stage) -> None:
    end = await warm.run(scenario({"text": "At last.", "error": {"status": 500, "times": 1}}))
    [error] = [one.error for one in warm.events("session.error", end.turn_id)]
    assert (error.type, error.retry_status.type, error.attempt) == ("model_request_failed_error", "retrying", 1)
    assert (error.http_status, error.max_retries) == (500, 1)
    assert (end.outcome, end.result) == ("completed", "At last.")


async def test_a_cut_stream_leaves_one_message_and_a_failed_span(warm: Stage) -> None:
    pieces = [f"{n} " for n in range(10)]
    end = await warm.run(scenario({"text": pieces, "cut": {"after_deltas": 4}, "chunk_delay_ms": 40}))
    assert (end.outcome, len(warm.events("agent.message", end.turn_id))) == ("completed", 1)
    spans = warm.events("span.model_request_end", end.turn_id)
    assert spans[0].is_error
    assert len({one.model_request_start_id for one in spans}) == len(spans)


async def test_a_refusal_of_the_model_is_told(warm: Stage) -> None:
    refusal = {"text": "no", "stop_reason": "refusal"}
    end = await warm.run(scenario(*[refusal] * 4))
    assert end.detail == "refusal"


async def test_a_slash_command_is_a_turn_like_any_other(warm: Stage) -> None:
    end = await warm.run("/context")
    assert end.outcome == "completed"


async def test_a_prompt_is_run_once_however_often_it_comes(warm: Stage) -> None:
    turn_id = new_id(TURN)
    for _ in range(3):
        await warm.prompt(scenario({"text": "Once."}), turn_id)
    await warm.end_of(turn_id)
    await warm.prompt(scenario({"text": "Once."}), turn_id)
    await warm.run(scenario({"text": "Next."}))
    assert len(warm.events("agent.message", turn_id)) == 1
    assert [entry.turn_id for entry in warm.entries if entry.kind == "turn_end"].count(turn_id) == 1


async def test_a_second_prompt_waits_for_the_first(warm: Stage) -> None:
    turns = [await warm.prompt(scenario({"text": f"Answer {n}.", "delay_ms": 100})) for n in range(3)]
    ends = [await warm.end_of(turn) for turn in turns]
    assert [end.result for end in ends] == ["Answer 0.", "Answer 1.", "Answer 2."]
    order = [entry.turn_id for entry in warm.entries if getattr(entry, "turn_id", None) in turns]
    assert order == sorted(order, key=turns.index)


async def test_commands_of_another_incarnation_are_passed_over(warm: Stage) -> None:
    warm.incarnation += 1
    stray = await warm.prompt(scenario({"text": "Stray."}))
    warm.incarnation -= 1
    await warm.run(scenario({"text": "Mine."}))
    assert warm.events("agent.message", stray) == []


async def test_a_background_task_that_ends_later_is_told_outside_of_any_turn(warm: Stage) -> None:
    command = {"command": "tail --pid=$$ -f /dev/null & sleep 0.5; echo bg", "run_in_background": True}
    end = await warm.run(scenario({"tool": "Bash", "input": command}, {"text": "Started."}))
    assert (end.outcome, end.result) == ("completed", "Started.")
    note = await warm.event("cli.event", lambda event: event.name == "system/task_notification")
    entry = warm.entries[position(warm, note) - 1]
    assert entry.turn_id is None
    assert [one.content for one in warm.events("agent.message", end.turn_id)] == [text("Started.")]
    await warm.event("cli.event", lambda event: event.line.get("state") == "idle" and position(warm, event) > entry.n)


async def test_a_model_that_is_changed_counts_from_the_next_turn(warm: Stage) -> None:
    await warm.configure(model="claude-sonnet-5")
    end = await warm.run(scenario({"text": "x"}))
    assert end.outcome == "completed"
    assert warm.events("agent.message", end.turn_id)[0].model == "claude-sonnet-5"


async def test_a_mode_that_is_not_allowed_is_refused(warm: Stage) -> None:
    for mode in ("bypassPermissions", "bogus"):
        await warm.configure(permission_mode=mode)
        await warm.event("session.error", lambda event, mode=mode: mode in event.error.message)
    await warm.configure(permission_mode="plan")
    await warm.event("cli.event", lambda event: event.line.get("permissionMode") == "plan")
    await warm.configure(permission_mode="default")
    await warm.event("cli.event", lambda event: event.line.get("permissionMode") == "default")


async def test_a_megabyte_goes_through_both_ways(warm: Stage) -> None:
    size = 1_000_000
    end = await warm.run("x" * size + scenario({"text": "0123456789", "repeat_text": size // 10}), seconds=40)
    assert len(str(end.result)) == size
    said = [message.content for message in warm.events("agent.message", end.turn_id)]
    assert [str(content)[:100] for content in said] == [str(text("0123456789" * (size // 10)))[:100]]
    assert said == [text("0123456789" * (size // 10))]
    assert "x" * size in str(warm.model.requests[-1][0]["messages"])


async def test_nothing_is_left_unacknowledged(warm: Stage) -> None:
    await warm.run(scenario({"text": "x"}))
    count = len(warm.beats)
    beat = await until(lambda: next((one for one in warm.beats[count:] if one.unacknowledged == 0), None), 5)
    assert (beat.ready, beat.turn_id) == (True, None)


async def test_a_sub_agent_in_the_background_belongs_to_the_turn_that_began_it(warm: Stage) -> None:
    inner = scenario({"tool": "Bash", "input": {"command": "echo inner"}}, {"text": "Inner."}, say="Do it.")
    call = {"description": "d", "prompt": inner, "subagent_type": "general-purpose", "run_in_background": True}
    end = await warm.run(scenario({"tool": "Task", "input": call}, {"text": "Outer."}))
    assert end.outcome == "completed"
    calls = {claim.body.name: claim for claim in warm.claims(end.turn_id) if claim.body.type == "agent.tool_use"}
    assert calls["Bash"].body.parent_tool_use_id == calls["Task"].id
    said = {event.content[0]["text"]: event.parent_tool_use_id for event in warm.events("agent.message", end.turn_id)}
    assert (said["Outer."], said["Inner."]) == (None, calls["Task"].id)
    usages = warm.events("session.usage", end.turn_id)
    assert len(usages) == 2
    assert end.cost_usd == pytest.approx(sum(one.cost_usd for one in usages))


async def test_an_idle_wrapper_is_small(warm: Stage) -> None:
    assert warm.process is not None
    rows = Path(f"/proc/{warm.process.pid}/smaps_rollup").read_text().splitlines()
    kilobytes = {row.split(":")[0]: int(row.split()[1]) for row in rows if row.startswith(("Rss", "Pss:"))}
    print("wrapper after all turns of this module:", kilobytes)
    assert kilobytes["Rss"] < 100_000
