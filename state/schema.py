"""Bringing a database to the present schema: Alembic migrations, applied at start."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from state.engine.database import Database
from state.suitability import check_database
from state.tables import metadata

MIGRATION_LOCK = 0x686F6C64
"""Key of the PostgreSQL advisory lock under which one replica migrates and the others wait."""


def migrate(database: Database) -> None:
    """Apply what is missing; safe to call from several processes at once. Raises DatabaseUnsuitable."""
    from alembic import command

    with database.engine.begin() as connection, ExitStack() as stack:
        if connection.dialect.name == "postgresql":
            from state.engine.watchdog import unhurried

            stack.enter_context(unhurried(connection))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            check_database(connection)
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(alembic_config(connection), "head")


def differences(connection: Connection) -> list[Any]:
    """What separates the database from the tables in code; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def alembic_config(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    # A percent sign begins a reference in such a file.
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
