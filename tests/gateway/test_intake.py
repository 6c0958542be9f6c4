"""What a container sends is read totally: nothing it can write stops the relay, doubles an entry or leaves a gap."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from cc_gateway.services.intake import parse
from cc_protocol.ids import EVENT, new_id

LIMIT = 100_000


def line(n: int) -> bytes:
    body = {"type": "agent.message", "content": [{"type": "text", "text": f"{n}"}]}
    return orjson.dumps({"kind": "lines", "n": n, "claims": [{"id": new_id(EVENT), "body": body}]})


def entries(*items: bytes | None) -> list[tuple[bytes, bytes | None]]:
    return [(b"%d-0" % index, item) for index, item in enumerate(items)]


@given(st.lists(st.integers(1, 12), max_size=40), st.integers(0, 5))
def test_entries_are_taken_once_each_in_order_whatever_comes_again_or_is_missing(ns: list[int], taken: int) -> None:
    batch = parse(entries(*(line(n) for n in ns)), taken, LIMIT)
    numbers = [entry.n for entry in batch.entries]
    assert numbers == list(range(taken + 1, taken + 1 + len(numbers)))
    assert len(batch.ids) == len(ns)
    assert not batch.malformed


def test_what_stands_behind_a_gap_waits_until_it_is_sent_again() -> None:
    batch = parse(entries(line(1), line(3), line(4)), 0, LIMIT)
    assert [entry.n for entry in batch.entries] == [1]
    assert batch.gap


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def as_json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode("utf-8", "surrogatepass")


@given(st.lists(st.binary(max_size=60) | json_values.map(as_json) | st.none(), max_size=10))
def test_no_bytes_at_all_stop_the_reading(items: list[bytes | None]) -> None:
    batch = parse(entries(*items, line(1)), 0, LIMIT)
    assert len(batch.ids) == len(items) + 1
    assert [entry.n for entry in batch.entries] == [1]


def test_hostile_entries_are_put_aside_with_an_excerpt() -> None:
    deep = b'{"kind":"lines","n":1,"claims":' + b"[" * 5000 + b"]" * 5000 + b"}"
    hostile = [
        deep,
        b"x" * (LIMIT + 1),
        b'{"kind":"lines","n":99999999999999999999999999,"claims":[]}',
        b'{"kind":"turn_end","n":1,"turn_id":"t","outcome":"won"}',
        b'{"kind":"lines","n":1,"claims":[{"id":"../../x","body":{"type":"agent.message","content":[]}}]}',
        b'{"kind":"lines","n":1,"claims":[{"id":"%s","body":{"type":"turn.completed"}}]}' % new_id(EVENT).encode(),
        b'{"kind":"lines","n":0,"claims":[]}',
        b'{"kind":"lines","n":true,"claims":[]}',
        b"\xff\xfe",
        b"",
    ]
    for item in hostile:
        batch = parse(entries(item, line(1)), 0, LIMIT)
        assert [entry.n for entry in batch.entries] == [1], item[:80]
        assert len(batch.malformed) == 1 or batch.gap, item[:80]
        assert all(len(text) < LIMIT for text in batch.malformed)
