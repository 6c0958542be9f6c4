"""Redis and databases that cannot be used, each provoked with a real server; and that looking at them changes nothing."""

import asyncio
import contextlib
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from cc_gateway.doctor.check import Status
from cc_gateway.redis.embedded import find_server
from cc_gateway.stores.engine import Database, sqlite_url
from gateway.doctor.looking import Look, everything, of, words
from support.postgres import PostgresServer
from support.waiting import until

PASSWORD = "canary:p@ss/word"
ACCOUNT = f"gateway:{quote(PASSWORD, safe='')}"
USERS = ("user default off", f"user gateway on >{PASSWORD} ~* &* +@all", "user session on >x ~* &* +@all -acl|setuser")
Serve = Callable[..., str]


@pytest.fixture
async def serve_redis(place: Path) -> Iterator[Serve]:
    """Start a Redis with these lines in its configuration; gives host and port."""
    running: list[subprocess.Popen[bytes]] = []

    async def serve(*lines: str) -> str:
        port = _free_port()
        configuration = "\n".join([f"port {port}", "bind 127.0.0.1", 'save ""', f'dir "{place}"', *lines, ""])
        server = subprocess.Popen([find_server(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        running.append(server)
        assert server.stdin
        server.stdin.write(configuration.encode())
        server.stdin.close()

        async def answers() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False

        await until(answers, "Redis to listen")
        return f"127.0.0.1:{port}"

    yield serve  # type: ignore[misc]
    for server in running:
        server.kill()
        server.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ------------------------------------------------------------------------------------------- Redis


async def test_a_redis_that_is_set_up_right_is_described(look: Look, serve_redis: Serve) -> None:
    place = await serve_redis(*USERS)
    result = of(await look(CC_REDIS_URL=f"redis://{ACCOUNT}@{place}/0"), "redis")
    assert result.status is Status.OK, words(result)
    assert f"at redis://gateway@{place}/0, " in words(result)


async def test_looking_leaves_no_user_and_no_key_in_redis(look: Look, serve_redis: Serve) -> None:
    from cc_gateway.redis.bus import connect

    place = await serve_redis(*USERS)
    url = f"redis://{ACCOUNT}@{place}/0"
    await look(CC_REDIS_URL=url)
    client = connect(url)
    assert await client.dbsize() == 0
    assert len(await client.acl_users()) == len(USERS)
    await client.aclose()


async def test_a_wrong_password_is_a_failure_and_never_shown(look: Look, serve_redis: Serve) -> None:
    place = await serve_redis(*USERS)
    examination = await look(CC_REDIS_URL=f"redis://gateway:wrong-canary@{place}/0")
    result = of(examination, "redis")
    assert result.status is Status.FAILURE
    assert "it refuses the login" in words(result)
    assert "check user and password in CC_REDIS_URL" in words(result)
    assert "wrong-canary" not in everything(examination)


async def test_a_redis_that_answers_strangers_is_a_failure(look: Look, serve_redis: Serve) -> None:
    place = await serve_redis()
    result = of(await look(CC_REDIS_URL=f"redis://{place}/0"), "redis")
    assert result.status is Status.FAILURE
    assert "it answers without a password" in words(result)
    assert "requirepass" in words(result)


async def test_a_user_that_may_not_make_users_is_a_failure(look: Look, serve_redis: Serve) -> None:
    place = await serve_redis(*USERS)
    result = of(await look(CC_REDIS_URL=f"redis://session:x@{place}/0"), "redis")
    assert result.status is Status.FAILURE
    assert "session may not ACL SETUSER" in words(result)
    assert "ACL SETUSER session on '~*' '&*' +@all" in words(result)


async def test_a_redis_that_drops_what_it_holds_is_a_warning(look: Look, serve_redis: Serve) -> None:
    place = await serve_redis(*USERS, "maxmemory-policy allkeys-lru")
    result = of(await look(CC_REDIS_URL=f"redis://{ACCOUNT}@{place}/0"), "redis")
    assert result.status is Status.WARNING
    assert "CONFIG SET maxmemory-policy noeviction" in words(result)


async def test_a_redis_that_is_not_there_is_a_failure(look: Look) -> None:
    result = of(await look(CC_REDIS_URL=f"redis://{ACCOUNT}@127.0.0.1:{_free_port()}/0"), "redis")
    assert result.status is Status.FAILURE
    assert "it cannot be reached" in words(result)
    assert "or unset CC_REDIS_URL" in words(result)


async def test_a_redis_that_hangs_is_a_failure_in_time(look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with asyncio.timeout(20):
            result = of(await look(CC_REDIS_URL=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"), "redis")
    assert result.status is Status.FAILURE


@pytest.mark.parametrize("url", ["localhost:6379", "redis://127.0.0.1:6379/3", "redis://127.0.0.1:port"])
async def test_an_address_of_redis_that_cannot_be_used_is_a_failure(look: Look, url: str) -> None:
    result = of(await look(CC_REDIS_URL=url), "redis")
    assert result.status is Status.FAILURE
    assert "CC_REDIS_URL=redis://USER:PASSWORD@HOST:6379/0" in words(result)


async def test_where_no_redis_can_be_run_the_package_is_named(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Path:
        raise RuntimeError("no binary for this machine")

    monkeypatch.setattr("cc_gateway.redis.embedded.get_binary_path", nothing)
    monkeypatch.setenv("PATH", "/nowhere")
    result = of(await look(), "redis")
    assert result.status is Status.FAILURE
    assert "apt-get install redis-server" in words(result)


# ------------------------------------------------------------------------------------------- PostgreSQL


async def test_a_postgresql_that_is_empty_stays_so(look: Look, postgres: PostgresServer) -> None:
    url = await postgres.create_database()
    result = of(await look(CC_DATABASE_URL=url), "database")
    assert result.status is Status.OK, words(result)
    assert "PostgreSQL " in words(result)
    assert "empty: the first start fills it" in words(result)
    connection = await postgres.connect(url.rpartition("/")[2])
    assert (
        await connection.fetchval("SELECT count(*) FROM pg_class WHERE relname IN ('sessions', 'alembic_version')") == 0
    )
    await connection.close()


@pytest.mark.parametrize(
    ("version", "status", "says"),
    [
        (None, Status.OK, "(newest)"),
        ("0001", Status.OK, "at 0001: the next start migrates it"),
        ("9999", Status.FAILURE, "it was made by a newer version"),
    ],
)
async def test_how_far_a_postgresql_is_migrated_is_told(
    look: Look, postgres: PostgresServer, version: str | None, status: Status, says: str
) -> None:
    url = await postgres.create_database()
    await _migrate(url)
    if version:
        await postgres.execute(f"UPDATE alembic_version SET version_num = '{version}'", url.rpartition("/")[2])
    result = of(await look(CC_DATABASE_URL=url), "database")
    assert result.status is status
    assert says in words(result)


async def test_a_database_that_is_missing_is_a_failure_with_the_command_that_makes_it(
    look: Look, postgres: PostgresServer
) -> None:
    result = of(await look(CC_DATABASE_URL=postgres.url("nowhere")), "database")
    assert result.status is Status.FAILURE
    assert "has no database nowhere -> create it (createdb" in words(result)


async def test_a_wrong_password_of_the_database_is_a_failure_and_never_shown(
    look: Look, postgres: PostgresServer
) -> None:
    examination = await look(CC_DATABASE_URL=postgres.url().replace(postgres.password, "wrong-canary"))
    result = of(examination, "database")
    assert result.status is Status.FAILURE
    assert "refuses the login of tester -> check user and password" in words(result)
    assert "wrong-canary" not in everything(examination)


async def test_a_postgresql_that_is_not_there_is_a_failure(look: Look) -> None:
    result = of(await look(CC_DATABASE_URL=f"postgresql://u:canary@127.0.0.1:{_free_port()}/d"), "database")
    assert result.status is Status.FAILURE
    assert "cannot reach PostgreSQL at 127.0.0.1:" in words(result)
    assert "canary" not in words(result)


async def test_a_postgresql_that_is_too_old_is_a_failure(
    look: Look, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cc_gateway.stores.postgres.LEAST_VERSION", 99)
    result = of(await look(CC_DATABASE_URL=postgres.url()), "database")
    assert result.status is Status.FAILURE
    assert "and 99 or newer is needed -> upgrade it" in words(result)


async def test_a_user_that_may_not_make_tables_is_a_failure_with_the_grant(
    look: Look, postgres: PostgresServer
) -> None:
    url = await postgres.create_database()
    name = url.rpartition("/")[2]
    await postgres.execute(f"CREATE ROLE guest_{name} LOGIN PASSWORD 'x'")
    guest = url.replace(f"{postgres.user}:{postgres.password}", f"guest_{name}:x")
    result = of(await look(CC_DATABASE_URL=guest), "database")
    assert result.status is Status.FAILURE
    assert f'ALTER DATABASE "{name}" OWNER TO "guest_{name}"' in words(result)


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.open()
    await database.close()


# ------------------------------------------------------------------------------------------- SQLite


@pytest.fixture
async def sqlite(place: Path) -> Path:
    """A database that an earlier gateway has left."""
    path = place / "data" / "cc-docker.sqlite3"
    path.parent.mkdir(mode=0o700)
    await _migrate(sqlite_url(path))
    return path


async def test_a_sqlite_database_is_read_without_a_trace(look: Look, sqlite: Path) -> None:
    before = {path.name: path.read_bytes() for path in sqlite.parent.iterdir()}
    result = of(await look(), "database")
    assert result.status is Status.OK
    assert "(newest)" in words(result)
    assert {path.name: path.read_bytes() for path in sqlite.parent.iterdir()} == before


@pytest.mark.parametrize(("version", "status"), [("0001", Status.OK), ("9999", Status.FAILURE)])
async def test_how_far_a_sqlite_database_is_migrated_is_told(
    look: Look, sqlite: Path, version: str, status: Status
) -> None:
    with contextlib.closing(sqlite3.connect(sqlite)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    result = of(await look(), "database")
    assert result.status is status
    assert version in words(result)


async def test_a_sqlite_file_that_is_damaged_is_a_failure(look: Look, sqlite: Path) -> None:
    with sqlite.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    result = of(await look(), "database")
    assert result.status is Status.FAILURE
    assert ".recover" in words(result)


async def test_a_file_that_is_no_database_is_a_failure(look: Look, sqlite: Path) -> None:
    sqlite.write_text("this is not a database, whatever it is named")
    assert of(await look(), "database").status is Status.FAILURE


async def test_a_folder_in_place_of_the_file_is_a_failure(look: Look, place: Path) -> None:
    (place / "folder").mkdir()
    result = of(await look(CC_DATABASE_URL=sqlite_url(place / "folder")), "database")
    assert result.status is Status.FAILURE
    assert f"ls -ld {place}/folder" in words(result)


async def test_an_address_of_a_database_that_cannot_be_read_is_a_failure(look: Look) -> None:
    examination = await look(CC_DATABASE_URL="mysql://user:canary@host/d")
    result = of(examination, "database")
    assert result.status is Status.FAILURE
    assert "begins with mysql://" in words(result)
    assert "canary" not in everything(examination)
