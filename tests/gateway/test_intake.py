"""What a container sends is read totally: nothing it can write stops the relay, doubles an entry or leaves a gap."""

import json
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_gateway.services import intake
from cc_gateway.services.intake import Batch, Malformed, parse
from cc_gateway.stores import record, sessions
from cc_gateway.stores.engine import Database
from cc_protocol.ids import EVENT, new_id

LIMIT = 100_000


def line(n: int) -> bytes:
    body = {"type": "agent.message", "content": [{"type": "text", "text": f"{n}"}]}
    return orjson.dumps({"kind": "lines", "n": n, "claims": [{"id": new_id(EVENT), "body": body}]})


def entries(*items: bytes | None) -> list[tuple[bytes, bytes | None]]:
    return [(b"%d-0" % index, item) for index, item in enumerate(items)]


def taken(batch: Batch) -> list[int]:
    return [item.n for item in batch.items if not isinstance(item, Malformed)]


def noted(batch: Batch) -> list[str]:
    return [item.text for item in batch.items if isinstance(item, Malformed)]


@given(st.lists(st.integers(1, 12), max_size=40), st.integers(0, 5))
def test_entries_are_taken_once_each_in_order_whatever_comes_again_or_is_missing(ns: list[int], before: int) -> None:
    batch = parse(entries(*(line(n) for n in ns)), before, LIMIT)
    assert taken(batch) == list(range(before + 1, before + 1 + len(batch.items)))
    assert len(batch.ids) == len(ns)
    assert batch.gap or max(ns, default=0) <= before + len(batch.items)


def test_what_stands_behind_a_gap_waits_until_it_is_sent_again() -> None:
    batch = parse(entries(line(1), line(3), line(4)), 0, LIMIT)
    assert taken(batch) == [1]
    assert batch.gap


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@given(st.lists(st.binary(max_size=60) | json_values.map(as_json) | st.none(), max_size=10))
def test_no_bytes_at_all_stop_the_reading(items: list[bytes | None]) -> None:
    batch = parse(entries(*items, line(1)), 0, LIMIT)
    assert len(batch.ids) == len(items) + 1
    assert taken(batch) == [1]


HOSTILE = {
    "too deep": b'{"kind":"lines","n":1,"claims":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "too long": b'{"kind":"lines","n":1,"raw":"' + b"x" * LIMIT + b'"}',
    "no such outcome": b'{"kind":"turn_end","n":1,"turn_id":"t","outcome":"won"}',
    "an id that is a path": b'{"kind":"lines","n":1,"claims":[{"id":"../x","body":{"type":"agent.message","content":[]}}]}',
    "the gateway's word": b'{"kind":"lines","n":1,"claims":[{"id":"%s","body":{"type":"turn.completed"}}]}'
    % new_id(EVENT).encode(),
    "a number no database holds": b'{"kind":"turn_end","n":1,"turn_id":"t","outcome":"completed","num_turns":'
    + b"9" * 40
    + b"}",
    "a negative cost": b'{"kind":"turn_end","n":1,"turn_id":"t","outcome":"completed","cost_usd":-1}',
    "an endless cost": b'{"kind":"turn_end","n":1,"turn_id":"t","outcome":"completed","cost_usd":Infinity}',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_entry_that_cannot_be_read_is_noted_and_what_follows_is_taken(what: str) -> None:
    batch = parse(entries(HOSTILE[what], line(2)), 0, LIMIT)
    assert [item.n for item in batch.items] == [1, 2]
    assert not batch.gap
    assert len(noted(batch)) == 1
    assert len(noted(batch)[0]) < LIMIT


@pytest.mark.parametrize(
    "item",
    [
        b"\xff\xfe",
        b"",
        b"{}",
        b'{"kind":"lines","n":' + b"9" * 30 + b',"claims":[]}',
    ],
)
def test_an_entry_without_a_number_is_noted_beside_the_others(item: bytes) -> None:
    batch = parse(entries(item, line(1)), 0, LIMIT)
    assert taken(batch) == [1]
    assert len(noted(batch)) == 1
    assert not batch.gap


async def test_whatever_the_database_refuses_is_recorded_escaped_and_stops_nothing(
    database: Database, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The offender is played by a storing that fails: no known entry gets this far."""
    storing = intake._apply

    async def refuses_three(recording: Any, incarnation: int, entry: Any) -> None:
        if entry.n == 3:
            raise OverflowError
        await storing(recording, incarnation, entry)

    monkeypatch.setattr(intake, "_apply", refuses_three)
    async with database.write() as connection:
        fence = await record.claim(connection, session_id)
    assert fence is not None
    batch = parse(entries(*(line(n) for n in range(1, 7))), 0, LIMIT)
    fence, events = await intake.take(database, session_id, fence, batch.items)
    assert fence.outbox_n == 6
    assert [event.type for event in events] == ["agent.message"] * 2 + ["cli.event"] + ["agent.message"] * 3


async def test_a_container_cannot_keep_itself_awake_by_saying_that_it_is_ready(
    database: Database, session_id: str
) -> None:
    async def says_ready(n: int) -> tuple[list[str], datetime | None]:
        """What is recorded of it, and since when the session rests."""
        nonlocal fence
        assert fence is not None
        item = orjson.dumps({"kind": "ready", "n": n, "cli_version": "1", "resumed": False})
        fence, events = await intake.take(database, session_id, fence, parse(entries(item), n - 1, LIMIT).items)
        async with database.read() as connection:
            session = await sessions.get(connection, session_id)
        assert session is not None
        return [event.type for event in events], session.idle_since

    async with database.write() as connection:
        fence = await record.claim(connection, session_id)
    kinds, since = await says_ready(1)
    assert kinds == ["session.status_idle"], "positive control: the first counts"
    assert since is not None
    assert await says_ready(2) == ([], since)
