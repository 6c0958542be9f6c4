"""A prompt for a session that rests starts in the transaction that accepts it, and never beside another turn."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import update

from cc_gateway.drivers.base import SessionDriver
from cc_gateway.loops.reconciler import Reconciler
from cc_gateway.loops.relay import Liveness, Relays
from cc_gateway.models import Session, SessionStatus, Turn, TurnStatus, now
from cc_gateway.services.lifecycle import Lifecycle
from cc_gateway.settings import DriverSettings, LimitSettings
from cc_gateway.stores import record, schema, sessions
from cc_gateway.stores.engine import Database
from cc_protocol.commands import Command, Prompt
from cc_protocol.outbox import Beat
from support.sessions import OWNER, UseCases

PROMPT = [{"type": "text", "text": "go"}]


@pytest.fixture
async def resting(database: Database, session_id: str) -> str:
    """A session whose wrapper is ready and has nothing to do."""
    async with database.write() as connection:
        session = await sessions.get(connection, session_id)
        assert session
        await sessions.begin_incarnation(connection, session, redis_hash="h", at=now())
        await sessions.change(connection, session_id, status=SessionStatus.IDLE, ready=True, handle="h")
    return session_id


def gateway_over(database: Database, *, hears: bool = True) -> UseCases:
    gateway = UseCases(database)
    gateway.turns.is_heard = lambda session: hears
    return gateway


@pytest.fixture
def gateway(database: Database) -> UseCases:
    return gateway_over(database)


async def state_of(gateway: UseCases, turn: Turn) -> Turn:
    return await gateway.turns.get(turn.session_id, turn.id)


async def test_it_runs_once_it_is_accepted_and_the_record_tells_each_step(
    gateway: UseCases, database: Database, resting: str
) -> None:
    turn = await state_of(gateway, await gateway.turns.submit(OWNER, resting, PROMPT))
    assert (turn.status, turn.incarnation, turn.attempt) == (TurnStatus.RUNNING, 1, 1)
    async with database.read() as connection:
        found, _ = await record.read(connection, resting)
        session = await sessions.get(connection, resting)
    assert [event.type for event in found] == [
        "user.message",
        "turn.queued",
        "turn.started",
        "session.status_running",
    ]
    assert session
    assert session.status == SessionStatus.RUNNING


async def test_the_next_one_waits(gateway: UseCases, resting: str) -> None:
    submitted = [await gateway.turns.submit(OWNER, resting, PROMPT) for _ in range(3)]
    states = [(await state_of(gateway, turn)).status for turn in submitted]
    assert states == [TurnStatus.RUNNING, TurnStatus.QUEUED, TurnStatus.QUEUED]


async def test_it_does_not_overtake_one_that_waits(gateway: UseCases, database: Database, resting: str) -> None:
    first = await gateway_over(database, hears=False).turns.submit(OWNER, resting, PROMPT)
    second = await gateway.turns.submit(OWNER, resting, PROMPT)
    assert [(await state_of(gateway, turn)).status for turn in (first, second)] == [TurnStatus.QUEUED] * 2


@pytest.mark.parametrize(
    "change",
    [{"ready": False}, {"status": SessionStatus.ASLEEP}, {"status": SessionStatus.STARTING}, {"stop_requested": True}],
)
async def test_it_waits_where_the_session_does_not_rest(
    gateway: UseCases, database: Database, resting: str, change: dict[str, object]
) -> None:
    async with database.write() as connection:
        await sessions.change(connection, resting, **change)
    turn = await gateway.turns.submit(OWNER, resting, PROMPT)
    assert (await state_of(gateway, turn)).status == TurnStatus.QUEUED


async def test_it_waits_where_this_gateway_does_not_hear_the_wrapper(database: Database, resting: str) -> None:
    gateway = gateway_over(database, hears=False)
    turn = await gateway.turns.submit(OWNER, resting, PROMPT)
    assert (await state_of(gateway, turn)).status == TurnStatus.QUEUED


async def test_of_prompts_sent_to_two_gateways_at_once_one_runs_and_the_first(
    database: Database, second: Database, resting: str
) -> None:
    gateways = [gateway_over(database), gateway_over(second)]
    async with asyncio.timeout(30):
        submitted = await asyncio.gather(*(gateways[n % 2].turns.submit(OWNER, resting, PROMPT) for n in range(8)))
    states = sorted([await state_of(gateways[0], turn) for turn in submitted], key=lambda turn: turn.number)
    assert [turn.status for turn in states] == [TurnStatus.RUNNING] + [TurnStatus.QUEUED] * 7


async def test_one_whose_prompt_was_lost_between_commit_and_sending_is_sent_again(
    gateway: UseCases, database: Database, resting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, lost, sent = gateway.recorder.bus, asyncio.Event(), asyncio.Queue[list[Command]]()

    async def lose(_session_id: str, _commands: list[Command]) -> None:
        lost.set()
        raise ConnectionError("Redis is away")

    async def take(_session_id: str, commands: list[Command]) -> None:
        sent.put_nowait(commands)

    monkeypatch.setattr(bus, "hand_over", lose)
    turn = await gateway.turns.submit(OWNER, resting, PROMPT)
    await asyncio.wait_for(lost.wait(), 10)
    monkeypatch.setattr(bus, "hand_over", take)
    async with database.write() as connection:
        await connection.execute(update(schema.turns).values(started_at=now() - timedelta(seconds=10)))
    reconciler = reconciler_of(gateway)
    reconciler.wake(resting)
    commands = await asyncio.wait_for(sent.get(), 10)
    await reconciler.close()
    assert [command.turn_id for command in commands if isinstance(command, Prompt)] == [turn.id]


def reconciler_of(gateway: UseCases) -> Reconciler:
    """One that finds a wrapper which lives, and says that it has no turn."""
    liveness = Liveness()
    liveness.heard(Beat(ready=True))

    async def attach(_session: Session) -> None:
        pass

    async def ensure(_session: Session) -> SimpleNamespace:
        return SimpleNamespace(liveness=liveness)

    return Reconciler(
        gateway.recorder,
        gateway.recorder.bus,
        cast(SessionDriver, None),  # is not asked about a wrapper that was heard
        cast(Lifecycle, SimpleNamespace(attach=attach)),
        cast(Relays, SimpleNamespace(ensure=ensure)),
        gateway.turns,
        DriverSettings.model_construct(),
        LimitSettings.model_construct(),
    )


def test_a_wrapper_that_is_only_assumed_to_live_has_not_been_heard() -> None:
    liveness = Liveness()
    assert liveness.assumed
    liveness.heard(None)
    assert not liveness.assumed
    liveness.excuse()
    assert liveness.assumed


async def test_the_same_request_again_starts_nothing(gateway: UseCases, resting: str) -> None:
    first = await gateway.turns.submit(OWNER, resting, PROMPT, key=("k", "f"))
    again = await gateway.turns.submit(OWNER, resting, PROMPT, key=("k", "f"))
    assert first.id == again.id
    assert (await state_of(gateway, first)).attempt == 1
