"""Following a session: every recorded event exactly once and in order, however often the connection breaks."""

import asyncio
import random
from contextlib import aclosing

import pytest

from cc_client import ApiError, Client, Event, Preview, Unreachable
from client.stub_gateway import TOKEN, Connection, StubGateway, event, preview_delta, preview_start, serving

TOTAL = 60


def _busy(stub: StubGateway) -> str:
    session_id = stub.add_session()
    for number in range(TOTAL):
        stub.record(session_id, "agent.message", content=[{"type": "text", "text": str(number)}])
    return session_id


async def _seqs(client: Client, session_id: str, after: int = 0, until: int = TOTAL) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(30), aclosing(client.follow(session_id, after)) as items:
        async for item in items:
            if isinstance(item, Event):
                seen.append(item.seq)
                if item.seq >= until:
                    break
    return seen


@pytest.mark.parametrize("seed", range(5))
async def test_every_event_comes_once_and_in_order_through_broken_connections(
    client: Client, stub: StubGateway, seed: int
) -> None:
    chance = random.Random(seed)
    session_id = _busy(stub)
    closes = [None, 1001, 1006, 1012, 4008]
    stub.connections = [
        Connection(after_frames=chance.randint(0, 9), close=chance.choice([c for c in closes if c != 1006]))
        for _ in range(8)
    ]
    assert await _seqs(client, session_id) == list(range(1, TOTAL + 1))
    assert stub.afters == sorted(stub.afters)


async def test_it_begins_behind_the_cursor_that_it_is_given(client: Client, stub: StubGateway) -> None:
    assert await _seqs(client, _busy(stub), after=40) == list(range(41, TOTAL + 1))
    assert stub.afters == [40]


async def test_what_comes_twice_is_dropped_and_a_gap_is_asked_for_anew(client: Client, stub: StubGateway) -> None:
    session_id = _busy(stub)
    stub.connections = [Connection(frames=[event(n, "turn.queued", session_id) for n in (1, 2, 2, 1, 3, 5, 6)])]
    assert await _seqs(client, session_id) == list(range(1, TOTAL + 1))
    assert stub.afters == [0, 3]


async def test_events_that_come_later_are_shown_when_they_come(client: Client, stub: StubGateway) -> None:
    session_id = stub.add_session()
    following = asyncio.create_task(_seqs(client, session_id, until=4))
    async with asyncio.timeout(10):
        while not stub.afters:
            await asyncio.sleep(0.01)
    await client.send(session_id, "hello")
    assert await following == [1, 2, 3, 4]


async def test_previews_are_handed_on_between_events(client: Client, stub: StubGateway) -> None:
    session_id = stub.add_session()
    frames = [
        preview_start("sevt_1"),
        preview_delta("sevt_1", "Hel"),
        event(1, "agent.message", session_id, content=[]),
    ]
    stub.connections = [Connection(frames=frames)]
    items: list[Event | Preview] = []
    async with asyncio.timeout(10), aclosing(client.follow(session_id)) as following:
        async for item in following:
            items.append(item)
            if len(items) == 3:
                break
    assert [item.type for item in items] == ["event_start", "event_delta", "agent.message"]


async def test_a_session_that_is_not_there_is_an_api_error(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        await _seqs(client, "sesn_none")
    assert caught.value.code == "not_found"


async def test_a_passing_error_of_the_gateway_is_tried_again(client: Client, stub: StubGateway) -> None:
    error = {"code": "unavailable", "message": "the database is away", "details": {}}
    stub.connections = [Connection(frames=[{"type": "stream.error", "ref": None, "error": error}])]
    assert await _seqs(client, _busy(stub)) == list(range(1, TOTAL + 1))


async def test_a_gateway_that_stays_away_is_unreachable_after_the_patience() -> None:
    async with Client("http://127.0.0.1:1", TOKEN) as client, asyncio.timeout(10):
        with pytest.raises(Unreachable, match="lost"):
            async for _ in client.follow("sesn_x", patience=0.2):
                pass


async def test_it_goes_on_when_the_gateway_was_restarted() -> None:
    first = StubGateway()
    server = serving(first)
    server.__enter__()
    session_id = _busy(first)
    first.connections = [Connection(after_frames=10)]
    async with Client(first.url, TOKEN) as client, asyncio.timeout(30), aclosing(client.follow(session_id)) as items:
        seen = [(await anext(items)).data["seq"] for _ in range(10)]
        await asyncio.to_thread(server.__exit__, None, None, None)
        waiting = asyncio.ensure_future(anext(items))
        with serving(StubGateway(port=first.port, sessions=first.sessions, events=first.events)):
            seen.append((await waiting).data["seq"])
            seen += [(await anext(items)).data["seq"] for _ in range(TOTAL - 11)]
    assert seen == list(range(1, TOTAL + 1))
