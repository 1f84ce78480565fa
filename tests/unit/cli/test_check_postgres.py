"""What ``lando-fsm check`` says of a database on PostgreSQL."""

from __future__ import annotations

import re
import time

import pytest
import sqlalchemy as sa

from lando.cli import check_postgres
from lando.errors import LandoError
from lando.postgres import inspection
from lando.store.schema import HEAD
from tests.support import postgres_server as postgres
from tests.support.postgres_server import OWNER, Database
from tests.support.shared_servers import session_directory


def wrong(url: str) -> str:
    with pytest.raises(LandoError) as raised:
        check_postgres.answer(url)
    return str(raised.value)


def test_version_rights_schema_and_clock_in_one_line(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, url = postgres_database, postgres_database.url
    details = rf"PostgreSQL [0-9.]+, not encrypted, account {OWNER}"
    where = rf"database '{here.name}' at 127\.0\.0\.1:[0-9]+ \({details}\)"
    verdict, line = check_postgres.answer(url)
    assert verdict == "ok" and re.fullmatch(rf"{where}, schema {HEAD}", line)

    now = time.time
    monkeypatch.setattr(inspection.time, "time", lambda: now() - 60)
    verdict, line = check_postgres.answer(url)
    assert verdict == "warning"
    assert line.endswith("; the server's clock is 60 s ahead of this machine's: let both follow NTP")
    monkeypatch.undo()

    here.execute("UPDATE alembic_version SET version_num = '0005'")
    assert check_postgres.answer(url)[1].endswith(f", schema 0005; migrated to {HEAD} when next used")
    here.execute("ALTER TABLE logs OWNER TO postgres", f"GRANT ALL ON logs TO {OWNER}")
    assert f"is to be migrated to {HEAD}, but this account does not own logs" in wrong(url)
    here.execute(
        "UPDATE alembic_version SET version_num = '9999'", "UPDATE oldest_version SET version_num = '9999'"
    )
    assert "its schema (9999) is newer than this lando-fsm knows" in wrong(url)
    here.execute(f"REVOKE DELETE ON logs FROM {OWNER}", f"REVOKE ALL ON facts FROM {OWNER}")
    assert "this account may not read and write facts, logs: docs/postgresql.md" in wrong(url)
    here.execute(f"ALTER DATABASE {here.name} SET default_transaction_read_only = on")
    assert "is read-only, a replica perhaps; name the primary" in wrong(url)


def test_an_empty_database() -> None:
    here = postgres.shared(session_directory()).create(migrated=False)
    try:
        assert check_postgres.answer(here.url)[1].endswith(f"schema none; migrated to {HEAD} when next used")
        assert here.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
        here.execute(
            "ALTER DATABASE " + here.name + " OWNER TO postgres", "REVOKE CREATE ON SCHEMA public FROM public"
        )
        assert "may not make tables in the schema 'public'" in wrong(here.url)
        absent = sa.make_url(here.url).update_query_dict({"options": "-csearch_path=absent"})
        assert "no schema of search_path exists" in wrong(absent.render_as_string(hide_password=False))
        assert "password authentication failed" in wrong(here.url.replace(f"{OWNER}:", f"{OWNER}:x"))
    finally:
        here.remove()
