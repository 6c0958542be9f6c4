"""A conversation: what a client can say, set up and read, over the real CLI; only the model is played."""

import base64
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.common import Common, common_session
from support.gateway import GatewayProcess
from support.scenario import bash, says, scripted
from support.stack import FULL, PYTHON
from support.waiting import until

LONG = "for i in $(seq 600); do sleep 0.1; done"
ECHO = (Path(__file__).parents[1] / "support" / "mcp_echo.py").read_text()


@pytest.fixture(scope="module")
def common(gateway: GatewayProcess) -> Iterator[Common]:
    """One session set up with all that can stand side by side."""
    config = {
        "append_system_prompt": "MARK-APPENDED",
        "env": {"COLOUR": "teal", "TWO_WORDS": "a 'b' $c"},
        "disallowed_tools": ["WebFetch"],
        "skills": [{"name": "knots", "content": "---\nname: knots\ndescription: Ties knots.\n---\nTie a bowline."}],
        "mcp_servers": {
            "helper": {"type": "stdio", "command": PYTHON, "args": ["-c", ECHO], "env": {"GREETING": "ahoy"}},
            "broken": {"type": "stdio", "command": "/nowhere/server"},
        },
    }
    with common_session(gateway, config=config) as made:
        yield made


@pytest.fixture
async def mine(common: Common) -> AsyncIterator[Api]:
    async with common.api() as client:
        yield client


async def of_turn(api: Api, session_id: str, turn: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    """A turn's events of these types."""
    found = await api.events(session_id, types=",".join(kinds)) if kinds else await api.events(session_id)
    return [event for event in found if event["turn_id"] == turn["turn_id"]]


def png() -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\x00\xff\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# ---------------------------------------------------------------- what the agent says and does


async def test_text_thinking_and_a_tool_come_as_events_in_their_order(mine: Api, common: Common) -> None:
    first = {"blocks": [{"thinking": "let me see"}, {"text": "Looking."}, bash("echo seen")]}
    turn = await mine.chat(common.session_id, scripted(first, says("It said {{last_tool_result}}")))
    assert (turn["status"], turn["result"], turn["stop_reason"]) == ("completed", "It said seen", "end_turn")
    found = await of_turn(mine, common.session_id, turn)
    said = [event for event in found if event["type"].startswith(("user.", "agent.", "turn."))]
    assert [event["type"] for event in said] == [
        "user.message",
        "turn.queued",
        "turn.started",
        "agent.thinking",
        "agent.message",
        "agent.tool_use",
        "agent.tool_result",
        "agent.message",
        "turn.completed",
    ]
    assert said[3]["thinking"] == "let me see"
    assert said[4]["content"] == [{"type": "text", "text": "Looking."}]
    assert (said[5]["name"], said[5]["input"]["command"]) == ("Bash", "echo seen")
    assert said[6]["tool_use_id"] == said[5]["id"]
    assert said[7]["content"] == [{"type": "text", "text": "It said seen"}]
    assert {event["source"] for event in said if event["type"].startswith("agent.")} == {"agent"}
    assert {event["source"] for event in said if not event["type"].startswith("agent.")} == {"gateway"}


async def test_each_result_of_parallel_tools_refers_to_its_own_call(mine: Api, common: Common) -> None:
    calls = [bash(f"sleep 0.{9 - n}; echo result-{n}") for n in range(4)]
    turn = await mine.chat(common.session_id, scripted({"blocks": calls}, says("done")))
    found = await of_turn(mine, common.session_id, turn, "agent.tool_use", "agent.tool_result")
    uses = {event["id"]: event["input"]["command"] for event in found if event["type"] == "agent.tool_use"}
    results = {e["tool_use_id"]: e["content"][0]["text"] for e in found if e["type"] == "agent.tool_result"}
    assert len(uses) == len(results) == 4
    assert {uses[call][-8:]: text for call, text in results.items()} == {f"result-{n}": f"result-{n}" for n in range(4)}


async def test_a_tool_that_fails_gives_an_error_result_and_the_turn_goes_on(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(bash("echo out; echo bad >&2; exit 3"), says("went on")))
    assert (turn["status"], turn["result"]) == ("completed", "went on")
    [result] = await of_turn(mine, common.session_id, turn, "agent.tool_result")
    assert result["is_error"] is True
    assert "bad" in result["content"][0]["text"]


async def test_later_turns_remember_the_earlier_ones(mine: Api, common: Common) -> None:
    for word in ("alder", "birch"):
        await mine.chat(common.session_id, scripted(says("noted"), text=f"remember {word}"))
    turn = await mine.chat(common.session_id, scripted(says("{{all_prompts}}"), text="which trees"))
    assert turn["result"].index("remember alder") < turn["result"].index("remember birch")


async def test_queued_prompts_each_get_their_own_result_in_order(mine: Api, common: Common) -> None:
    slow = scripted(bash("sleep 0.5"), says("answer 0"))
    turns = [await mine.submit(common.session_id, slow)]
    turns += [await mine.submit(common.session_id, scripted(says(f"answer {n}"))) for n in range(1, 5)]
    ended = [await mine.ended(common.session_id, turn_id) for turn_id in turns]
    assert [turn["result"] for turn in ended] == [f"answer {n}" for n in range(5)]
    for before, after in pairwise(ended):
        assert before["ended_at"] <= after["started_at"]
        assert before["number"] + 1 == after["number"]


async def test_a_slash_command_works_as_a_prompt_and_the_compaction_is_an_event(api: Api) -> None:
    session_id = await api.open_session()
    await api.chat(session_id, scripted(says("noted"), text="remember alder"))
    turn = await api.chat(session_id, "/compact")
    assert turn["status"] == "completed", turn["error"]
    compacted = await api.has_event(session_id, "agent.thread_context_compacted", turn_id=turn["turn_id"])
    assert compacted["trigger"] == "manual"
    assert compacted["pre_tokens"] > 0
    after = await api.chat(session_id, scripted(says("still here")))
    assert after["result"] == "still here"


async def test_an_unknown_slash_command_is_answered_and_harms_nothing(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, "/no-such-command")
    assert turn["status"] == "completed"
    assert "no-such-command" in turn["result"]


# ---------------------------------------------------------------- what a prompt may hold


async def test_an_image_in_a_prompt_reaches_the_model_whole(mine: Api, common: Common) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    content = [{"type": "image", "source": source}, {"type": "text", "text": scripted(says("saw {{images}}"))}]
    turn = await mine.chat(common.session_id, content=content)
    assert turn["result"] == f"saw 1 ({len(png())} bytes)"


async def test_a_text_document_reaches_the_model(mine: Api, common: Common) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "The heron is grey."}
    content = [
        {"type": "document", "source": source, "title": "Birds"},
        {"type": "text", "text": scripted(says("read"))},
    ]
    turn = await mine.chat(common.session_id, content=content)
    assert (turn["status"], turn["result"]) == ("completed", "read")
    asked = (await mine.turn(common.session_id, turn["turn_id"]))["content"]
    assert asked[0]["source"] == source


async def test_a_prompt_of_1_mb_reaches_the_model_whole(mine: Api, common: Common) -> None:
    long = "".join(f"{n:07} " for n in range(131_072))
    assert len(long) == 2**20
    turn = await mine.chat(common.session_id, scripted(says("{{prompt}}"), text=long))
    assert turn["status"] == "completed"
    assert turn["result"].strip() == long.strip()
    asked = (await mine.turn(common.session_id, turn["turn_id"]))["content"]
    assert asked[0]["text"].startswith(long)


async def test_an_answer_of_1_mb_comes_whole_in_result_and_event(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(says("0123456789abcdef", repeat_text=65_536, chunk_chars=4000)))
    whole = "0123456789abcdef" * 65_536
    assert turn["result"] == whole
    [message] = await of_turn(mine, common.session_id, turn, "agent.message")
    assert message["content"] == [{"type": "text", "text": whole}]


async def test_any_character_survives_in_both_directions(mine: Api, common: Common) -> None:
    odd = 'ä 漢字 🦩 \u2028 \u0007 \ufffe \x1b[31m "quoted" \\ <b> {"a": 1}'
    turn = await mine.chat(common.session_id, scripted(says("{{prompt}}"), text=f"say {odd} end"))
    assert turn["result"] == f"say {odd} end"


# ---------------------------------------------------------------- how it can be read


async def test_messages_read_as_the_conversation(api: Api) -> None:
    session_id = await api.open_session()
    prompt = scripted({"blocks": [{"text": "Looking."}, bash("echo seen")]}, says("It said seen"))
    await api.chat(session_id, prompt)
    await api.chat(session_id, scripted({"error": {"status": 400}}))
    data = (await api.get(f"sessions/{session_id}/messages")).json()["data"]
    read = [(message["role"], message["kind"]) for message in data]
    assert read[:5] == [
        ("user", "text"),
        ("assistant", "text"),
        ("assistant", "tool_use"),
        ("tool", "tool_result"),
        ("assistant", "text"),
    ]
    assert read[5] == ("user", "text")
    assert read[-1] == ("system", "error")
    assert data[2]["name"] == "Bash"
    assert data[3]["tool_use_id"] == data[2]["id"]
    first = (await api.get(f"sessions/{session_id}/messages", params={"limit": 3})).json()
    query = {"limit": 200, "cursor": first["next_cursor"]}
    rest = (await api.get(f"sessions/{session_id}/messages", params=query)).json()
    assert first["data"] + rest["data"] == data
    assert rest["next_cursor"] is None


async def test_usage_and_context_fill_are_an_event_of_each_turn(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(says("x", usage={"input_tokens": 1234, "output_tokens": 56})))
    [usage] = await of_turn(mine, common.session_id, turn, "session.usage")
    assert usage["usage"]["input_tokens"] >= 1234
    assert usage["usage"]["output_tokens"] >= 56
    assert usage["cost_usd"] == turn["cost_usd"] > 0
    assert usage["context"]["used_tokens"] >= 1290
    assert usage["context"]["max_tokens"] >= 100_000
    starts = await of_turn(mine, common.session_id, turn, "span.model_request_start")
    ends = await of_turn(mine, common.session_id, turn, "span.model_request_end")
    assert [end["model_request_start_id"] for end in ends] == [start["id"] for start in starts]


async def test_raw_gives_the_cli_line_beside_the_event_and_only_on_request(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(says("raw and whole")))
    events = await mine.events(common.session_id, raw="true", order="desc", limit=30)
    [message] = [e for e in events if e["type"] == "agent.message" and e["turn_id"] == turn["turn_id"]]
    line = json.loads(message["raw"])
    assert line["type"] == "assistant"
    assert line["message"]["content"][0]["text"] == "raw and whole"
    [plain] = await of_turn(mine, common.session_id, turn, "agent.message")
    assert "raw" not in plain
    assert plain == {name: value for name, value in message.items() if name != "raw"}


async def test_events_are_numbered_without_gaps_and_read_forwards_backwards_and_by_type(
    mine: Api, common: Common
) -> None:
    await mine.chat(common.session_id, scripted(bash("echo a"), says("b")))
    path = f"sessions/{common.session_id}/events"
    everything: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = (await mine.get(path, params={"after": after, "limit": 7})).json()
        everything += page["data"]
        after = page["next_after"]
    assert [event["seq"] for event in everything] == list(range(1, page["last_seq"] + 1))
    assert len({event["id"] for event in everything}) == len(everything)
    backwards: list[dict[str, Any]] = []
    query: dict[str, Any] = {"order": "desc", "limit": 9}
    while True:
        page = (await mine.get(path, params=query)).json()
        backwards += page["data"]
        if page["next_after"] is None:
            break
        query["before"] = page["next_after"]
    assert backwards == everything[::-1]
    wanted = {"agent.message", "turn.completed"}
    filtered = await mine.events(common.session_id, types=" turn.completed, agent.message")
    assert filtered == [event for event in everything if event["type"] in wanted]
    between = await mine.events(common.session_id, after=3, before=6)
    assert [event["seq"] for event in between] == [4, 5]


# ---------------------------------------------------------------- how the agent is set up


async def test_an_appended_system_prompt_reaches_the_model_beside_claude_codes_own(mine: Api, common: Common) -> None:
    asked = scripted(says("{{system_contains:MARK-APPENDED}} {{system_contains:Claude Code}}"))
    assert (await mine.chat(common.session_id, asked))["result"] == "yes yes"


async def test_environment_of_the_config_reaches_the_tools(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(bash('echo "$COLOUR/$TWO_WORDS"'), says("{{last_tool_result}}")))
    assert turn["result"] == "teal/a 'b' $c"


async def test_nothing_worth_stealing_is_in_the_environment_of_the_tools(mine: Api, common: Common) -> None:
    turn = await mine.chat(common.session_id, scripted(bash("env"), says("{{last_tool_result}}")))
    names = {line.partition("=")[0] for line in turn["result"].splitlines()}
    assert "COLOUR" in names
    assert not names & {"ANTHROPIC_API_KEY", "CC_JWT_SECRET", "CC_REDIS_URL"}
    secret = (common.gateway.data_dir / "jwt.secret").read_text().strip()
    assert secret not in turn["result"]


async def test_a_disallowed_tool_is_not_offered_and_refused(mine: Api, common: Common) -> None:
    call = {"tool": "WebFetch", "input": {"url": "https://example.com", "prompt": "x"}}
    turn = await mine.chat(common.session_id, scripted(call, says("{{tools}}")))
    [result] = await of_turn(mine, common.session_id, turn, "agent.tool_result")
    assert result["is_error"] is True
    offered = turn["result"].split(", ")
    assert "Bash" in offered
    assert "WebFetch" not in offered


async def test_a_skill_of_the_config_is_there(mine: Api, common: Common) -> None:
    await mine.chat(common.session_id, scripted(says("x")))
    found = await mine.events(common.session_id, types="cli.event")
    inits = [event["line"] for event in found if event["name"] == "system/init"]
    assert all("knots" in line["skills"] for line in inits)
    assert inits


async def test_a_tool_of_an_mcp_server_is_called(mine: Api, common: Common) -> None:
    call = {"tool": "mcp__helper__echo", "input": {"text": "sailor"}}
    turn = await mine.chat(common.session_id, scripted(call, says("{{last_tool_result}}")))
    assert turn["result"] == "ahoy: sailor"
    use, result = await of_turn(mine, common.session_id, turn, "agent.mcp_tool_use", "agent.mcp_tool_result")
    assert (use["mcp_server_name"], use["name"], use["input"]) == ("helper", "echo", {"text": "sailor"})
    assert result["mcp_tool_use_id"] == use["id"]
    assert result["is_error"] is False


async def test_an_mcp_server_that_cannot_start_is_an_error_event_and_does_not_stop_the_session(
    mine: Api, common: Common
) -> None:
    await mine.chat(common.session_id, scripted(says("x")))
    errors = [event["error"] for event in await mine.events(common.session_id, types="session.error")]
    [broken] = [error for error in errors if error["mcp_server_name"] == "broken"]
    assert broken["type"] == "mcp_connection_failed_error"
    assert broken["retry_status"] == {"type": "exhausted"}


async def test_a_system_prompt_replaces_claude_codes_own_and_tools_need_leave_in_default_mode(api: Api) -> None:
    config = {
        "system_prompt": "MARK-REPLACED",
        "permission_mode": "default",
        "allowed_tools": ["Bash(echo *)"],
        "max_turns": 4,
    }
    session_id = await api.open_session(config=config)
    asked = scripted(says("{{system_contains:MARK-REPLACED}} {{system_contains:interactive CLI tool}}"))
    assert (await api.chat(session_id, asked))["result"] == "yes no"
    turn = await api.chat(session_id, scripted(bash("echo fine"), bash("touch not-allowed"), says("done")))
    results = await of_turn(api, session_id, turn, "agent.tool_result")
    assert [result["is_error"] for result in results] == [False, True]
    listed = await api.chat(session_id, scripted(bash("echo *"), says("{{last_tool_result}}")))
    assert "not-allowed" not in listed["result"]
    endless = await api.chat(session_id, scripted(*(bash(f"echo {n}") for n in range(9)), says("never")))
    assert (endless["status"], endless["error"]["type"]) == ("failed", "max_turns")
    assert len(await of_turn(api, session_id, endless, "agent.tool_use")) == 4
    idle = (await api.events(session_id, types="session.status_idle", order="desc", limit=1))[0]
    assert idle["stop_reason"]["detail"] == "max_turns"
    assert (await api.chat(session_id, scripted(says("usable"))))["result"] == "usable"


# ---------------------------------------------------------------- what can be changed


async def test_title_and_metadata_change_at_once_and_the_list_finds_by_them(mine: Api, common: Common) -> None:
    path = f"sessions/{common.session_id}"
    first = (await mine.patch(path, json={"title": "One", "metadata": {"team": "infra", "n": 1}})).json()
    assert (first["title"], first["metadata"]) == ("One", {"team": "infra", "n": 1})
    second = (await mine.patch(path, json={"title": None, "metadata": {"team": None, "more": ["x"]}})).json()
    assert (second["title"], second["metadata"]) == (None, {"n": 1, "more": ["x"]})
    assert (await mine.session(common.session_id))["metadata"] == {"n": 1, "more": ["x"]}
    hits = (await mine.get("sessions", params={"metadata.n": "1"})).json()["data"]
    assert [hit["session_id"] for hit in hits] == [common.session_id]
    assert (await mine.get("sessions", params={"metadata.n": "2"})).json()["data"] == []
    assert len(await mine.events(common.session_id, types="session.updated")) >= 2


async def test_a_changed_model_is_used_from_the_next_turn_on(mine: Api, common: Common) -> None:
    for model in ("claude-scripted-a", "claude-scripted-b"):
        answer = await mine.patch(f"sessions/{common.session_id}", json={"model": model})
        assert answer.json()["config"]["model"] == model
        turn = await mine.chat(common.session_id, scripted(says("x")))
        starts = await of_turn(mine, common.session_id, turn, "span.model_request_start")
        assert {start["model"] for start in starts} == {model}


async def test_a_changed_permission_mode_counts_from_the_next_turn_on(mine: Api, common: Common) -> None:
    path = f"sessions/{common.session_id}"
    assert (await mine.patch(path, json={"permission_mode": "plan"})).status_code == 200
    turn = await mine.chat(common.session_id, scripted(bash("touch planned"), says("x")))
    [refused] = await of_turn(mine, common.session_id, turn, "agent.tool_result")
    assert refused["is_error"] is True
    assert (await mine.patch(path, json={"permission_mode": "bypassPermissions"})).status_code == 200
    turn = await mine.chat(common.session_id, scripted(bash("ls planned || touch done; ls done"), says("x")))
    [allowed] = await of_turn(mine, common.session_id, turn, "agent.tool_result")
    assert allowed["content"][0]["text"].splitlines()[-1] == "done"


# ---------------------------------------------------------------- time


async def test_the_chat_calls_timeout_ends_the_wait_and_not_the_turn(mine: Api, common: Common) -> None:
    prompt = scripted(bash("for i in $(seq 15); do sleep 0.1; done"), says("in the end"))
    body = {"prompt": prompt, "timeout_seconds": 0.3}
    answer = await mine.post(f"sessions/{common.session_id}/chat", json=body)
    assert answer.status_code == 202
    assert answer.json()["status"] in ("queued", "running")
    turn = await mine.ended(common.session_id, answer.json()["turn_id"])
    assert (turn["status"], turn["result"]) == ("completed", "in the end")


async def test_the_sessions_timeout_interrupts_the_turn_and_idleness_puts_it_to_sleep_until_a_prompt(api: Api) -> None:
    session_id = await api.open_session(config={"timeout_seconds": 2, "idle_timeout_seconds": 1})
    turn = await api.chat(session_id, scripted(bash(LONG), text="remember alder"))
    assert (turn["status"], turn["reason"]) == ("interrupted", "timeout")
    asleep = await api.has_status(session_id, "asleep", seconds=20)
    assert asleep["container_id"] is None
    again = await api.chat(session_id, scripted(says("{{all_prompts}}"), text="which tree"))
    assert again["status"] == "completed"
    assert "remember alder" in again["result"]
    assert (await api.session(session_id))["incarnation"] == 2


# ---------------------------------------------------------------- workspaces


async def test_a_persistent_workspace_is_used_by_one_session_at_a_time_and_kept(
    api: Api, gateway: GatewayProcess
) -> None:
    workspace = {"type": "persistent", "id": "kept"}
    first = await api.open_session(workspace=workspace)
    await api.chat(first, scripted(bash("echo kept > file.txt")))
    taken = await api.post("sessions", json={"workspace": workspace})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "workspace_in_use")
    assert taken.json()["error"]["details"] == {"session_id": first}
    await api.delete(f"sessions/{first}")
    second = await api.open_session(workspace=workspace)
    turn = await api.chat(second, scripted(bash("cat file.txt"), says("{{last_tool_result}}")))
    assert turn["result"] == "kept"


async def test_an_ephemeral_workspace_is_removed_with_its_session(api: Api, gateway: GatewayProcess) -> None:
    session_id = await api.open_session()
    turn = await api.chat(session_id, scripted(bash("echo here > file.txt")))
    assert turn["status"] == "completed", turn["error"]
    place = gateway.data_dir / "sessions" / session_id
    assert (place / "workspace" / "file.txt").read_text() == "here\n"
    await api.delete(f"sessions/{session_id}")
    await until(lambda: _gone(place), "the folder to be removed", 15)


async def test_sessions_do_not_see_one_anothers_files(api: Api, gateway: GatewayProcess, common: Common) -> None:
    if not gateway.facts["isolated"]:
        pytest.skip("nothing isolates sessions here: bubblewrap is missing")
    session_id = await api.open_session()
    looks = bash(f"ls {gateway.data_dir} {gateway.data_dir}/sessions; cat {gateway.data_dir}/jwt.secret")
    turn = await api.chat(session_id, scripted(looks, says("{{last_tool_result}}")))
    assert turn["status"] == "completed", turn["error"]
    assert session_id in turn["result"] or FULL, "positive control: what is its own is there (under that path)"
    assert common.session_id not in turn["result"]
    assert (gateway.data_dir / "jwt.secret").read_text().strip() not in turn["result"]


async def _gone(path: Path) -> bool:
    return not path.exists()


# ---------------------------------------------------------------- logs


async def test_what_the_wrapper_wrote_can_be_read_also_when_nothing_runs_any_more(api: Api) -> None:
    session_id = await api.open_session(prompt=scripted(says("x")))
    await api.has_status(session_id, "idle")
    answer = await api.get(f"sessions/{session_id}/logs")
    assert answer.headers["content-type"].startswith("text/plain")
    assert session_id in answer.text
    await api.post(f"sessions/{session_id}/stop")
    kept = await api.get(f"sessions/{session_id}/logs")
    assert answer.text.splitlines()[0] in kept.text
    last = await api.get(f"sessions/{session_id}/logs", params={"tail": 1})
    assert last.text.splitlines() == kept.text.splitlines()[-1:]
    assert (await api.get(f"sessions/{session_id}/logs", params={"tail": 0})).status_code == 422
