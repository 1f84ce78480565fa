"""What jobs on OpenStack need: flavors, floating IPs, and how often there was no room."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; jobs that are there keep the flavor that they asked for."""
    op.add_column("jobs", sa.Column("flavor", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("misses", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("floating_ip", sa.Text(), nullable=True))
    jobs = sa.table("jobs", sa.column("number"), sa.column("body"), sa.column("flavor"))
    connection = op.get_bind()
    for number, body in connection.execute(sa.select(jobs.c.number, jobs.c.body)).all():
        flavor = json.loads(body).get("flavor")
        if isinstance(flavor, str):
            connection.execute(sa.update(jobs).where(jobs.c.number == number).values(flavor=flavor))
    op.execute("DELETE FROM facts WHERE name = 'admission_hold'")
