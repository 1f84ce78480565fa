"""Alembic's entry point: runs on the connection (and in the transaction) that the store hands over."""

from __future__ import annotations

from alembic import context

from lando.store.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=False)
context.run_migrations()
