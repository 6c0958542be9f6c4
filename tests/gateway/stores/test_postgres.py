"""PostgreSQL alone: how it is opened, what is said where it cannot be, and that every wait for it ends."""

import asyncio
import datetime
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from cc_gateway.errors import StartupError, Unavailable
from cc_gateway.settings import StoreSettings
from cc_gateway.stores import record, sessions
from cc_gateway.stores.engine import Database
from cc_protocol.events import StatusRunning
from support import postgres as postgresql
from support.postgres import PostgresServer
from support.sessions import new_session
from support.waiting import until

QUICK = StoreSettings.model_construct(
    database_command_timeout=1.0, database_connect_timeout=1.0, database_pool_timeout=1.0, database_pool_size=2
)
SOON = 6.0
"""Seconds within which every question to a server that does not answer has failed, under QUICK."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of the test's own, to break."""
    if not postgresql.binaries():
        pytest.skip(postgresql.MISSING)
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
async def frail(server: PostgresServer) -> AsyncIterator[Database]:
    database = Database(await server.create_database(), QUICK)
    await database.open()
    yield database
    async with asyncio.timeout(SOON):
        await database.close()


async def works(database: Database) -> bool:
    try:
        await database.ping()
    except Unavailable:
        return False
    return True


async def refused(url: str, settings: StoreSettings | None = None) -> StartupError:
    """How opening this ends; in no case with the password."""
    database = Database(url, settings)
    try:
        with pytest.raises(StartupError) as caught:
            async with asyncio.timeout(20):
                await database.open()
    finally:
        await database.close()
    return caught.value


# ---------------------------------------------------------------- opening


async def test_gateways_that_start_at_once_on_an_empty_database_all_get_the_schema(postgres: PostgresServer) -> None:
    url = await postgres.create_database()
    program = f"""
import asyncio, sys
from cc_gateway.stores.engine import Database
async def main():
    database = Database({url!r})
    sys.stdin.readline()  # all begin at once
    await database.open()
    await database.close()
asyncio.run(main())
"""
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stderr=pipe) for _ in range(5)
    ]
    async with asyncio.timeout(60):
        done = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * 5, b"\n".join(errors for _, errors in done).decode()
    database = Database(url)
    async with database.write() as connection:
        await sessions.add(connection, new_session())
    await database.close()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"password": "hush-hush"}, "database_login_refused", ["pg_hba.conf", "tester"]),
        ({"user": "stranger"}, "database_login_refused", ["stranger"]),
        ({"name": "nowhere"}, "database_missing", ["nowhere", "createdb"]),
        ({"port": "1"}, "database_unreachable", ["127.0.0.1:1", "CC_DATABASE_URL"]),
        ({"host": "no-such-host.invalid"}, "database_unreachable", ["no-such-host.invalid"]),
        ({"query": "?sslmode=require"}, "database_unreachable", ["SSL"]),
        ({"query": "?sslmode=perhaps"}, "database_unavailable", ["sslmode"]),
        ({"query": "?no_such_setting=1"}, "database_unavailable", ["no_such_setting"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_keeps_the_gateway_out_is_named_with_the_mend_and_without_the_password(
    postgres: PostgresServer, change: dict[str, str], code: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {
        "user": postgres.user,
        "password": postgres.password,
        "host": "127.0.0.1",
        "port": str(postgres.port),
        "name": "postgres",
        "query": "",
    } | change
    url = "postgresql://{user}:{password}@{host}:{port}/{name}{query}".format(**parts)
    error = await refused(url)
    assert error.code == code, error.message
    assert all(word in error.message for word in words), error.message
    said = error.message + "".join(capsys.readouterr())
    assert parts["password"] not in said


async def test_a_user_who_may_not_make_tables_is_told_which_right_is_missing(postgres: PostgresServer) -> None:
    url = await postgres.create_database()
    password = secrets.token_hex(8)
    user = f"guest_{secrets.token_hex(4)}"
    await postgres.execute(f"CREATE USER {user} PASSWORD '{password}'")
    error = await refused(url.replace(f"{postgres.user}:{postgres.password}", f"{user}:{password}"))
    assert error.code == "database_not_allowed"
    assert "GRANT CREATE ON SCHEMA public" in error.message
    assert password not in error.message


async def test_a_server_that_does_not_answer_does_not_hold_up_the_start_for_good(server: PostgresServer) -> None:
    url = await server.create_database()
    server.freeze()
    begun = time.monotonic()
    error = await refused(url, QUICK)
    assert error.code == "database_unreachable"
    assert time.monotonic() - begun < SOON


async def test_a_password_of_any_characters_works_as_percent_codes(postgres: PostgresServer) -> None:
    password = "p@ss/w:rd?#%[]é"
    user = f"odd_{secrets.token_hex(4)}"
    await postgres.execute(f"CREATE USER {user} PASSWORD '{password}'")
    url = (await postgres.create_database()).rpartition("/")[2]
    await postgres.execute(f"ALTER DATABASE {url} OWNER TO {user}")
    database = Database(f"postgres://{user}:{quote(password, safe='')}@127.0.0.1:{postgres.port}/{url}")
    await database.open()
    await database.ping()
    await database.close()


# ---------------------------------------------------------------- TLS


def _certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 that is its own authority: `server.crt` and `server.key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.key").write_bytes(key.private_bytes(pem, pkcs8, plain))
    (folder / "server.key").chmod(0o600)
    owner = folder.stat()
    for file in ("server.crt", "server.key"):
        shutil.chown(folder / file, owner.st_uid, owner.st_gid)


async def test_tls_is_used_and_checked_as_the_address_says(server: PostgresServer, tmp_path: Path) -> None:
    url = (await server.create_database()).replace("127.0.0.1", "localhost")
    _certificate(server.data)
    authority = tmp_path / "authority.crt"
    shutil.copy(server.data / "server.crt", authority)
    server.stop()
    server.start(ssl="on")
    for query in ("ssl=require", "sslmode=require", f"sslmode=verify-full&sslrootcert={authority}"):
        database = Database(f"{url}?{query}")
        await database.open()
        async with database.read() as connection:
            used = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert (await connection.execute(used)).scalar_one() is True
        await database.close()
    error = await refused(f"{url}?sslmode=verify-full")
    assert "certificate" in error.message.lower()


# ---------------------------------------------------------------- away, and back


async def test_a_connection_that_the_server_closed_is_replaced_unnoticed(
    frail: Database, server: PostgresServer
) -> None:
    await frail.ping()
    await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cc-docker'")
    await until(lambda: _closed(frail), "asyncpg to notice")
    await frail.ping()


async def _closed(database: Database) -> bool:
    """Whether the connections at rest in the pool are closed."""
    pool: Any = database._writer.sync_engine.pool
    return all(record.dbapi_connection.driver_connection.is_closed() for record in list(pool._pool._queue._queue))


async def test_a_restart_is_survived_and_no_transaction_is_taken_for_done_that_was_not(
    frail: Database, server: PostgresServer
) -> None:
    with pytest.raises(Unavailable):
        async with frail.write() as connection:
            await sessions.add(connection, session := new_session())
            await asyncio.to_thread(server.restart, signal.SIGQUIT)
    async with asyncio.timeout(SOON):
        async with frail.read() as connection:
            assert await sessions.get(connection, session.id) is None


async def test_a_server_that_is_stopped_is_unavailable_at_once(frail: Database, server: PostgresServer) -> None:
    await frail.ping()
    server.stop()
    async with asyncio.timeout(SOON):
        results = await asyncio.gather(*(works(frail) for _ in range(20)))
    assert results == [False] * 20
    server.start()
    assert await works(frail)


async def test_a_server_that_stands_still_is_unavailable_soon_for_however_many_and_comes_back(
    frail: Database, server: PostgresServer
) -> None:
    """Also in the middle of transactions, whose locks nobody keeps afterwards."""
    session = new_session()
    async with frail.write() as connection:
        await sessions.add(connection, session)

    async def append() -> None:
        async with frail.write() as connection, record.recording_in(connection, session.id) as recording:
            recording.append(StatusRunning())

    async def append_frozen() -> None:
        async with frail.write() as connection, record.recording_in(connection, session.id) as recording:
            recording.append(StatusRunning())
            server.freeze()

    begun = time.monotonic()
    async with asyncio.timeout(2 * SOON):
        results = await asyncio.gather(append_frozen(), *(append() for _ in range(40)), return_exceptions=True)
    assert time.monotonic() - begun < SOON
    assert all(isinstance(result, Unavailable | None) for result in results), results
    assert any(isinstance(result, Unavailable) for result in results)
    server.thaw()
    await until(lambda: works(frail), "the database to be back", SOON)
    await append()
    async with frail.read() as connection:
        events, _ = await record.read(connection, session.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len(events) > sum(result is None for result in results)


async def test_a_database_that_stands_still_does_not_keep_the_gateway_from_ending(server: PostgresServer) -> None:
    database = Database(await server.create_database(), QUICK)
    await database.open()
    await database.ping()
    server.freeze()
    async with asyncio.timeout(SOON):
        await database.close()


async def test_a_statement_that_takes_too_long_ends_and_is_unavailable(frail: Database) -> None:
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        async with frail.read() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))
    assert time.monotonic() - begun < SOON
    assert await works(frail)


async def test_a_deadlock_and_a_conflict_of_transactions_are_unavailable_and_not_a_crash(
    frail: Database, server: PostgresServer
) -> None:
    for state in ("40P01", "40001", "53300", "57P01", "25006", "55P03"):
        with pytest.raises(Unavailable) as caught:
            async with frail.write() as connection:
                await connection.execute(text(f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$"))
        assert caught.value.retry_after > 0
        assert await works(frail)


async def test_no_statement_in_an_error_shows_what_was_written(frail: Database) -> None:
    with pytest.raises(Exception, match="parameters hidden") as caught:
        async with frail.write() as connection:
            await connection.execute(text("SELECT :secret / 0"), {"secret": 123456789})
    assert not re.search("123456789", str(caught.value))
