"""Run migrations on the connection that planner/store.py hands over, or on alembic.ini's own URL."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine

from planner.store import METADATA


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url") or "").begin() as own:
        migrate(own)
