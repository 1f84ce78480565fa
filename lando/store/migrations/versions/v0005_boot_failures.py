"""Boots that failed, of which it is open whether they are the site's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add columns: no failure of an older version is in doubt."""
    for name in ("doubtful", "excused", "unanswered"):
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
