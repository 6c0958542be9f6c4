"""The real claude CLI is content with the scripted model: turns, tools, faults, resumes and interrupts."""

import base64

import pytest

pytestmark = pytest.mark.timeout(180)
NEVER_ENDING = "while true; do read -t 1 < <(:) || :; done"


def bash(command):
    return {"tool": "Bash", "input": {"command": command}}


async def test_a_text_is_the_result(cli, as_prompt):
    run = await cli.run(as_prompt([{"text": "hello"}]))
    assert (run.code, run.result["result"], run.result["is_error"]) == (0, "hello", False)


async def test_a_thought_precedes_its_text_and_survives_the_next_request(cli, server, as_prompt):
    steps = [{"blocks": [{"thinking": "hm"}, {"text": "I will"}, bash("echo one")]}, {"text": "fine"}]
    run = await cli.run(as_prompt(steps))
    assert run.blocks("thinking")[0]["thinking"] == "hm"
    assert run.result["result"] == "fine"


async def test_tools_run_and_their_results_come_back(cli, as_prompt):
    steps = [
        bash("echo one"),
        {"tool": "Bash", "input": {"command": "echo {{last_tool_result}} two"}},
        {"text": "{{last_tool_result}}!"},
    ]
    run = await cli.run(as_prompt(steps))
    assert [block["content"] for block in run.blocks("tool_result", "user")] == ["one", "one two"]
    assert run.result["result"] == "one two!"


async def test_parallel_tools_run_in_one_step(cli, as_prompt):
    run = await cli.run(as_prompt([{"blocks": [bash("echo a"), bash("echo b")]}, {"text": "{{last_tool_result}}"}]))
    assert sorted(block["content"] for block in run.blocks("tool_result", "user")) == ["a", "b"]
    assert run.result["result"] == "b"


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_an_error_is_retried_until_it_passes(cli, as_prompt, status):
    run = await cli.run(as_prompt([{"text": "at last", "error": {"status": status, "times": 1}}]))
    assert [line["error_status"] for line in run.of("api_retry")] == [status]
    assert run.result["result"] == "at last"


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_a_cli_that_is_told_not_to_retry_does_not(cli, server, as_prompt, status):
    run = await cli.run(as_prompt([{"error": {"status": status, "should_retry": False, "message": "no more"}}]))
    assert (run.code, run.result["is_error"], len(server.requests)) == (1, True, 1)
    assert run.result["api_error_status"] == status


async def test_a_cut_stream_is_asked_for_again(cli, server, as_prompt):
    run = await cli.run(as_prompt([{"text": ["one ", "two ", "three"], "cut": {"after_deltas": 2}}]))
    assert run.result["result"] == "one two three"
    assert len(server.requests) == 2


async def test_an_error_in_the_stream_is_asked_for_again(cli, server, as_prompt):
    run = await cli.run(as_prompt([{"text": ["one ", "two"], "sse_error": {"type": "api_error"}}]))
    assert run.result["result"] == "one two"
    assert len(server.requests) == 2


async def test_an_invalid_scenario_is_explained_to_the_user(cli, as_prompt):
    run = await cli.run(as_prompt([{"txt": "hello"}]))
    assert run.result["is_error"] is True
    assert "steps[0].txt" in run.result["result"]


async def test_a_megabyte_arrives_whole(cli, as_prompt):
    run = await cli.run(as_prompt([{"text": "0123456789", "repeat_text": 100_000}]))
    assert len(run.result["result"]) == 1_000_000


async def test_a_resumed_conversation_is_known(cli, as_prompt):
    first = await cli.run("first")
    run = await cli.run(
        as_prompt(
            [{"text": "{{turn}}: {{all_prompts}}"}],
        ),
        "--resume",
        first.session,
    )
    assert run.result["result"] == "2: first | go"


async def test_a_script_cut_off_at_its_output_limit_goes_on(cli, as_prompt):
    run = await cli.run(as_prompt([{"text": "one ", "stop_reason": "max_tokens"}, {"text": "two"}]))
    assert [block["text"] for block in run.blocks("text")] == ["one ", "two"]


async def test_an_interrupted_text_makes_way_for_the_next_prompt(cli, as_prompt):
    async with cli.talk("--include-partial-messages") as talk:
        await talk.say(as_prompt([{"text": ["a ", "b ", "c "], "chunk_delay_ms": 600_000}]))
        await talk.until(lambda line: line.get("event", {}).get("type") == "content_block_delta")
        await talk.interrupt()
        ended = await talk.until(lambda line: line["type"] == "result")
        assert ended.result["terminal_reason"] == "aborted_streaming"
        run = await talk.turn(as_prompt([bash("echo x"), {"text": "{{turn}} {{last_tool_result}}"}]))
        assert run.result["result"] == "2 x"


async def test_an_interrupted_tool_makes_way_for_the_next_prompt(cli, as_prompt):
    async with cli.talk() as talk:
        await talk.say(as_prompt([bash(NEVER_ENDING), {"text": "never"}], "loop"))
        await talk.until(lambda line: line["type"] == "assistant")
        await talk.interrupt()
        ended = await talk.until(lambda line: line["type"] == "result")
        assert ended.result["subtype"] == "error_during_execution"
        run = await talk.turn(as_prompt([{"text": "{{all_prompts}}"}], "again"))
        assert run.result["result"] == "loop | again"


async def test_a_failed_script_does_not_haunt_the_next_prompt(cli, as_prompt):
    async with cli.talk() as talk:
        failed = await talk.turn(as_prompt([{"error": {"status": 403}}]))
        assert failed.result["is_error"] is True
        assert "Hello from CC-Docker!" in (await talk.turn("good morning")).result["result"]


async def test_a_killed_turn_can_be_resumed(cli, as_prompt):
    async with cli.talk() as talk:
        await talk.say(as_prompt([bash(NEVER_ENDING), {"text": "never"}], "doomed"))
        # Not at the first line: a CLI killed before it wrote its transcript cannot be resumed.
        seen = await talk.until(lambda line: line.get("subtype") == "task_started")
        talk.process.kill()
        await talk.process.wait()
    run = await cli.run(as_prompt([{"text": "{{all_prompts}}"}], "reborn"), "--resume", seen.session)
    assert run.result["result"] == "doomed | reborn"


async def test_a_sub_agent_plays_a_script_of_its_own(cli, as_prompt):
    inner = as_prompt([bash("echo inner"), {"text": "sub: {{last_tool_result}}"}], "sub-agent")
    call = {"description": "d", "prompt": inner, "subagent_type": "general-purpose", "run_in_background": False}
    run = await cli.run(as_prompt([{"tool": "Agent", "input": call}, {"text": "main: {{last_tool_result}}"}]))
    assert run.result["result"].startswith("main: ")
    assert "sub: inner" in run.result["result"]


async def test_images_arrive(cli, as_prompt):
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png).decode()}
    async with cli.talk() as talk:
        text = {"type": "text", "text": as_prompt([{"text": "{{images}}"}])}
        run = await talk.turn([text, {"type": "image", "source": source}])
        assert run.result["result"] == f"1 ({len(png)} bytes)"


async def test_a_conversation_can_be_compacted(cli):
    async with cli.talk() as talk:
        await talk.turn("look at the files here")
        run = await talk.turn("/compact")
        assert run.of("compact_boundary")
        after = await talk.turn("good morning")
        assert "good morning" in after.result["result"]


async def test_the_demonstration_looks_at_the_files(cli):
    (cli.workspace / "notes.txt").write_text("x")
    run = await cli.run("Please list the files.")
    assert run.blocks("tool_use")[0]["input"]["command"] == "ls -la"
    assert "notes.txt" in run.result["result"]
    assert "ANTHROPIC_API_KEY" in run.result["result"]


async def test_structured_output_is_given(cli):
    schema = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}'
    run = await cli.run("answer in JSON", "--json-schema", schema)
    assert run.result["structured_output"] == {"a": "scripted"}


async def test_an_unknown_model_fails_the_turn(cli):
    run = await cli.run("hello", "--model", "unknown-model")
    assert (run.code, run.result["is_error"]) == (1, True)
