"""Without a scenario the model gives a friendly demonstration, and says what it is."""

BASH = {"name": "Bash", "input_schema": {"type": "object"}}
LISTING = (
    "total 8\n"
    "drwxr-xr-x 2 root root 4096 Nov 21 01:44 .\n"
    "drwxr-xr-x 2 root root 4096 Nov 21 01:44 ..\n"
    "-rw-r--r-- 1 root root   12 Nov 21 01:44 a file.txt\n"
    "-rw-r--r-- 1 root root   12 Nov 21 01:44 b.txt"
)


def body(prompt, *more, **extra):
    messages = [{"role": "user", "content": prompt}, *more]
    return {"model": "m", "max_tokens": 9, "messages": messages, "tools": [BASH]} | extra


async def test_asked_for_files_it_calls_bash_and_reports(server):
    prompt = "Which files are here?"
    first = (await server.ask(body(prompt))).json()
    said, call = first["content"]
    assert "ls -la" in said["text"]
    assert (call["name"], call["input"]["command"], first["stop_reason"]) == ("Bash", "ls -la", "tool_use")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": LISTING}
    more = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    answer = (await server.ask(body(prompt, *more))).json()["content"][0]["text"]
    assert "There are 2 files in the workspace: a file.txt, b.txt." in answer
    assert prompt in answer
    for name in ("scripted model", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CC_MODEL_URL"):
        assert name in answer


async def test_without_bash_or_without_files_it_just_answers(server):
    for asked in (body("list the files", tools=[]), body("Good morning")):
        message = (await server.ask(asked)).json()
        assert [block["type"] for block in message["content"]] == ["text"]
        assert message["content"][0]["text"].startswith("Hello from CC-Docker!")


async def test_the_answer_is_seen_to_stream(server):
    events = await server.stream(body("Good morning"))
    assert sum(event["type"] == "content_block_delta" for event in events) > 5


async def test_what_people_say_is_no_template(server):
    assert "{ {turn}}" in (await server.ask(body("{{turn}}"))).json()["content"][0]["text"]


async def test_a_summary_tells_what_was_said_and_calls_no_tool(server):
    asked = {"role": "user", "content": "CRITICAL: Respond with TEXT ONLY. … list files …"}
    message = (await server.ask(body("look at the files", {"role": "assistant", "content": "x"}, asked))).json()
    assert [block["type"] for block in message["content"]] == ["text"]
    assert "<summary>\nThe user said so far:\n- look at the files\n</summary>" in message["content"][0]["text"]


async def test_structured_output_gets_an_example_of_its_schema(server):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "n": {"type": "integer"}, "c": {"enum": ["x"]}, "l": {"type": "array"}},
        "required": ["a", "n", "c", "l"],
    }
    tools = [{"name": "StructuredOutput", "input_schema": schema}]
    message = (await server.ask(body("files as JSON", tools=tools))).json()
    assert message["content"][0]["input"] == {"a": "scripted", "n": 0, "c": "x", "l": []}
