"""Whatever one side writes, the other reads as the same: events, commands, outbox entries, previews."""

import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from cc_protocol import commands, events, keys, launch, outbox
from cc_protocol.ids import EVENT, SESSION, TURN, is_id, new_id


def models_of(union: Any) -> list[type[BaseModel]]:
    return list(typing.get_args(typing.get_args(union)[0]))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def from_schema(schema: dict[str, Any], definitions: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return from_schema(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return st.one_of([from_schema(option, definitions) for option in schema[key]])
    match schema.get("type"):
        case "string":
            return st.builds(lambda: new_id(EVENT)) if "pattern" in schema else st.text(min_size=1)
        case "integer":
            return st.integers(max(schema.get("minimum", -1000), -1000), min(schema.get("maximum", 10**9), 10**9))
        case "number":
            return st.floats(0, 1e9)
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(from_schema(schema.get("items", {}), definitions), max_size=3)
        case "object" if "properties" in schema:
            tags = {name for name, part in schema["properties"].items() if "const" in part}
            required = set(schema.get("required", ())) | tags
            parts = {name: from_schema(part, definitions) for name, part in schema["properties"].items()}
            return st.fixed_dictionaries(
                {n: s for n, s in parts.items() if n in required},
                optional={n: s for n, s in parts.items() if n not in required},
            )
        case "object":
            values = schema.get("additionalProperties")
            inner = from_schema(values, definitions) if isinstance(values, dict) else json_values
            return st.dictionaries(st.text(), inner, max_size=3)
        case "null":
            return st.none()
    return json_values


ADAPTERS = {
    "agent events": events.AGENT_BODY,
    "gateway events": events.GATEWAY_BODY,
    "previews": events.PREVIEW,
    "commands": commands.COMMAND,
    "outbox entries": outbox.ENTRY,
    "launch files": TypeAdapter(launch.Launch),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_written_is_read_back_as_the_same(name: str) -> None:
    adapter = ADAPTERS[name]
    schema = adapter.json_schema()

    @given(from_schema(schema, schema.get("$defs", {})))
    def check(value: Any) -> None:
        try:
            model = adapter.validate_python(value)
        except ValidationError as error:  # a name that the schema cannot spell, such as a reserved pattern
            assert {e["type"] for e in error.errors()} <= {"string_pattern_mismatch", "string_too_long"}  # noqa: PT017
            return
        again = adapter.validate_json(model.model_dump_json())
        assert again == model

    check()


@pytest.mark.parametrize("union", [events.AgentBody, events.GatewayBody, outbox.Entry, commands.Command])
def test_unknown_fields_are_refused(union: Any) -> None:
    for model in models_of(union):
        with pytest.raises(ValidationError, match="Extra inputs"):
            model.model_validate({"no_such_field": 1})


def test_an_agent_cannot_claim_what_only_the_gateway_says() -> None:
    gateway_only = {m.model_fields["type"].default for m in models_of(events.GatewayBody)} - {"session.error"}
    assert gateway_only.isdisjoint(m.model_fields["type"].default for m in models_of(events.AgentBody))
    for kind in gateway_only:
        with pytest.raises(ValidationError):
            events.AGENT_BODY.validate_python({"type": kind})


@given(st.sampled_from([SESSION, TURN, EVENT]))
def test_identifiers_are_well_formed_and_of_their_kind_alone(prefix: str) -> None:
    minted = new_id(prefix)
    assert is_id(minted, prefix)
    assert not any(is_id(minted, other) for other in (SESSION, TURN, EVENT) if other != prefix)


def test_identifiers_sort_by_time_and_do_not_repeat() -> None:
    first = new_id(SESSION)
    minted = {new_id(SESSION) for _ in range(10_000)}
    assert len(minted) == 10_000
    assert first[:14] <= min(minted)[:14]


@pytest.mark.parametrize(
    "text", ["", "sesn_", "sesn_../../../etc/passwd", "sesn_" + "u" * 26, "sesn_" + "0" * 26 + "\n"]
)
def test_what_is_no_identifier_is_refused(text: str) -> None:
    assert not is_id(text, SESSION)


def test_a_key_names_its_session_in_braces_so_that_a_cluster_keeps_it_together() -> None:
    session_id = new_id(SESSION)
    names = [
        keys.input_stream(session_id),
        keys.outbox_stream(session_id, 3),
        keys.preview_channel(session_id),
        keys.output_channel(session_id),
    ]
    assert len(set(names)) == 4
    assert all(f"{{{session_id}}}" in name and keys.session_of(name) == session_id for name in names)
