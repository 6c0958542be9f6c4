"""PostgreSQL (>= 15) through asyncpg: connections whose every wait has a bound, and what its errors mean.

A server may be gone, or there and silent. So every connect and every command has a time limit of the client's own, which
holds where the server's (`statement_timeout`) cannot; and a connection whose command ran into it is cut at once: a silent
server confirms no cancellation, and takes no leave.
"""

import asyncio
from typing import Any, Final

from sqlalchemy import URL, event
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cc_gateway.errors import StartupError
from cc_gateway.settings import StoreSettings
from cc_gateway.stores.address import split_options

LEAST_VERSION: Final = 15
MIGRATION_SECONDS: Final = 600
MIGRATION_LOCK_SECONDS: Final = 60
TURNED_AWAY: Final = {"28000", "28P01"}
AWAY: Final = (
    "08",  # the connection broke
    "28",  # the login is refused (any more)
    "3D",  # the database is not there (any more)
    "40",  # rolled back for the sake of others: serialization failure, deadlock
    "53",  # out of connections, memory, disk
    "57",  # canceled by a time limit, shut down, starting up
    "58",  # the system below failed
    "25006",  # read-only: it has become a replica
    "25P03",  # idle in a transaction for too long
    "55P03",  # a lock was not to be had in time
)
"""Beginnings of SQLSTATEs that mean "not now": the same transaction may succeed a little later."""


def create_engine(url: URL, settings: StoreSettings) -> AsyncEngine:
    """An engine whose connections are checked for nothing: asyncpg notices by itself when the server hangs up.

    (A ping at each checkout, `pool_pre_ping`, costs three round trips, and finds no more.)
    """
    timeout = settings.database_command_timeout
    arguments = connect_arguments(url, settings) | {
        "command_timeout": timeout,
        "server_settings": {
            "application_name": "cc-docker",
            "statement_timeout": str(int(timeout * 1000)),
            "idle_in_transaction_session_timeout": str(int(timeout * 2000)),  # a gateway that vanished keeps no lock
            "tcp_keepalives_idle": "30",
            "tcp_keepalives_interval": "10",
            "tcp_keepalives_count": "3",
        },
    }
    engine = create_async_engine(
        split_options(url)[0],
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_max_overflow,
        pool_timeout=settings.database_pool_timeout,
        hide_parameters=True,  # prompts do not belong into logs
        connect_args=arguments,
    )
    event.listen(engine.sync_engine, "connect", _mark_fresh)
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    event.listen(engine.sync_engine, "handle_error", _cut_off)
    return engine


def connect_arguments(url: URL, settings: StoreSettings) -> dict[str, Any]:
    """Arguments for asyncpg that any connection to this address wants."""
    dsn = split_options(url)[1]
    return {"timeout": settings.database_connect_timeout} | ({"dsn": dsn} if dsn else {})


def migration_arguments(url: URL, settings: StoreSettings) -> dict[str, Any]:
    """For a migration: it may take long, but waits for another gateway's only so long."""
    limits = {"application_name": "cc-docker migration", "lock_timeout": f"{MIGRATION_LOCK_SECONDS}s"}
    return connect_arguments(url, settings) | {"command_timeout": MIGRATION_SECONDS, "server_settings": limits}


def _mark_fresh(_connection: Any, record: Any) -> None:
    record.info["fresh"] = True


def _replace_closed(connection: Any, record: Any, _proxy: Any) -> None:
    """Take no connection from the pool that the server has closed meanwhile; one just made has its first command fail."""
    fresh = record.info.pop("fresh", False)
    if connection.driver_connection.is_closed() and not fresh:
        raise DisconnectionError


def _cut_off(context: ExceptionContext) -> None:
    """Cut a connection whose command was given up: whatever it waits for may never come."""
    connection = context.connection
    if not isinstance(context.original_exception, TimeoutError | asyncio.CancelledError) or connection is None:
        return
    if not connection.closed and not connection.invalidated:
        driver_connection: Any = connection.connection.driver_connection
        driver_connection.terminate()
    context.is_disconnect = True
    context.invalidate_pool_on_disconnect = False  # the others may be well: each finds out for itself


def is_away(error: DBAPIError) -> bool:
    """Whether this error means that the database cannot serve now, and not that the statement is wrong."""
    return error.connection_invalidated or (sqlstate(error) or "").startswith(AWAY)


def sqlstate(error: BaseException) -> str | None:
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def require_version(version: tuple[int | str, ...] | None) -> None:
    if version and int(version[0]) < LEAST_VERSION:
        raise StartupError(
            f"the PostgreSQL server of CC_DATABASE_URL is version {'.'.join(map(str, version))}, and {LEAST_VERSION} or newer"
            " is needed: upgrade it, or use another server",
            code="database_too_old",
        )


def cannot_open(url: URL, error: BaseException) -> StartupError:
    """Why the database cannot be opened, and how to mend it (pure)."""
    place = f"{url.host or 'localhost'}:{url.port or 5432}"
    state = sqlstate(error) or ""
    said = str(getattr(error, "orig", None) or error) or "no answer in time"
    if state in TURNED_AWAY:
        return StartupError(
            f"PostgreSQL at {place} refuses the login of {url.username}: check user and password in CC_DATABASE_URL"
            f" (special characters as percent codes), and the server's pg_hba.conf. It said: {said}",
            code="database_login_refused",
        )
    if state.startswith("3D"):
        return StartupError(
            f"PostgreSQL at {place} has no database {url.database}: create it (createdb -h {url.host} -O {url.username}"
            f" {url.database}), or name another in CC_DATABASE_URL",
            code="database_missing",
        )
    if state == "42501":
        return StartupError(
            f"{url.username} may not make tables in the database {url.database} ({said}): make it the owner (ALTER DATABASE"
            f' "{url.database}" OWNER TO "{url.username}"), or GRANT CREATE ON SCHEMA public TO it',
            code="database_not_allowed",
        )
    if state == "55P03":
        return StartupError(
            f"another gateway has been migrating the database for {MIGRATION_LOCK_SECONDS} s: start again when it is done",
            code="database_busy",
        )
    if isinstance(error, OSError):
        return StartupError(
            f"cannot reach PostgreSQL at {place}: {said}. Check host and port in CC_DATABASE_URL, that the server runs, and"
            " that it listens there",
            code="database_unreachable",
        )
    return StartupError(
        f"cannot use PostgreSQL at {place}: {said}. Check CC_DATABASE_URL and the server's log",
        code="database_unavailable",
    )
