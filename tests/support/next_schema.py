"""A later version of the schema, made on the fly, as a newer lando-fsm would migrate to it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import sqlalchemy as sa

from lando.store import migrations
from lando.store.database import connect
from lando.store.schema import HEAD, upgrade

NEXT = f"{int(HEAD) + 1:04}"

MIGRATION = '''
"""What CONTRIBUTING.md allows in a release that older programs may run beside."""

import sqlalchemy as sa
from alembic import op

revision = "NEXT"
down_revision = "HEAD"
oldest = "OLDEST"


def upgrade():
    for table in ("jobs", "history", "effects", "logs", "facts", "processed_messages", "consoles"):
        op.add_column(table, sa.Column("next_text", sa.Text(), nullable=False, server_default="unknown"))
        op.add_column(table, sa.Column("next_number", sa.Integer(), nullable=True))
        op.create_index("next_of_" + table, table, ["next_text"])
    op.create_table(
        "next_table",
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
    )
'''


def migrate_to_next(url: str, directory: Path, oldest: str) -> None:
    """Migrate a database as the next release would.

    Args:
        url: of a database, which may have any version up to this program's.
        directory: for the migrations.
        oldest: the oldest version whose programs may use the result.
    """
    location = directory / f"migrations-{oldest}"
    shutil.copytree(Path(migrations.__path__[0]), location, ignore=shutil.ignore_patterns("__pycache__"))
    text = MIGRATION.replace("NEXT", NEXT).replace("HEAD", HEAD).replace("OLDEST", oldest)
    (location / "versions" / f"v{NEXT}_next.py").write_text(text)
    engine, _ = connect(url)
    with contextlib.closing(engine.connect()) as connection, connection.begin():
        upgrade(connection, str(location), NEXT)
    engine.dispose()


def versions(url: str) -> tuple[list[str], list[str]]:
    """What the two tables of versions hold."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
        oldest = connection.execute(sa.text("SELECT version_num FROM oldest_version")).scalars().all()
    engine.dispose()
    return list(version), list(oldest)
