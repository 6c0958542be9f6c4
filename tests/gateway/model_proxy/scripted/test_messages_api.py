"""The scripted model speaks the Messages API as Anthropic does: streams, whole messages, errors."""

import asyncio
import json
import time

import httpx
import pytest

TEXT = {"text": "hello there, this is a text long enough for more than one delta"}


async def test_a_text_streams_as_the_api_streams_it(server):
    events = await server.stream(server.body([TEXT]))
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert set(kinds[3:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    start = events[0]["message"]
    assert start["id"].startswith("msg_")
    assert (start["model"], start["content"], start["stop_reason"]) == ("claude-test", [], None)
    assert "".join(event["delta"]["text"] for event in events[3:-3]) == TEXT["text"]
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == len(TEXT["text"]) // 4


async def test_a_whole_message_says_what_the_stream_says(server):
    body = server.body([{"blocks": [{"thinking": "hm"}, TEXT, {"tool": "Bash", "input": {"command": "ls"}}]}])
    response = await server.ask(body)
    message = response.json()
    assert response.headers["request-id"].startswith("req_")
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][2]["input"] == {"command": "ls"}
    assert message["stop_reason"] == "tool_use"
    events = await server.stream(body)
    pieces = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(piece.get("partial_json", "") for piece in pieces) == '{"command":"ls"}'
    assert [piece["type"] for piece in pieces[:2]] == ["thinking_delta", "signature_delta"]
    assert pieces[1]["signature"] == message["content"][0]["signature"]
    opened = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert opened[2]["id"].startswith("toolu_")
    assert opened[2]["input"] == {}


async def test_the_same_request_gets_the_same_answer_and_another_gets_other_ids(server):
    first, again = [(await server.ask(server.body([TEXT]))).json() for _ in range(2)]
    assert first == again
    assert (await server.ask(server.body([TEXT], prompt="other"))).json()["id"] != first["id"]


async def test_deltas_are_as_the_step_says(server):
    given = await server.stream(server.body([{"text": ["a", "bc", ""]}]))
    assert [event["delta"]["text"] for event in given if event["type"] == "content_block_delta"] == ["a", "bc", ""]
    sized = await server.stream(server.body([{"text": "abcdef", "chunk_chars": 4}]))
    assert [event["delta"]["text"] for event in sized if event["type"] == "content_block_delta"] == ["abcd", "ef"]


async def test_a_megabyte_streams_in_few_deltas(server):
    began = time.perf_counter()
    events = await server.stream(server.body([{"text": "0123456789", "repeat_text": 100_000}]))
    took = time.perf_counter() - began
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert sum(map(len, deltas)) == 1_000_000
    assert len(deltas) <= 256
    assert took < 5


async def test_usage_and_stop_reason_can_be_given(server):
    usage = {"input_tokens": 7, "output_tokens": 8, "cache_read_input_tokens": 9, "cache_creation_input_tokens": 10}
    message = (await server.ask(server.body([{"text": "x", "usage": usage, "stop_reason": "refusal"}]))).json()
    assert (message["usage"], message["stop_reason"]) == (usage, "refusal")
    events = await server.stream(server.body([{"text": "x", "usage": usage, "stop_reason": "max_tokens"}]))
    assert events[-2]["usage"] == usage
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


async def test_an_error_comes_as_often_as_it_says_and_then_the_answer(server):
    body = server.body(
        [{"text": "at last", "error": {"status": 529, "times": 2, "retry_after": 3, "should_retry": True}}]
    )
    first = await server.ask(body)
    assert first.status_code == 529
    assert first.json()["error"]["type"] == "overloaded_error"
    assert (first.headers["retry-after"], first.headers["x-should-retry"]) == ("3", "true")
    assert (await server.ask(body)).status_code == 529
    assert (await server.ask(body)).json()["content"][0]["text"] == "at last"
    assert (await server.ask(body)).status_code == 529, "an answered step begins anew"


async def test_an_error_without_times_is_always(server):
    body = server.body([{"error": {"status": 401, "message": "who are you?"}}])
    for _ in range(3):
        response = await server.ask(body)
        assert response.status_code == 401
        assert response.json()["error"] == {"type": "authentication_error", "message": "who are you?"}


async def test_errors_of_two_sessions_are_counted_apart(server):
    body = server.body([{"text": "x", "error": {"status": 500, "times": 1}}])
    async with httpx.AsyncClient(base_url=server.url) as client:
        for name in ("a", "b"):
            named = {"x-claude-code-session-id": name}
            answers = [await client.post("/v1/messages", json=body, headers=named) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [500, 200]


async def collect(server, body, chunks):
    async with (
        httpx.AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/v1/messages", json=body) as response,
    ):
        async for chunk in response.aiter_raw():
            chunks.append(chunk)


@pytest.mark.parametrize("after", [0, 2, 1000])
async def test_a_cut_drops_the_connection_once(server, after):
    body = server.body([{"text": ["a", "b", "c"], "cut": {"after_deltas": after}}]) | {"stream": True}
    seen = []
    with pytest.raises(httpx.RemoteProtocolError):
        await collect(server, body, seen)
    seen = b"".join(seen)
    assert seen.count(b"text_delta") == min(after, 3)
    assert b"message_stop" not in seen
    assert (await server.ask(body | {"stream": False})).json()["content"][0]["text"] == "abc"


async def test_a_cut_can_hit_whole_messages_too(server):
    body = server.body([{"text": "abc", "cut": {"times": 2}}])
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            await server.ask(body)
    assert (await server.ask(body)).status_code == 200


async def test_an_sse_error_ends_the_stream_once(server):
    body = server.body([{"text": ["a", "b"], "sse_error": True}])
    events = await server.stream(body)
    assert events[-1] == {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert (await server.stream(body))[-1]["type"] == "message_stop"


async def test_faults_of_one_step_follow_each_other(server):
    body = server.body([{"text": "ok", "error": {"status": 500, "times": 1}, "sse_error": True}])
    assert (await server.ask(body)).status_code == 500
    assert (await server.stream(body))[-1]["type"] == "error"
    assert (await server.ask(body)).status_code == 200


async def test_waits_are_waited(server):
    began = time.perf_counter()
    await server.stream(server.body([{"text": ["a", "b", "c"], "delay_ms": 50, "chunk_delay_ms": 50, "hang_ms": 50}]))
    assert time.perf_counter() - began >= 0.19


async def test_a_silent_stream_has_begun(server):
    body = server.body([{"text": "a", "hang_ms": 600_000}]) | {"stream": True}
    async with (
        asyncio.timeout(10),
        httpx.AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/v1/messages", json=body) as response,
    ):
        first = await anext(response.aiter_raw())
    assert b"message_start" in first


async def test_an_unknown_model_is_not_found(server):
    for name in ("unknown-model", "unknown-7"):
        response = await server.ask(server.body([TEXT]) | {"model": name})
        assert response.status_code == 404
        assert response.json()["error"] == {"type": "not_found_error", "message": f"model: {name}"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": ""}, "model"),
    ],
)
async def test_a_malformed_request_is_refused_with_its_reason(server, change, said):
    response = await server.ask(server.body([TEXT]) | change)
    assert response.status_code == 400
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert said in response.json()["error"]["message"]


async def test_other_paths_answer_as_the_api_does(server):
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.head("/")).status_code == 200
        assert (await client.get("/")).status_code == 200
        assert (await client.head("/api/hello")).status_code == 200
        body = server.body([TEXT])
        del body["max_tokens"]
        counted = await client.post("/v1/messages/count_tokens", json=body)
        assert counted.json()["input_tokens"] > 10
        assert (await client.post("/v1/messages", content=b"{")).status_code == 400
        missing = await client.get("/v1/nothing")
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
        assert (await client.get("/v1/messages")).status_code == 405


async def test_the_first_byte_does_not_linger(server):
    """A bound that a slow machine keeps; measured it is about a millisecond with the client's own time."""
    body = json.dumps(server.body([TEXT]) | {"stream": True})
    took = []
    async with httpx.AsyncClient(base_url=server.url) as client:
        for _ in range(20):
            began = time.perf_counter()
            async with client.stream("POST", "/v1/messages", content=body) as response:
                await anext(response.aiter_raw())
                took.append(time.perf_counter() - began)
    assert sorted(took)[10] < 0.05


async def test_callers_see_the_requests(server):
    await server.ask(server.body([TEXT]))
    assert server.requests[0]["model"] == "claude-test"
    assert server.headers[0]["content-type"] == "application/json"
