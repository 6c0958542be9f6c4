"""What may stand in CC_DATABASE_URL, and what is said of anything else; a password is never said."""

from urllib.parse import parse_qs, urlsplit

import pytest

from cc_gateway.errors import StartupError
from cc_gateway.stores import address, postgres
from cc_gateway.stores.engine import Database


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("postgresql+asyncpg://u:p@h:5433/d", "postgresql+asyncpg://u:p@h:5433/d"),
        ("postgresql://u:p@h/d", "postgresql+asyncpg://u:p@h/d"),
        ("postgres://u:p%40@h/d?sslmode=require", "postgresql+asyncpg://u:p%40@h/d?sslmode=require"),
        ("sqlite:////a/b", "sqlite+aiosqlite:////a/b"),
        ("sqlite+aiosqlite:////a/b", "sqlite+aiosqlite:////a/b"),
    ],
)
def test_an_address_without_a_driver_gets_ours(written: str, meant: str) -> None:
    assert address.parse(written).render_as_string(hide_password=False) == meant


@pytest.mark.parametrize(
    "written",
    [
        "postgresql+psycopg2://u:hush-hush@h/d",
        "postgresql+psycopg://u:hush-hush@h/d",
        "mysql://u:hush-hush@h/d",
        "postgresql+asyncpg://u:hush@hush@h/d",  # half of it would be read as a host
        "postgresql+asyncpg://h:hush/d",
        "hush-hush",
        "//hush-hush",
    ],
)
def test_any_other_address_is_refused_with_what_to_write_and_without_the_password(written: str) -> None:
    with pytest.raises(StartupError) as refused:
        Database(written)
    assert "postgresql+asyncpg://" in refused.value.message
    assert "CC_DATABASE_URL" in refused.value.message
    assert "hush" not in refused.value.message
    assert refused.value.code == "bad_database_url"


def test_options_as_libpq_has_them_go_to_asyncpg_and_the_others_stay() -> None:
    url = address.parse("postgres://h/d?ssl=require&sslrootcert=/a%20b&target_session_attrs=read-write")
    rest, dsn = address.split_options(url)
    assert dict(rest.query) == {"ssl": "require"}
    assert dsn
    assert parse_qs(urlsplit(dsn).query) == {"sslrootcert": ["/a b"], "target_session_attrs": ["read-write"]}


@pytest.mark.parametrize(
    ("version", "accepted"), [((14, 12), False), ((9, 6, 24), False), ((15, 0), True), ((18, 1), True)]
)
def test_a_server_older_than_15_is_refused_with_both_versions(version: tuple[int, ...], accepted: bool) -> None:
    if accepted:
        postgres.require_version(version)
        return
    with pytest.raises(StartupError, match=f"version {'.'.join(map(str, version))}, and 15 or newer is needed"):
        postgres.require_version(version)
