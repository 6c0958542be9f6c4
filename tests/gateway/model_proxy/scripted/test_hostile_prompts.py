"""Prompts come from anybody: none may keep the model busy for long, or make it hold much."""

import json

import pytest

pytestmark = pytest.mark.timeout(20)
MANY = 100_000


@pytest.mark.parametrize(
    "prompt",
    [
        "```scenario\n" * MANY,
        "<system-reminder>" * MANY,
        "<command-message>" + "<command-name>" * MANY,
        "<command-message><command-name></command-name>" + " " * MANY + "<command-args>" * MANY,
        "```scenario\n" + " " * MANY + "\n" * MANY,
        "\n" * MANY + " \t" * MANY,
        '```scenario\n[{"text": "{{prompt:' + " " * MANY + '"}]\n```',
        '```scenario\n[{"text": "' + "{{ " * MANY + '"}]\n```',
    ],
    ids=range(8),
)
async def test_odd_prompts_are_answered_at_once(server, prompt):
    body = {"model": "m", "max_tokens": 1}
    for role in ("user", "system"):
        messages = [{"role": "user", "content": "hello"}, {"role": role, "content": [{"type": "text", "text": prompt}]}]
        response = await server.ask(body | {"messages": messages})
        assert response.status_code in (200, 400)


async def test_folded_messages_without_an_end_are_passed_over(server):
    text = "The user sent a new message while you were working:\n" * MANY
    messages = [{"role": "user", "content": "hello"}, {"role": "system", "content": text}]
    response = await server.ask({"model": "m", "max_tokens": 1, "messages": messages})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "step",
    [
        {"text": "{{prompt}}" * 1000},
        {"text": "{{prompt}}", "repeat_text": 10_000},
        {"text": ["{{prompt}}"] * 1000},
        {"tool": "T", "input": {"all": ["{{prompt}}"] * 1000}},
        {"blocks": [{"text": "x" * 1000, "repeat_text": 10_000}] * 100},
    ],
    ids=["texts", "repeats", "chunks", "inputs", "blocks"],
)
async def test_what_a_reply_holds_is_bounded(server, step):
    response = await server.ask(server.body([step], prompt="p" * MANY))
    assert response.status_code == 200
    assert len(response.content) < 20_000_000


async def test_a_deep_tool_input_is_refused(server):
    deep = json.loads("[" * 200 + "]" * 200)
    response = await server.ask(server.body([{"tool": "T", "input": {"a": deep}}]))
    assert (response.status_code, "nested" in response.text) == (400, True)


async def test_more_deltas_than_can_be_are_refused_or_joined(server):
    assert (await server.ask(server.body([{"text": [""], "repeat_text": 10_000_000}]))).status_code == 400
    reply = await server.ask(server.body([{"text": "abc", "repeat_text": 50_000, "chunk_chars": 1}]) | {"stream": True})
    assert reply.text.count("text_delta") <= 100_000
