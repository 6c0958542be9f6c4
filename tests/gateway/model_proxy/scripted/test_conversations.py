"""The model finds its place in the script from the conversation, whatever the CLI has added to it.

The shapes were recorded from claude 2.1.329.
"""

import json

import pytest

from cc_gateway.model_proxy.scripted.conversation import read_conversation

SCRIPT = '```scenario\n[{"text": "one"}]\n```'


def text(said):
    return {"type": "text", "text": said}


def user(*content):
    return {"role": "user", "content": list(content)}


def result(said="ok"):
    return {"type": "tool_result", "tool_use_id": "t", "content": said}


CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]}
SAID = {"role": "assistant", "content": [text("said")]}
ENVIRONMENT = {"role": "system", "content": [text("# Environment\n…")]}
REMINDER = text("<system-reminder>\nAttribution …\n</system-reminder>\n")
FOLDED = "The user sent a new message while you were working:\n{}\n\nThis is how Claude Code surfaces messages …"
NOTICE = "<system-reminder>\n[SYSTEM NOTIFICATION - NOT USER INPUT]\n<task-notification>…</task-notification>\n</system-reminder>"

CASES = {
    "a first prompt": ([user(REMINDER, text("hi")), ENVIRONMENT], "hi", 0, 1),
    "a tool loop": ([user(text("hi")), CALL, user(result()), CALL, user(result())], "hi", 2, 1),
    "a prompt as a string": ([{"role": "user", "content": "hi"}, SAID, user(text("more"))], "more", 0, 2),
    "interrupted in a text": (
        [user(text("a")), SAID, user(text("[Request interrupted by user]\n"), text("b"))],
        "b",
        0,
        2,
    ),
    "interrupted in a tool": (
        [user(text("a")), CALL, user(result(), text("[Request interrupted by user for tool use]\n"), text("b"))],
        "b",
        0,
        2,
    ),
    "interrupted before the answer": (
        [user(text(SCRIPT + "\n"), text("[Request interrupted by user]\n"), text("b"))],
        "b",
        0,
        2,
    ),
    "a failed prompt, then another": ([user(text(SCRIPT + "\n"), text("b"))], "b", 0, 2),
    "a turn that ran out of turns": ([user(text("a")), CALL, user(result(), text("b"))], "b", 0, 2),
    "a kill and a resume": (
        [user(text("a")), CALL, user(result("[Tool call interrupted: …]")), SAID, user(text("b"))],
        "b",
        0,
        2,
    ),
    "a reminder beside a tool result": ([user(text("a")), CALL, user(result(), REMINDER)], "a", 1, 1),
    "a skill's body": (
        [user(text("a")), CALL, user(result(), text("Base directory for this skill: /x\n\nB"))],
        "a",
        1,
        1,
    ),
    "a command for the model": (
        [
            user(
                text(
                    "<command-message>foo</command-message>\n"
                    "<command-name>/foo</command-name>\n<command-args>x y</command-args>\n"
                )
            )
        ],
        "/foo x y",
        0,
        1,
    ),
    "a sub-agent's end": (
        [user(text("a")), CALL, user(result()), SAID, {"role": "user", "content": NOTICE}],
        "a",
        2,
        1,
    ),
    "a continuation": ([user(text("a")), SAID, user(text("Output token limit hit. Resume directly …"))], "a", 1, 1),
    "a stop hook": ([user(text("a")), SAID, user(text("Stop hook feedback:\n…"))], "a", 1, 1),
    "after compaction": (
        [
            {"role": "user", "content": "This session is being continued from a previous conversation …"},
            SAID,
            user(
                text("<local-command-caveat>…</local-command-caveat>\n"),
                text("<command-name>/compact</command-name>\n<command-message>compact</command-message>\n"),
                text("<local-command-stdout>Compacted </local-command-stdout>\n"),
                text("b"),
            ),
        ],
        "b",
        0,
        1,
    ),
    "a message folded into the turn": (
        [user(text("a")), CALL, user(result()), {"role": "system", "content": [text(FOLDED.format("psst"))]}],
        "a",
        1,
        2,
    ),
    "a folded message with a script": (
        [user(text("a")), CALL, user(result()), {"role": "system", "content": FOLDED.format("b\n" + SCRIPT)}],
        "b",
        0,
        2,
    ),
    "a file that is mentioned": (
        [
            user(text("<system-reminder>\nCalled the Read tool\n</system-reminder>")),
            user(REMINDER, text("look at @foo")),
        ],
        "look at @foo",
        0,
        1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_prompt_and_the_step_are_found_in(case):
    messages, prompt, step, prompts = CASES[case]
    talk = read_conversation({"messages": messages})
    assert (talk.prompt.words, talk.step, len(talk.prompts)) == (prompt, step, prompts)


def test_blocks_of_one_prompt_belong_together():
    image = {"type": "image", "source": {"type": "base64", "data": "aGVsbG8="}}
    stored = text("[Image: source: /tmp/1.png]")
    talk = read_conversation({"messages": [user(text("a"), image, text("b\n"), stored)]})
    assert (talk.prompt.words, talk.prompt.images, len(talk.prompts)) == ("a\nb", (5,), 1)


def test_an_image_that_a_tool_read_is_no_prompt():
    image = {"type": "image", "source": {"type": "base64", "data": "!"}}
    talk = read_conversation({"messages": [user(text("a")), CALL, user(result(), image)]})
    assert (talk.prompt.words, talk.step) == ("a", 1)


def test_a_summary_is_recognised():
    asked = "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools.\n…"
    talk = read_conversation({"messages": [user(text("list files")), SAID, {"role": "user", "content": asked}]})
    assert talk.compaction
    assert talk.all_prompts == "list files"


def test_the_place_is_the_same_when_the_cli_asks_again_in_other_words():
    first = {"messages": [user(text("a")), ENVIRONMENT]}
    again = {
        "messages": [user(text("a")), ENVIRONMENT, {"role": "system", "content": "ToolSearch is no longer available."}]
    }
    later = {"messages": [user(text("a")), ENVIRONMENT, SAID]}
    place = read_conversation(first).place("s")
    assert read_conversation(again).place("s") == place
    assert read_conversation(later).place("s") != place
    assert read_conversation(first).place("t") != place


@pytest.mark.parametrize("odd", [None, 1, [None, 1, {}], {"type": "text"}, [{"type": "text", "text": None}]])
def test_odd_shapes_are_passed_over(odd):
    body = {
        "messages": [{"role": "user", "content": odd}, {"role": "system", "content": odd}],
        "system": odd,
        "tools": odd,
    }
    talk = read_conversation(json.loads(json.dumps(body)))
    assert talk.prompt.words == ""


def test_the_last_tool_result_is_that_of_the_last_call_whichever_ended_first():
    calls = [{"type": "tool_use", "id": name, "name": "B", "input": {}} for name in "ab"]
    results = [{"type": "tool_result", "tool_use_id": name, "content": f"of {name}"} for name in "ba"]
    talk = read_conversation({"messages": [user(text("x")), {"role": "assistant", "content": calls}, user(*results)]})
    assert talk.last_tool_result == "of b"
