"""What must hold when requests come at once, and to two gateways: limits, keys, queues, workspaces, numbers.

`database` and `second` are the same database as two gateways have it, each with connections of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.errors import Conflict, Fenced, NotFound, TooManyRequests, Unavailable
from cc_gateway.models import SessionStatus, TurnStatus, Workspace, now
from cc_gateway.services import dispatch, intake
from cc_gateway.stores import record, schema, sessions, turns
from cc_gateway.stores.engine import Database
from cc_protocol.events import StatusRunning
from cc_protocol.ids import EVENT, TURN, new_id
from support.sessions import OWNER, UseCases, new_session

T = TypeVar("T")
PROMPT = [{"type": "text", "text": "go"}]
SHARED = Workspace(type="persistent", id="shared")


async def at_once(*work: Awaitable[T]) -> tuple[list[T], list[BaseException]]:
    """What came of it, and what was raised; a deadlock would be a failure by time."""
    async with asyncio.timeout(30):
        results = await asyncio.gather(*work, return_exceptions=True)
    failed = [result for result in results if isinstance(result, BaseException)]
    return [result for result in results if not isinstance(result, BaseException)], failed


def all_are(errors: Sequence[BaseException], kind: type[BaseException]) -> bool:
    assert all(isinstance(error, kind) for error in errors), [
        repr(error) for error in errors if type(error) is not kind
    ]
    return True


@pytest.fixture
def gateways(database: Database, second: Database) -> list[UseCases]:
    limits = {"max_sessions": 5, "max_queued_turns": 5}
    return [UseCases(database, **limits), UseCases(second, **limits)]


# ---------------------------------------------------------------- limits


async def test_an_owner_never_gets_more_sessions_than_allowed_however_many_ask_at_once(
    gateways: list[UseCases], database: Database
) -> None:
    made, refused = await at_once(*(gateways[n % 2].create() for n in range(30)))
    assert len(made) == 5
    assert all_are(refused, TooManyRequests)
    async with database.read() as connection:
        assert await sessions.count(connection, OWNER) == 5


async def test_owners_do_not_wait_for_one_another(gateways: list[UseCases]) -> None:
    made, refused = await at_once(*(gateways[n % 2].create(f"owner {n}") for n in range(20)))
    assert (len(made), refused) == (20, [])


async def test_a_session_never_has_more_turns_waiting_than_allowed(gateways: list[UseCases], session_id: str) -> None:
    queued, refused = await at_once(*(gateways[n % 2].turns.submit(OWNER, session_id, PROMPT) for n in range(30)))
    assert sorted(turn.number for turn in queued) == [1, 2, 3, 4, 5]
    assert all_are(refused, TooManyRequests)


# ---------------------------------------------------------------- one workspace


async def test_one_session_gets_a_persistent_workspace_that_many_ask_for_at_once(gateways: list[UseCases]) -> None:
    made, refused = await at_once(*(gateways[n % 2].create(workspace=SHARED) for n in range(12)))
    assert len(made) == 1
    assert all_are(refused, Conflict)


async def test_of_stopped_sessions_in_one_workspace_one_wakes_however_many_are_prompted_at_once(
    gateways: list[UseCases], database: Database
) -> None:
    stopped = [new_session(workspace=SHARED, status=SessionStatus.STOPPED) for _ in range(6)]
    async with database.write() as connection:
        for session in stopped:
            await sessions.add(connection, session)
    prompts = (gateways[n % 2].turns.submit(OWNER, session.id, PROMPT) for n, session in enumerate(stopped))
    queued, refused = await at_once(*prompts)
    assert len(queued) == 1
    assert all_are(refused, Conflict)


async def test_a_workspace_is_in_use_as_soon_as_a_prompt_waits_in_a_stopped_session(
    gateways: list[UseCases], database: Database
) -> None:
    one, other = (new_session(workspace=SHARED, status=SessionStatus.STOPPED) for _ in range(2))
    async with database.write() as connection:
        for session in (one, other):
            await sessions.add(connection, session)
    turn = await gateways[0].turns.submit(OWNER, one.id, PROMPT)
    with pytest.raises(Conflict, match=one.id):
        await gateways[0].turns.submit(OWNER, other.id, PROMPT)
    with pytest.raises(Conflict, match=one.id):
        await gateways[0].create(workspace=SHARED)
    await gateways[0].turns.cancel(one.id, turn.id)
    await gateways[0].turns.submit(OWNER, other.id, PROMPT)


async def test_prompts_and_new_sessions_in_one_workspace_do_not_block_one_another_for_good(
    gateways: list[UseCases], database: Database
) -> None:
    stopped = [new_session(workspace=SHARED, status=SessionStatus.STOPPED) for _ in range(4)]
    async with database.write() as connection:
        for session in stopped:
            await sessions.add(connection, session)
    work: list[Awaitable[Any]] = []
    for n in range(12):
        work.append(gateways[n % 2].turns.submit(OWNER, stopped[n % 4].id, PROMPT))
        work.append(gateways[n % 2].create(workspace=SHARED))
    done, refused = await at_once(*work)
    assert done
    assert all(isinstance(error, Conflict | TooManyRequests) for error in refused), refused


# ---------------------------------------------------------------- idempotency keys


async def test_the_same_request_50_times_at_once_makes_one_session(
    gateways: list[UseCases], database: Database
) -> None:
    made, failed = await at_once(*(gateways[n % 2].create(key=("k", "mark"), prompt=PROMPT) for n in range(50)))
    assert failed == []
    assert len({session.id for session in made}) == 1
    async with database.read() as connection:
        assert await sessions.count(connection, OWNER) == 1
        assert len(await turns.page(connection, made[0].id, status=None, after=0, limit=10)) == 1


async def test_the_same_prompt_50_times_at_once_is_one_turn(gateways: list[UseCases], session_id: str) -> None:
    submits = (gateways[n % 2].turns.submit(OWNER, session_id, PROMPT, key=("k", "mark")) for n in range(50))
    queued, failed = await at_once(*submits)
    assert failed == []
    assert len({turn.id for turn in queued}) == 1


async def test_one_key_for_different_requests_at_once_lets_one_through_and_tells_the_others(
    gateways: list[UseCases], database: Database
) -> None:
    targets = [new_session() for _ in range(6)]
    async with database.write() as connection:
        for session in targets:
            await sessions.add(connection, session)
    work: list[Awaitable[Any]] = []
    for n, session in enumerate(targets):
        use = gateways[n % 2]
        work.append(use.turns.submit(OWNER, session.id, PROMPT, key=("k", f"chat {n}")))
        work.append(use.turns.interrupt(session.id, None, key=(OWNER, "k", f"interrupt {n}")))
    done, refused = await at_once(*work)
    assert len(done) == 1
    assert all_are(refused, Conflict)


async def test_a_key_of_a_new_session_and_of_a_prompt_at_once_lets_one_through(
    gateways: list[UseCases], session_id: str
) -> None:
    done, refused = await at_once(
        gateways[0].create(key=("k", "create")),
        gateways[1].turns.submit(OWNER, session_id, PROMPT, key=("k", "chat")),
    )
    assert len(done) == 1
    assert all_are(refused, Conflict)


# ---------------------------------------------------------------- one turn, one incarnation


async def test_of_two_gateways_that_hand_over_different_turns_one_does(
    gateways: list[UseCases], database: Database, session_id: str
) -> None:
    for use in gateways:
        await use.turns.submit(OWNER, session_id, PROMPT)
    async with database.read() as connection:
        session = await sessions.get(connection, session_id)
        waiting = await turns.all_queued(connection, session_id)
    assert session

    async def start(use: UseCases, turn_id: str) -> bool:
        async with use.recorder.recording(session_id) as recording:
            return await turns.start(recording.connection, turn_id, session.incarnation)

    started, failed = await at_once(*(start(gateways[n % 2], waiting[n % 2].id) for n in range(10)))
    assert failed == []
    assert sum(started) == 1


async def test_the_database_itself_keeps_a_second_turn_from_running(database: Database, session_id: str) -> None:
    async with database.write() as connection:
        for _ in range(2):
            await turns.add(connection, new_id(TURN), session_id, PROMPT)
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(update(schema.turns).values(status=TurnStatus.RUNNING.value))


async def test_a_turn_is_not_handed_to_an_incarnation_that_is_over(
    gateways: list[UseCases], database: Database, session_id: str
) -> None:
    turn = await gateways[0].turns.submit(OWNER, session_id, PROMPT)
    async with database.write() as connection:
        stale = await sessions.get(connection, session_id)
        assert stale
        await sessions.begin_incarnation(connection, stale, redis_hash="h", at=now())
        state = await turns.next_queued(connection, session_id)
    assert state
    await dispatch.hand_over(gateways[0].recorder, gateways[0].recorder.bus, stale, state)
    assert (await gateways[0].turns.get(session_id, turn.id)).status == TurnStatus.QUEUED


async def test_of_two_gateways_that_start_a_session_at_once_one_numbers_the_incarnation(
    database: Database, second: Database, session_id: str
) -> None:
    async with database.read() as connection:
        session = await sessions.get(connection, session_id)
    assert session

    async def begin(store: Database) -> int:
        async with store.write() as connection, record.recording_in(connection, session_id):
            return await sessions.begin_incarnation(connection, session, redis_hash="h", at=now())

    numbers, fenced = await at_once(*(begin(store) for store in (database, second) * 4))
    assert numbers == [1]
    assert all_are(fenced, Fenced)


# ---------------------------------------------------------------- the record


def outbox(count: int) -> list[bytes]:
    """What a wrapper put there: messages that say their own number."""

    def entry(n: int) -> bytes:
        body = {"type": "agent.message", "content": [{"type": "text", "text": f"{n}"}]}
        return orjson.dumps({"kind": "lines", "n": n, "claims": [{"id": new_id(EVENT), "body": body}]})

    return [entry(n) for n in range(1, count + 1)]


async def test_two_relays_that_take_turns_at_one_outbox_record_each_entry_once(
    database: Database, second: Database, session_id: str
) -> None:
    """Each claims the session again whenever the other has fenced it, as relays of two gateways would."""
    entries = intake.parse([(b"1-0", entry) for entry in outbox(40)], 0, 10_000).items

    async def relay(store: Database) -> None:
        done = 0
        while done < len(entries):
            async with store.write() as connection:
                fence = await record.claim(connection, session_id)
            assert fence
            done = fence.outbox_n
            try:
                while done < len(entries):
                    fence, _ = await intake.take(store, session_id, fence, entries[done : done + 3])
                    done = fence.outbox_n
            except Fenced:
                continue

    _, failed = await at_once(relay(database), relay(second))
    assert failed == []
    async with database.read() as connection:
        events, _ = await record.read(connection, session_id, limit=1000)
    assert [event.seq for event in events] == list(range(1, 41))
    assert len({event.id for event in events}) == 40


class ForgetfulDatabase(Database):
    """Every other commit is made, and its answer lost on the way."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commits = 0

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        async with super().write() as connection:
            yield connection
        self.commits += 1
        if self.commits % 2:
            raise Unavailable("the database is away", retry_after=2)


async def test_a_commit_whose_answer_is_lost_is_neither_repeated_nor_forgotten(
    database: Database, database_url: str, session_id: str
) -> None:
    """As the relay does it: after any failure it claims the session anew, and goes on behind what the head row says."""
    forgetful = ForgetfulDatabase(database_url)
    raw = [(b"1-0", entry) for entry in outbox(30)]
    done = 0
    while done < len(raw):
        try:
            async with forgetful.write() as connection:
                fence = await record.claim(connection, session_id)
            assert fence
            while done < len(raw):
                items = intake.parse(raw, fence.outbox_n, 10_000).items[:4]
                done = fence.outbox_n
                if items:
                    fence, _ = await intake.take(forgetful, session_id, fence, items)
        except Unavailable:
            continue
    await forgetful.close()
    async with database.read() as connection:
        events, _ = await record.read(connection, session_id, limit=1000)
    assert [orjson.loads(event.data)["content"][0]["text"] for event in events] == [f"{n}" for n in range(1, 31)]
    assert [event.seq for event in events] == list(range(1, 31))


async def test_many_writers_on_two_gateways_leave_no_gap_and_no_double(
    gateways: list[UseCases], database: Database, session_id: str
) -> None:
    async def append(use: UseCases) -> None:
        async with use.recorder.recording(session_id) as recording:
            recording.append(StatusRunning())

    _, failed = await at_once(*(append(gateways[n % 2]) for n in range(60)))
    assert failed == []
    async with database.read() as connection:
        events, _ = await record.read(connection, session_id, limit=1000)
    assert [event.seq for event in events] == list(range(1, 61))


async def test_a_long_record_is_erased_to_its_last_event_and_no_other_with_it(
    database: Database, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ERASED_AT_ONCE", 10)
    other = new_session()
    async with database.write() as connection:
        await sessions.add(connection, other)
        for each in (session_id, other.id):
            async with record.recording_in(connection, each) as recording:
                for _ in range(25):
                    recording.append(StatusRunning())
    async with database.write() as connection:
        await sessions.erase(connection, session_id)
    async with database.read() as connection:
        assert await record.read(connection, session_id) == ([], False)
        assert await record.head(connection, other.id) == 25


async def test_a_session_that_is_erased_while_others_write_to_it_is_gone_without_a_deadlock(
    database: Database, second: Database
) -> None:
    for _ in range(5):
        session = new_session()
        async with database.write() as connection:
            await sessions.add(connection, session)

        async def write(store: Database, session_id: str = session.id) -> None:
            async with store.write() as connection, record.recording_in(connection, session_id) as recording:
                await sessions.change(connection, session_id, ready=True)
                recording.append(StatusRunning())

        async def erase(session_id: str = session.id) -> None:
            async with second.write() as connection:
                await sessions.erase(connection, session_id)

        writers = [write(store) for store in (database, second) * 5]
        _, failed = await at_once(*writers[:5], erase(), *writers[5:])
        assert all_are(failed, NotFound)
    async with database.read() as connection:
        for table in (schema.sessions, schema.heads, schema.events):
            assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 0
