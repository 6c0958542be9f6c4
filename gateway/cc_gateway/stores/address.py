"""What `CC_DATABASE_URL` means. Pure; no message repeats the address, for it holds a password."""

from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from cc_gateway.errors import StartupError

POSTGRESQL: Final = "postgresql+asyncpg"
SQLITE: Final = "sqlite+aiosqlite"
DRIVERS: Final = {
    "postgres": POSTGRESQL,  # as hosting providers write it
    "postgresql": POSTGRESQL,
    POSTGRESQL: POSTGRESQL,
    "sqlite": SQLITE,
    SQLITE: SQLITE,
}
SQLALCHEMYS_OWN: Final = frozenset({"host", "port", "ssl", "prepared_statement_cache_size"})


def sqlite_url(path: Path) -> str:
    return f"{SQLITE}:///{path}"


def parse(text: str) -> URL:
    """The address, with the driver that we use. Raises `StartupError` that says what to write."""
    try:
        url = make_url(text)
        readable = "@" not in (url.host or "")  # else it is the rest of a password
    except (ArgumentError, ValueError):
        readable = False
    if not readable:
        raise StartupError(
            f"CC_DATABASE_URL cannot be read: write {POSTGRESQL}://USER:PASSWORD@HOST:5432/DATABASE (special characters"
            f" of the password as percent codes, such as %40 for @) or {SQLITE}:////FOLDER/FILE",
            code="bad_database_url",
        )
    if url.drivername not in DRIVERS:
        raise StartupError(
            f"CC_DATABASE_URL begins with {url.drivername}://, which this gateway has no driver for: write"
            f" {POSTGRESQL}:// for PostgreSQL or {SQLITE}:/// for SQLite",
            code="bad_database_url",
        )
    return url.set(drivername=DRIVERS[url.drivername])


def split_options(url: URL) -> tuple[URL, str | None]:
    """The address, and the rest of its query as an address for asyncpg itself.

    SQLAlchemy hands all of a query to asyncpg as arguments, which knows few; as part of an address it reads all that libpq
    does, such as `sslmode` and `sslrootcert`.
    """
    rest = {name: value for name, value in url.query.items() if name not in SQLALCHEMYS_OWN}
    if not rest:
        return url, None
    return url.difference_update_query(rest), "postgresql:///?" + urlencode(rest, doseq=True)
