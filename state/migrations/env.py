"""Entry point of Alembic: runs migrations on the connection that state.schema passes."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from state.engine.database import UtcDateTime
from state.tables import metadata


def render_item(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Write our own column type by its name; everything else as Alembic would."""
    return "UtcDateTime" if kind == "type" and item is UtcDateTime else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
