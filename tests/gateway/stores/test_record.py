"""The record: gapless numbers, one owner, nothing half-written."""

import asyncio
from typing import Any

import pytest

from cc_gateway.errors import Conflict, Fenced, NotFound
from cc_gateway.models import TurnStatus, now
from cc_gateway.stores import idempotency, record, sessions, turns
from cc_gateway.stores.engine import Database
from cc_gateway.stores.record import Fence
from cc_protocol.events import Source, StatusAsleep, StatusRunning
from cc_protocol.ids import EVENT, SESSION, TURN, new_id


async def append(database: Database, session_id: str, count: int = 1) -> None:
    async with database.write() as connection, record.recording_in(connection, session_id) as recording:
        for _ in range(count):
            recording.append(StatusRunning())


async def numbers(database: Database, session_id: str) -> list[int]:
    async with database.read() as connection:
        events, more = await record.read(connection, session_id, limit=10_000)
    assert not more
    return [event.seq for event in events]


async def test_many_writers_at_once_leave_no_gap_and_no_double(database: Database, session_id: str) -> None:
    await asyncio.gather(*(append(database, session_id, 1 + i % 3) for i in range(60)))
    assert await numbers(database, session_id) == list(range(1, 121))


async def test_a_transaction_that_fails_leaves_no_trace(database: Database, session_id: str) -> None:
    await append(database, session_id)
    with pytest.raises(RuntimeError):
        async with database.write() as connection, record.recording_in(connection, session_id) as recording:
            recording.append(StatusRunning())
            raise RuntimeError
    await append(database, session_id)
    assert await numbers(database, session_id) == [1, 2]


async def test_a_writer_that_is_cancelled_does_not_block_the_next(database: Database, session_id: str) -> None:
    inside = asyncio.Event()

    async def hang() -> None:
        async with database.write() as connection, record.recording_in(connection, session_id) as recording:
            recording.append(StatusRunning())
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await inside.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(5):
        await append(database, session_id)
    assert await numbers(database, session_id) == [1]


async def test_whoever_claims_last_fences_all_others(database: Database, session_id: str) -> None:
    async with database.write() as connection:
        old = await record.claim(connection, session_id)
        new = await record.claim(connection, session_id)
    assert old and new
    async with (
        database.write() as connection,
        record.recording_in(connection, session_id, fence=new, outbox_n=2) as recording,
    ):
        recording.append(StatusRunning())
    for stale in (old, new):  # the new one too, until it goes on from what it committed
        with pytest.raises(Fenced):
            async with (
                database.write() as connection,
                record.recording_in(connection, session_id, fence=stale, outbox_n=3) as recording,
            ):
                recording.append(StatusAsleep())
    going_on = Fence(new.epoch, new.incarnation, 2)
    async with (
        database.write() as connection,
        record.recording_in(connection, session_id, fence=going_on, outbox_n=3) as recording,
    ):
        recording.append(StatusRunning())
    assert await numbers(database, session_id) == [1, 2]


async def test_a_new_incarnation_fences_the_relay_of_the_old(database: Database, session_id: str) -> None:
    async with database.write() as connection:
        fence = await record.claim(connection, session_id)
        session = await sessions.get(connection, session_id)
        assert session
        assert await sessions.begin_incarnation(connection, session, redis_hash="h", at=now()) == 1
    with pytest.raises(Fenced):
        async with database.write() as connection, record.recording_in(connection, session_id, fence=fence, outbox_n=1):
            pass


async def test_there_is_no_record_without_its_session(database: Database) -> None:
    with pytest.raises(NotFound):
        await append(database, new_id(SESSION))


async def test_a_turn_has_exactly_one_end_however_many_try(database: Database, session_id: str) -> None:
    turn_id = new_id(TURN)
    async with database.write() as connection:
        await turns.add(connection, turn_id, session_id, [{"type": "text", "text": "\x01 ü"}])
        assert await turns.start(connection, turn_id, 1)
        assert not await turns.start(connection, turn_id, 2)

    async def end(status: TurnStatus) -> bool:
        async with database.write() as connection:
            return await turns.end(connection, turn_id, status, {}, incarnation=1)

    states = [TurnStatus.COMPLETED, TurnStatus.FAILED, TurnStatus.INTERRUPTED] * 5
    assert sum(await asyncio.gather(*(end(status) for status in states))) == 1


async def test_an_end_of_another_incarnation_does_not_count(database: Database, session_id: str) -> None:
    turn_id = new_id(TURN)
    async with database.write() as connection:
        await turns.add(connection, turn_id, session_id, [])
        await turns.start(connection, turn_id, 2)
        assert not await turns.end(connection, turn_id, TurnStatus.COMPLETED, {}, incarnation=1)
        assert not await turns.end(connection, turn_id, TurnStatus.CANCELED, {}, incarnation=None)
        assert await turns.end(connection, turn_id, TurnStatus.COMPLETED, {}, incarnation=2)


async def test_a_turn_that_the_model_has_heard_of_is_never_queued_again(database: Database, session_id: str) -> None:
    turn_id = new_id(TURN)
    async with database.write() as connection:
        await turns.add(connection, turn_id, session_id, [])
        await turns.start(connection, turn_id, 1)
        assert await turns.requeue(connection, turn_id, 1)
        await turns.start(connection, turn_id, 2)
        await turns.mark_model_request(connection, session_id, 2)
        assert not await turns.requeue(connection, turn_id, 2)


async def test_an_idempotency_key_means_one_request(database: Database) -> None:
    async with database.write() as connection:
        await idempotency.keep(connection, "a", "k", "mark", "made")
        assert await idempotency.find(connection, "a", "k", "mark") == "made"
        assert await idempotency.find(connection, "b", "k", "mark") is None
        with pytest.raises(Conflict):
            await idempotency.find(connection, "a", "k", "another mark")


async def test_deleting_a_session_takes_all_that_hangs_on_it(database: Database, session_id: str) -> None:
    await append(database, session_id, 3)
    async with database.write() as connection:
        await turns.add(connection, new_id(TURN), session_id, [])
        await sessions.erase(connection, session_id)
    assert await numbers(database, session_id) == []
    async with database.read() as connection:
        assert await turns.page(connection, session_id, status=None, after=0, limit=10) == []


async def test_a_page_ends_at_its_number_of_events_or_of_bytes_and_says_whether_there_are_more(
    database: Database, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "MAX_PAGE_BYTES", 2500)
    async with database.write() as connection, record.recording_in(connection, session_id) as recording:
        for size in (10, 10, 10, 1000, 1000, 9000, 10):
            recording.append_raw(new_id(EVENT), "cli.event", b'"' + b"x" * (size - 2) + b'"', Source.AGENT, None)

    async def page(**query: Any) -> tuple[list[int], bool]:
        async with database.read() as connection:
            events, more = await record.read(connection, session_id, **query)
        return [event.seq for event in events], more

    assert await page(limit=2) == ([1, 2], True)
    assert await page(limit=100) == ([1, 2, 3, 4, 5, 6], True)
    assert await page(limit=100, after=5) == ([6], True)
    assert await page(limit=100, after=6) == ([7], False)
    assert await page(limit=1, after=6) == ([7], False)
    assert await page(limit=100, after=7) == ([], False)
    assert await page(limit=100, order="desc") == ([7, 6], True)
    assert await page(limit=100, order="desc", before=6) == ([5, 4, 3, 2, 1], False)
