"""The outbox and the link, without a wrapper around them."""

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError, ResponseError

from cc_protocol.events import ContentDelta, EventDelta
from cc_protocol.keys import ENTRY_FIELD, outbox_stream
from cc_protocol.launch import Secrets
from cc_protocol.outbox import ENTRY, Beat, Lines, Ready
from cc_wrapper.wire.link import LOST_AFTER, REPLACED_AFTER, Contact, Link, LostError, ReplacedError
from cc_wrapper.wire.outbox import Outbox
from cc_wrapper.wire.previews import Previews
from wrapper.harness import ADMIN_PASSWORD, RedisServer, until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def hidden_refusal() -> Exception:
    """How redis-py 8 tells that AUTH was refused."""
    error = ConnectionError("invalid username-password pair")
    error.__cause__ = AuthenticationError("invalid username-password pair")
    return error


@pytest.mark.parametrize("error", [AuthenticationError("no"), NoPermissionError("no"), hidden_refusal()])
def test_a_refusal_that_lasts_means_that_we_are_replaced(clock: Clock, error: Exception) -> None:
    contact = Contact(clock)
    contact.failed(error)
    clock.now = REPLACED_AFTER - 1
    contact.failed(error)
    clock.now = REPLACED_AFTER
    with pytest.raises(ReplacedError):
        contact.failed(error)


def test_an_absence_is_borne_for_minutes_and_not_for_ever(clock: Clock) -> None:
    contact = Contact(clock)
    for clock.now in range(0, int(LOST_AFTER), 10):
        contact.failed(ConnectionError("refused"))
    clock.now = LOST_AFTER
    with pytest.raises(LostError):
        contact.failed(ConnectionError("refused"))


def test_contact_in_between_starts_the_count_anew(clock: Clock) -> None:
    contact = Contact(clock)
    for clock.now in range(0, 5000, 100):
        contact.failed(AuthenticationError("no"))
        contact.made()
        contact.failed(ConnectionError("refused"))
        contact.made()


def test_a_refusal_before_and_one_after_a_restart_are_two(clock: Clock) -> None:
    contact = Contact(clock)
    contact.failed(AuthenticationError("no"))
    clock.now = 60
    contact.failed(ConnectionError("refused"))
    contact.failed(AuthenticationError("no"))


@pytest.fixture
def link(redis_server: RedisServer) -> Link:
    return Link(redis_server.socket, Secrets(token="t", redis_username="default", redis_password=ADMIN_PASSWORD))


def outbox_of(name: str) -> Outbox:
    return Outbox(name, 1, 60, lambda n: Beat(ready=True, unacknowledged=n))


async def entries(admin: Redis, name: str) -> list[int]:
    found = await admin.xrange(outbox_stream(name, 1))
    parsed = [ENTRY.validate_json(fields[ENTRY_FIELD.encode()]) for _, fields in found]
    return [entry.n for entry in parsed if not isinstance(entry, Beat)]


def put(outbox: Outbox, count: int) -> None:
    for _ in range(count):
        outbox.put(lambda n: Ready(n=n, cli_version="1", resumed=False))


async def test_entries_are_sent_in_order_and_again_on_a_new_connection(link: Link, redis_server: RedisServer) -> None:
    outbox = outbox_of("again")
    put(outbox, 500)
    async with redis_server.admin() as admin:
        for _ in range(2):
            sending = asyncio.create_task(link.run("outbox", outbox.send))
            async with asyncio.timeout(10):
                assert await outbox.flush(10)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            outbox.acknowledge(400)
            outbox._sent = 0
        assert await entries(admin, "again") == [*range(1, 501), *range(401, 501)]
        assert outbox.unacknowledged == 100


async def test_an_acknowledgement_while_sending_skips_and_repeats_nothing(
    link: Link, redis_server: RedisServer
) -> None:
    outbox = outbox_of("meanwhile")
    sending = asyncio.create_task(link.run("outbox", outbox.send))
    for round_number in range(1, 51):
        put(outbox, 20)
        outbox.acknowledge(round_number * 7)
        await asyncio.sleep(0)
    assert await outbox.flush(10)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    async with redis_server.admin() as admin:
        sent = await entries(admin, "meanwhile")
    assert sent == sorted(set(sent))
    assert sent[-1] == 1000
    outbox.acknowledge(10_000)
    assert outbox.unacknowledged == 0


async def test_what_is_missing_is_sent_again_when_asked_for(link: Link, redis_server: RedisServer) -> None:
    outbox = outbox_of("missing")
    sending = asyncio.create_task(link.run("outbox", outbox.send))
    put(outbox, 5)
    assert await outbox.flush(10)
    outbox.acknowledge(3)
    outbox.acknowledge(1, resend=True)  # of old: the stream of commands was read again from its beginning
    assert await outbox.flush(10)
    outbox.acknowledge(3, resend=True)
    assert await outbox.flush(10)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    async with redis_server.admin() as admin:
        assert await entries(admin, "missing") == [1, 2, 3, 4, 5, 4, 5]


async def test_there_is_room_again_after_an_acknowledgement() -> None:
    outbox = outbox_of("full")
    while outbox.has_room:
        outbox.put(lambda n: Lines(n=n, claims=[], raw="x" * 4_000_000))
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.acknowledge(outbox.unacknowledged)
    await asyncio.wait_for(waiting, 5)


async def test_previews_are_shed_where_nobody_takes_them() -> None:
    previews = Previews("x")
    delta = EventDelta(event_id="e", delta=ContentDelta(content={"type": "text", "text": "x"}))
    for _ in range(50):
        previews.put([delta] * 100)
    assert previews.shed == 4000


async def test_a_link_that_is_cancelled_ends_at_once(link: Link) -> None:
    async def block(redis: Redis) -> None:
        await redis.xread({"nothing": "$"}, block=60_000)

    task = asyncio.create_task(link.run("inbox", block))
    await asyncio.sleep(0.1)
    task.cancel()
    await until(task.done, 2)
    assert task.cancelled()


async def test_a_redis_that_answers_but_takes_nothing_is_not_asked_in_a_hot_loop(link: Link) -> None:
    tries = 0

    async def refused(_: Redis) -> None:
        nonlocal tries
        tries += 1
        raise ResponseError("OOM command not allowed when used memory > 'maxmemory'")

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await link.run("outbox", refused)
    assert 2 <= tries <= 6
