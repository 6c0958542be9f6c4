"""Scenarios: where they come from, what they may say, and how they say what is wrong with them."""

import json

import pytest

from cc_gateway.model_proxy.scripted import ScenarioError, load_scenario_file, parse_scenario, parse_script


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("[{", "not JSON"),
        ("[]", "steps"),
        ("[{}]", "steps[0]: Value error, an empty step"),
        ('[{"text": "a"}, {"txt": "b"}]', "steps[1].txt: Extra inputs"),
        ('[{"text": "a", "tool": "B"}]', "text and tool stand together"),
        ('[{"text": "a", "input": {}}]', "`input` goes with `tool`"),
        ('[{"error": {"status": 200}}]', "steps[0].error.status"),
        ('[{"text": "a", "delay_ms": "5"}]', "steps[0].delay_ms"),
        ('[{"text": "a", "cut": {"after_deltas": -1}}]', "steps[0].cut.after_deltas"),
        ('[{"blocks": [{"repeat_text": 2}]}]', "steps[0].blocks[0]"),
        ('[{"text": "abcdefgh", "repeat_text": 9999999}]', "longer than"),
        ('{"step": []}', "step: Extra inputs"),
        ("7", "scenario"),
    ],
)
async def test_an_invalid_scenario_says_what_is_wrong_and_where(server, source, said):
    with pytest.raises(ScenarioError) as raised:
        parse_script(source)
    assert said in str(raised.value)
    body = server.body([]) | {"messages": [{"role": "user", "content": f"```scenario\n{source}\n```"}]}
    response = await server.ask(body)
    assert response.status_code == 400
    assert response.json()["error"] == {"type": "invalid_request_error", "message": str(raised.value)}


async def test_an_unclosed_scenario_is_an_error_and_not_a_demonstration(server):
    body = server.body([]) | {"messages": [{"role": "user", "content": '```scenario\n[{"text": "a"}]'}]}
    response = await server.ask(body)
    assert response.status_code == 400
    assert "no closing" in response.json()["error"]["message"]


async def test_a_scenario_may_stand_anywhere_and_in_either_form(server):
    for source in ('[{"text": "mine"}]', '{"steps": [{"text": "mine"}]}'):
        prompt = f"before\r\n  ```scenario\r\n{source}\r\n  ```\r\nand after"
        body = server.body([]) | {"messages": [{"role": "user", "content": prompt}]}
        assert (await server.ask(body)).json()["content"][0]["text"] == "mine"


async def test_rules_from_a_file_answer_the_prompts_they_match(serve, tmp_path):
    path = tmp_path / "scenario.json"
    rules = [{"match": "(?i)weather", "steps": [{"text": "rain"}]}, {"match": None, "steps": [{"text": "else"}]}]
    path.write_text(json.dumps(rules))
    server = serve(load_scenario_file(path))
    for prompt, said in (("The Weather?", "rain"), ("hm", "else"), ('```scenario\n[{"text":"own"}]\n```', "own")):
        body = server.body([]) | {"messages": [{"role": "user", "content": prompt}]}
        assert (await server.ask(body)).json()["content"][0]["text"] == said


def test_a_file_that_is_wrong_is_named(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('[{"match": "(", "steps": [{"text": "a"}]}]')
    with pytest.raises(ScenarioError, match=r"bad\.json.*rules\[0\]\.match.*regular expression"):
        load_scenario_file(path)
    with pytest.raises(ScenarioError):
        parse_scenario('[{"steps": []}]')


TOOL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "B", "input": {}}]}


def result(content):
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": content}]}


async def say(server, text, *more, **extra):
    body = server.body([TOOL_STEP, {"text": text}] if more else [{"text": text}], **extra)
    body["messages"] += more
    return (await server.ask(body)).json()["content"][0]["text"]


TOOL_STEP = {"tool": "B", "input": {}}


async def test_templates_tell_of_the_conversation(server):
    extra = {"system": [{"type": "text", "text": "be kind"}], "tools": [{"name": "A"}, {"name": "B"}]}
    said = await say(
        server,
        "{{prompt}}/{{turn}}/{{all_prompts}}/{{tools}}/{{images}}/{{system_contains:kind}}{{system_contains:cruel}}/{{who}}",
        **extra,
    )
    assert said == "go/1/go/A, B/0/yesno/{{who}}"


async def test_a_tool_result_can_be_quoted_whole_or_in_part(server):
    assert await say(server, "<{{last_tool_result}}>", TOOL, result("{{turn}}")) == "<{{turn}}>"
    listed = [{"type": "text", "text": '{"a": [{"b": "deep"}], "n": 7}'}]
    assert await say(server, "{{last_tool_result.a.0.b}} {{last_tool_result.n}}", TOOL, result(listed)) == "deep 7"
    assert "no x.y" in await say(server, "{{last_tool_result.x.y}}", TOOL, result("plain"))


async def test_tool_inputs_are_filled_but_scripts_in_them_are_left_to_their_reader(server):
    inner = '{{prompt}}\n```scenario\n[{"text": "{{prompt}}"}]\n```'
    message = (await server.ask(server.body([{"tool": "Task", "input": {"deep": [inner]}}]))).json()
    assert message["content"][0]["input"] == {"deep": ['go\n```scenario\n[{"text": "{{prompt}}"}]\n```']}


async def test_images_are_counted_with_their_sizes(server):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
    text = {"type": "text", "text": '```scenario\n[{"text": "{{images}}"}]\n```'}
    body = server.body([]) | {"messages": [{"role": "user", "content": [image, text, image]}]}
    assert (await server.ask(body)).json()["content"][0]["text"] == "2 (5 bytes, 5 bytes)"


async def test_after_the_last_step_the_model_is_done(server):
    body = server.body([{"text": "one"}])
    body["messages"] += [
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "<system-reminder>x</system-reminder>"},
    ]
    assert (await server.ask(body)).json()["content"][0]["text"] == "done"
