"""Whether the database can be reached and used, and how far it has been migrated. It is only read."""

import asyncio
import shlex
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from cc_gateway.doctor.check import Check, Finding, Trouble, failure, in_thread, ok
from cc_gateway.doctor.subject import Subject, nearest_folder
from cc_gateway.doctor.words import amount, milliseconds
from cc_gateway.errors import StartupError, Unavailable
from cc_gateway.stores import address, postgres
from cc_gateway.stores.engine import MIGRATIONS, Database, sqlite_url

READING_SECONDS: Final = 3.0
VERSION: Final = "SELECT version_num FROM alembic_version"
FACTS: Final = text(
    "SELECT to_regclass('alembic_version') IS NOT NULL AS migrated, pg_is_in_recovery() AS replica,"
    " has_schema_privilege(current_schema(), 'CREATE') AS creates"
)
NEWER: Final = "install that version, or name another database in CC_DATABASE_URL"


def checks(subject: Subject) -> list[Check]:
    return [Check("database", lambda: _database(subject), "see whether its server or disk is overloaded, and its log")]


async def _database(subject: Subject) -> Finding:
    settings = subject.settings
    try:
        url = address.parse(settings.store.database_url or sqlite_url(settings.data_dir / "cc-docker.sqlite3"))
        if url.get_backend_name() == "sqlite":
            return await in_thread(_sqlite, url)
        return await _postgres(subject, url)
    except StartupError as error:
        problem, mend = _halves(error.message)
        return failure("it cannot be used", problem, mend)


def _halves(message: str) -> tuple[str, str]:
    """What is wrong and what to do, of a message that says both."""
    for mark in (". Check ", ": write ", ": upgrade ", ": create ", ": check ", ": make "):
        problem, found, mend = message.partition(mark)
        if found:
            return problem, f"{found.lstrip(':. ').lower()}{mend}"
    return message, "see CC_DATABASE_URL in docs/configuration.md"


def _migration(found: str | None, empty: str) -> tuple[str, tuple[Trouble, ...]]:
    """How far it is, and whether that is further than we know."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    newest = scripts.get_current_head()
    if found is None:
        return empty, ()
    if found == newest:
        return f"migrated to {found} (newest)", ()
    try:
        scripts.get_revision(found)
    except CommandError:
        problem = f"it was made by a newer version: it is at {found}, and this one knows {newest} at most"
        return f"migrated to {found}", (Trouble(problem, NEWER),)
    return f"at {found}: the next start migrates it to {newest}", ()


# ---------------------------------------------------------------- PostgreSQL


async def _postgres(subject: Subject, url: URL) -> Finding:
    database = Database(url.render_as_string(hide_password=False), subject.settings.store)
    try:
        async with database.read() as connection:
            return await _server(connection, url)
    except Unavailable as error:
        raise postgres.cannot_open(url, error.__cause__ or error) from error
    except SQLAlchemyError as error:
        raise postgres.cannot_open(url, error) from error
    finally:
        await database.close()


async def _server(connection: AsyncConnection, url: URL) -> Finding:
    version = connection.dialect.server_version_info
    postgres.require_version(version)
    loop = asyncio.get_running_loop()
    facts = (await connection.execute(FACTS)).one()
    begun = loop.time()
    await connection.execute(text("SELECT 1"))
    latency = milliseconds(loop.time() - begun)
    found = (await connection.execute(text(VERSION))).scalar_one_or_none() if facts.migrated else None
    state, troubles = _migration(found, "empty: the first start fills it")
    if facts.replica:
        troubles += (Trouble("it is a replica, which cannot be written", "name its primary in CC_DATABASE_URL"),)
    elif not facts.creates and found is None:
        statement = f'ALTER DATABASE "{url.database}" OWNER TO "{url.username}"'
        problem = f"{url.username} may not make tables in the database {url.database}"
        troubles += (Trouble(problem, f"psql -h {url.host} -U postgres -c {shlex.quote(statement)}"),)
    numbers = ".".join(str(part) for part in version or ())
    return ok(f"PostgreSQL {numbers}, {state}, {latency}", *troubles)


# ---------------------------------------------------------------- SQLite


def _sqlite(url: URL) -> Finding:
    path = Path(url.database or "")
    if not path.exists():
        place = nearest_folder(path.parent)
        if not place.is_dir():
            return failure(str(path), f"{place} is no folder", "name another file in CC_DATABASE_URL")
        return ok(f"SQLite {sqlite3.sqlite_version}, {path}, which the first start makes")
    try:
        return _file(path)
    except sqlite3.OperationalError as error:
        return failure(
            str(path), f"it cannot be opened: {error}", f"see whose it is and who may write it: ls -ld {path}"
        )
    except sqlite3.DatabaseError as error:
        return failure(str(path), f"it cannot be read: {error}", _restore(path))


def _file(path: Path) -> Finding:
    """Read it as it is. Without a log beside it nobody has it open, and `immutable` makes none for the reading."""
    immutable = not _log_of(path).exists()
    size = path.stat().st_size
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}", uri=True)
    ) as db:
        begun = time.monotonic()
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        latency = milliseconds(time.monotonic() - begun)
        row = db.execute(VERSION).fetchone() if "alembic_version" in tables else None
        damage = _damage(db)
    if immutable and _log_of(path).exists():  # a gateway has started meanwhile: what was read may be of two times
        return _file(path)
    state, troubles = _migration(row[0] if row else None, "empty: the first start fills it")
    if damage is None:
        state += ", too large to read through here"
    elif damage != "ok":
        troubles += (Trouble(f"the file is damaged: {damage}", _restore(path)),)
    return ok(f"SQLite {sqlite3.sqlite_version}, {state}, {amount(size)}, {latency}", *troubles)


def _damage(db: sqlite3.Connection) -> str | None:
    """What `quick_check` says, `ok` for nothing; None where it takes too long to tell."""
    end = time.monotonic() + READING_SECONDS
    db.set_progress_handler(lambda: int(time.monotonic() > end), 10_000)
    try:
        return str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return None
        raise


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _restore(path: Path) -> str:
    kept = shlex.quote(f"{path}.recovered")
    return f"stop the gateway, and save what can be: sqlite3 {shlex.quote(str(path))} .recover | sqlite3 {kept}"
