"""Addresses of databases: mistakes are named without what may be secret, and people see no password."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from lando.postgres import address

SEVERAL = "postgresql+psycopg://u:hunter2@/d?host=a:5432&host=b:5433&target_session_attrs=read-write"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:hunter2@h/d", "write postgresql+psycopg://USER:PASSWORD@HOST/DATABASE instead of"),
        ("postgresql://u:hunter2@h/d", "instead of postgresql://…"),
        ("postgresql+psycopg2://u:hunter2@h/d", "instead of postgresql+psycopg2://…"),
        ("postgresql+psycopg:u:hunter2@h/d", "expected postgresql+psycopg://USER"),
        ("postgresql+psycopg://u:hun@ter2@h/d", "write @ / : ? # % in the user or the password as %40 %2F"),
        ("postgresql+psycopg://u:h:hunter2", "cannot be read"),
        ("postgresql+psycopg://u:hunter2@a:1,b:2/d", "name several servers so: postgresql+psycopg://USER"),
        ("postgresql+psycopg://u:hunter2@h/d/hunter2", "cannot be read"),
        ("postgresql+psycopg://u:hunter2@h", "names no database"),
        ("postgresql+psycopg://u:hunter2@h/d?sslmod=require", "unknown option 'sslmod'; it takes those of"),
        ("postgresql+psycopg://u:hunter2@h/d?connect_timeout=3s", "connect_timeout: expected a whole number"),
        ("postgresql+psycopg://u:hunter2@h:99999/d", "h:99999: expected HOST:PORT"),
        (SEVERAL.replace("5433", "x"), "b:x: expected HOST:PORT"),
    ],
)
def test_a_mistake_is_named_without_what_may_be_secret(url: str, expected: str) -> None:
    wrong = address.mistake(url)
    assert wrong is not None and expected in wrong
    assert "hunter2" not in wrong and "ter2" not in wrong


@pytest.mark.parametrize(
    ("url", "shown", "told"),
    [
        ("u:hunter2@h/d", "h:5432/d", "database 'd' at h:5432"),
        ("u:hunter2%40@h:6000/d?sslmode=require", "h:6000/d", "database 'd' at h:6000"),
        ("u:hunter2@[::1]/d", "[::1]:5432/d", "database 'd' at [::1]:5432"),
        ("u:hunter2@a,b/d", "a:5432,b:5432/d", "database 'd' at a:5432 or b:5432"),
        (SEVERAL.partition("://")[2], "a:5432,b:5433/d", "database 'd' at a:5432 or b:5433"),
        ("u@/d?host=a&host=b&port=1&port=2", "a:1,b:2/d", "database 'd' at a:1 or b:2"),
        ("/d?host=/run/pg&user=u&password=hunter2", "/run/pg/d", "database 'd' at /run/pg"),
        ("/d", "/d", "database 'd' at the default server (PGHOST, else the socket on this machine)"),
    ],
)
def test_people_see_hosts_and_database(url: str, shown: str, told: str) -> None:
    whole = f"postgresql+psycopg://{url}"
    assert address.mistake(whole) is None
    assert address.shown(whole) == f"postgresql+psycopg://{shown}"
    assert str(address.address_of(sa.make_url(whole))) == told
    assert address.holds_secret(whole) == ("hunter2" in url)
