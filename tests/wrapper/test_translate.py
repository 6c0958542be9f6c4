"""What a line of the CLI means. Samples are cut down from streams of the real 2.1.197 and 2.1.329."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cc_protocol.events import AGENT_BODY, EventDelta, EventStart
from cc_protocol.outbox import ENTRY, Claim, Lines
from cc_wrapper.translate.line import parse, text_of
from cc_wrapper.translate.meaning import Meaning, PromptState, RunResult, StateChange
from cc_wrapper.translate.stream import coalesced
from cc_wrapper.translate.translator import Translator
from cc_wrapper.turn import Turn

Line = dict[str, Any]


def assistant(*blocks: Line, message_id: str = "msg_1", parent: str | None = None, **more: Any) -> Line:
    message = {
        "id": message_id,
        "role": "assistant",
        "model": "opus",
        "content": list(blocks),
        "usage": {"input_tokens": 3},
    }
    return {"type": "assistant", "message": message, "parent_tool_use_id": parent, **more}


def streamed(parent: str | None = None, **event: Any) -> Line:
    return {"type": "stream_event", "event": event, "parent_tool_use_id": parent}


def start(message_id: str = "msg_1", parent: str | None = None) -> Line:
    message = {"id": message_id, "model": "opus", "usage": {"input_tokens": 7, "output_tokens": 1}}
    return streamed(parent, type="message_start", message=message)


def tool_result(content: Any, call: str = "toolu_1", parent: str | None = None, **more: Any) -> Line:
    block = {"type": "tool_result", "tool_use_id": call, "content": content, **more}
    return {"type": "user", "message": {"role": "user", "content": [block]}, "parent_tool_use_id": parent}


def tool_use(name: str = "Bash", call: str = "toolu_1") -> Line:
    return {"type": "tool_use", "id": call, "name": name, "input": {"a": 1}}


def result(**more: Any) -> Line:
    return {"type": "result", "subtype": "success", "is_error": False, "result": "x", "usage": {}, **more}


def said(*lines: Line, servers: tuple[str, ...] = ()) -> list[Claim]:
    translator = Translator(servers)
    return [claim for line in lines for claim in translator.line(line).claims]


def types(claims: list[Claim]) -> list[str]:
    return [claim.body.type for claim in claims]


# ---------------------------------------------------------------- it never raises

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
WORDS = [
    *("assistant", "user", "system", "result", "stream_event", "command_lifecycle", "text", "thinking", "tool_use"),
    *("message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "api_retry"),
    *("text_delta", "tool_result", "compact_boundary", "session_state_changed", "init", "success", "msg_1", "toolu_1"),
]
FIELDS = [
    *("type", "subtype", "message", "content", "id", "event", "index", "delta", "content_block", "usage", "name"),
    *("input", "tool_use_id", "parent_tool_use_id", "modelUsage", "total_cost_usd", "errors", "user_message_uuids"),
    *("text", "model", "is_error", "stop_reason", "compact_metadata", "command_uuid", "state", "error_status"),
]
LIKELY = st.recursive(
    st.sampled_from(WORDS) | JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), LIKELY, max_size=8), max_size=8))
def test_any_sequence_of_json_objects_becomes_valid_entries(lines: list[Line]) -> None:
    translator = Translator(["a", "b__c"])
    for line in lines:
        parsed = parse(orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS)) if _fits(line) else None
        meaning = translator.unparsable("x") if parsed is None else translator.line(parsed)
        data = Lines(n=1, claims=meaning.claims).model_dump_json()
        assert ENTRY.validate_json(data).claims == meaning.claims
        coalesced(meaning.previews)
    for claim in translator.end():
        AGENT_BODY.validate_python(claim.body)


def _fits(line: Line) -> bool:
    try:
        orjson.dumps(line)
    except TypeError:
        return False
    return True


EXTREME = st.sampled_from([-1, 2**53 + 1, 10**30, -1.5, 1e300, "w" * 300_000, None, True, [], {}, {"input_tokens": -5}])


@settings(deadline=None)
@given(st.data())
def test_values_beyond_every_bound_are_cut_or_left_out(data: st.DataObject) -> None:
    fields = ["error_status", "attempt", "max_retries", "retry_delay_ms", "error", "total_cost_usd", "usage", "result"]
    fields += ["duration_ms", "num_turns", "stop_reason", "subtype", "api_error_status", "api_error_type", "modelUsage"]
    odd = {field: data.draw(EXTREME) for field in fields}
    metadata = {field: data.draw(EXTREME) for field in ("trigger", "pre_tokens", "post_tokens")}
    turn = Turn("turn_1", "u")
    translator = Translator()
    for line in (
        {**odd, "type": "system", "subtype": "api_retry"},
        {"type": "system", "subtype": "compact_boundary", "compact_metadata": metadata},
        start(),
        streamed(type="message_delta", delta={"stop_reason": odd["stop_reason"]}, usage=odd["usage"]),
        {**odd, "type": "result", "is_error": data.draw(st.booleans())},
        {**odd, "type": "result", "is_error": True, "subtype": "success"},
        {**odd, "type": "quite " * 100},
    ):
        meaning = translator.line(line)
        Lines(n=1, claims=meaning.claims)
        if meaning.signal:
            turn.note(meaning.signal)
    turn.end(1)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_nothing(line: bytes) -> None:
    assert parse(line) is None or isinstance(parse(line), dict)
    orjson.dumps(text_of(line))


@pytest.mark.parametrize(
    "line",
    [
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"a": NaN}',
        b"[1]",
        b"null",
        b'"x"',
        b"{",
    ],
)
def test_what_no_database_would_take_is_not_passed_on_as_json(line: bytes) -> None:
    parsed = parse(line)
    assert parsed is None or isinstance(parsed["a"], float)


def test_half_a_surrogate_pair_costs_one_character_and_not_the_line() -> None:
    assert parse(rb'{"type": "result", "result": "caf\u00e9 \ud83d"}') == {"type": "result", "result": "café ?"}


# ---------------------------------------------------------------- what the agent says


def test_each_block_becomes_an_event() -> None:
    line = assistant({"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi."}, tool_use())
    thinking, message, call = [claim.body for claim in said(line)]
    assert (thinking.thinking, message.content, message.model) == ("Hm.", [{"type": "text", "text": "Hi."}], "opus")
    assert (call.name, call.input, call.cli_tool_use_id) == ("Bash", {"a": 1}, "toolu_1")


def test_an_announced_block_keeps_its_id() -> None:
    translator = Translator()
    translator.line(start())
    blocks = [{"type": "thinking", "thinking": ""}, {"type": "text", "text": ""}, tool_use("mcp__s__t")]
    announced = []
    for index, block in enumerate(blocks):
        announced += translator.line(streamed(type="content_block_start", index=index, content_block=block)).previews
    assert [one.event.type for one in announced] == ["agent.thinking", "agent.message", "agent.mcp_tool_use"]
    for block, preview in reversed(list(zip(blocks, announced, strict=True))):
        [claim] = translator.line(assistant(block)).claims
        assert (claim.id, claim.body.type) == (preview.event.id, preview.event.type)


def test_two_texts_of_one_message_keep_their_order_of_ids() -> None:
    translator = Translator()
    translator.line(start())
    block = {"type": "text", "text": ""}
    ids = [
        translator.line(streamed(type="content_block_start", index=index, content_block=block)).previews[0].event.id
        for index in (0, 1)
    ]
    assert [translator.line(assistant({"type": "text", "text": word})).claims[0].id for word in "ab"] == ids


def test_a_synthetic_message_is_a_message() -> None:
    line = assistant({"type": "text", "text": "API Error"}, error="server_error")
    line["message"]["model"] = "<synthetic>"
    assert types(said(line)) == ["agent.message"]


def test_a_block_without_a_meaning_brings_the_line_along() -> None:
    claims = said(assistant({"type": "text", "text": "a"}, {"type": "server_tool_use", "id": "srv_1"}))
    assert types(claims) == ["agent.message", "cli.event"]
    assert claims[1].body.name == "assistant"


@pytest.mark.parametrize(
    ("name", "servers", "expected"),
    [
        ("mcp__S__T", (), ("S", "T")),
        ("mcp__a__b__T", ("a__b",), ("a__b", "T")),
        ("mcp__a__b__T", ("a", "a__b"), ("a__b", "T")),
        ("mcp__a__b__T", ("a",), ("a", "b__T")),
        ("mcp__my_server__T", ("my server",), ("my server", "T")),
        ("mcp__a__b__", ("a__b",), ("a", "b__")),
    ],
)
def test_an_mcp_tool_is_split_by_the_servers_that_there_are(name: str, servers: tuple[str, ...], expected: Any) -> None:
    [claim] = said(assistant(tool_use(name)), servers=servers)
    assert (claim.body.mcp_server_name, claim.body.name) == expected


# ---------------------------------------------------------------- what tools answer


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("out", [{"type": "text", "text": "out"}]),
        (None, []),
        ([{"type": "image", "source": {"data": "AAAA"}}], [{"type": "image", "source": {"data": "AAAA"}}]),
        (["x"], [{"type": "text", "text": "x"}]),
    ],
)
def test_a_result_is_a_list_of_blocks_and_names_its_call(content: Any, expected: Any) -> None:
    call, answer = said(assistant(tool_use()), tool_result(content, is_error=True))
    assert (answer.body.content, answer.body.tool_use_id, answer.body.is_error) == (expected, call.id, True)


def test_an_mcp_result_names_its_mcp_call() -> None:
    call, answer = said(assistant(tool_use("mcp__s__t")), tool_result("x"))
    assert (answer.body.type, answer.body.mcp_tool_use_id) == ("agent.mcp_tool_result", call.id)


def test_a_result_of_an_unknown_call_is_passed_on_as_it_came() -> None:
    assert types(said(tool_result("x"))) == ["cli.event"]


def test_what_a_sub_agent_does_names_the_call_that_began_it() -> None:
    outer, inner, answer = said(
        assistant(tool_use("Task", "toolu_0")),
        assistant(tool_use("Bash", "toolu_1"), message_id="msg_2", parent="toolu_0"),
        tool_result("x", parent="toolu_0"),
    )
    assert inner.body.parent_tool_use_id == answer.body.parent_tool_use_id == outer.id
    assert answer.body.tool_use_id == inner.id


# ---------------------------------------------------------------- streams


def test_a_request_starts_and_ends_with_its_usage() -> None:
    begin, end = said(
        start(),
        streamed(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}),
        streamed(type="message_stop"),
    )
    assert end.body.model_request_start_id == begin.id
    assert (end.body.model_usage.input_tokens, end.body.model_usage.output_tokens) == (7, 5)
    assert (end.body.stop_reason, end.body.is_error) == ("end_turn", False)


@pytest.mark.parametrize(
    "then",
    [
        start("msg_2"),
        assistant({"type": "text", "text": "B"}, message_id="msg_2"),
        {"type": "system", "subtype": "api_retry", "attempt": 1},
        result(),
        streamed(type="message_stop"),
    ],
)
def test_a_message_that_is_cut_off_is_closed_as_an_error_once(then: Line) -> None:
    claims = said(start(), then, result())
    ends = [claim.body for claim in claims if claim.body.type == "span.model_request_end"]
    assert ends[0].model_request_start_id == claims[0].id
    assert [one.is_error for one in ends] == [True] * len(ends)
    assert len({one.model_request_start_id for one in ends}) == len(ends)


def test_streams_of_sub_agents_run_beside_the_main_one() -> None:
    claims = said(assistant(tool_use("Task")), start(), start("msg_2", parent="toolu_1"))
    assert types(claims[1:]) == ["span.model_request_start", "span.model_request_start"]
    assert claims[2].body.parent_tool_use_id == claims[0].id


def test_neighbouring_pieces_of_one_event_become_one() -> None:
    translator = Translator()
    translator.line(start())
    previews: list[EventStart | EventDelta] = []
    for index, words in ((0, "abc"), (1, "de")):
        block = {"type": "text", "text": ""}
        previews += translator.line(streamed(type="content_block_start", index=index, content_block=block)).previews
        for word in words:
            delta = {"type": "text_delta", "text": word}
            previews += translator.line(streamed(type="content_block_delta", index=index, delta=delta)).previews
    out = coalesced(previews)
    assert [one.delta.content["text"] for one in out if isinstance(one, EventDelta)] == ["abc", "de"]
    assert len(out) == 4


# ---------------------------------------------------------------- ends, errors, the rest


def test_the_cost_of_a_run_is_what_was_added_and_clear_begins_anew() -> None:
    lines = [result(total_cost_usd=total) for total in (0.25, 0.75, 0.125)]
    assert [claim.body.cost_usd for claim in said(*lines)] == [0.25, 0.5, 0.125]


def test_the_context_is_as_full_as_the_last_request_left_it() -> None:
    models = {"opus": {"contextWindow": 200_000}, "haiku": {"contextWindow": 1}}
    claims = said(assistant({"type": "text", "text": "x"}), result(modelUsage=models))
    assert (claims[-1].body.context.used_tokens, claims[-1].body.context.max_tokens) == (3, 200_000)


@pytest.mark.parametrize(
    ("line", "aborted", "detail", "error"),
    [
        (result(), False, None, None),
        (result(is_error=True, api_error_status=429), False, None, "model_rate_limited_error"),
        (result(is_error=True, api_error_status=529), False, None, "model_overloaded_error"),
        (result(is_error=True, api_error_status=401), False, None, "authentication_error"),
        (result(is_error=True, api_error_status=400), False, None, "model_request_failed_error"),
        (result(is_error=True, api_error_status=None), False, None, "model_request_failed_error"),
        (result(is_error=True, stop_reason="refusal"), False, "refusal", "refusal"),
        (result(subtype="error_max_turns", is_error=True), False, "max_turns", "max_turns"),
        (result(subtype="error_max_budget_usd", is_error=True), False, "max_budget_usd", "max_budget_usd"),
        (
            result(subtype="error_during_execution", is_error=True, terminal_reason="aborted_tools"),
            True,
            None,
            "error_during_execution",
        ),
        (result(terminal_reason="aborted_streaming"), True, None, None),
    ],
)
def test_a_result_says_how_the_run_ended(line: Line, aborted: bool, detail: str | None, error: str | None) -> None:
    signal = Translator().line(line).signal
    assert isinstance(signal, RunResult)
    assert (signal.aborted, signal.detail, signal.error and signal.error.type) == (aborted, detail, error)


def test_an_overloaded_model_is_known_by_the_message_before_where_the_status_is_missing() -> None:
    translator = Translator()
    translator.line(assistant({"type": "text", "text": "no"}, error="overloaded"))
    signal = translator.line(result(is_error=True, api_error_status=None)).signal
    assert isinstance(signal, RunResult)
    assert signal.error is not None
    assert signal.error.type == "model_overloaded_error"


def test_a_retry_is_told_with_its_numbers() -> None:
    line = {"attempt": 2, "max_retries": 10, "retry_delay_ms": 612.7, "error_status": 429, "error": "rate_limit"}
    [claim] = said({"type": "system", "subtype": "api_retry", **line})
    error = claim.body.error
    assert (error.type, error.retry_status.type, error.http_status) == ("model_rate_limited_error", "retrying", 429)
    assert (error.attempt, error.max_retries, error.retry_delay_ms) == (2, 10, 612.7)


def test_a_compaction_is_told() -> None:
    metadata = {"trigger": "auto", "pre_tokens": 120, "post_tokens": 56}
    [claim] = said({"type": "system", "subtype": "compact_boundary", "compact_metadata": metadata})
    assert (claim.body.trigger, claim.body.pre_tokens, claim.body.post_tokens) == ("auto", 120, 56)


@pytest.mark.parametrize(
    "line",
    [
        {"type": "system", "subtype": "init", "tools": []},
        {"type": "rate_limit_event", "rate_limit_info": {}},
        {"type": "quite_new"},
        {"type": 7},
        {},
        {"type": "user", "message": {"role": "user", "content": "words"}},
    ],
)
def test_what_has_no_meaning_is_passed_on_whole(line: Line) -> None:
    [claim] = said(line)
    assert (claim.body.type, claim.body.line) == ("cli.event", line)


@pytest.mark.parametrize(
    "line",
    [
        {"type": "control_response", "response": {}},
        {"type": "control_request", "request": {}},
        {"type": "user", "isReplay": True, "message": {"role": "user", "content": "x"}},
        {"type": "system", "subtype": "thinking_tokens", "estimated_tokens": 1},
    ],
)
def test_the_wrappers_own_business_is_no_event(line: Line) -> None:
    assert Translator().line(line) == Meaning()


def test_states_are_signals() -> None:
    translator = Translator()
    idle = translator.line({"type": "system", "subtype": "session_state_changed", "state": "idle"})
    prompt = translator.line({"type": "command_lifecycle", "command_uuid": "u", "state": "completed"})
    assert (idle.signal, prompt.signal) == (StateChange(idle=True), PromptState("u", "completed"))
