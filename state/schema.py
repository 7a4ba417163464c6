"""Checks a database at the start, and migrates it to the current schema with Alembic."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from state.engine.database import Database
from state.tables import metadata

MIGRATION_LOCK = 0x686F6C64
"""Key of the PostgreSQL advisory lock: one replica migrates while the others wait."""


def migrate(database: Database) -> None:
    """Apply missing migrations; safe to call from several processes at once. Raises DatabaseUnsuitable."""
    from alembic import command

    with database.engine.begin() as connection, ExitStack() as stack:
        if connection.dialect.name == "postgresql":
            from state.engine.sessions import unhurried

            stack.enter_context(unhurried(connection))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            check_database(connection)
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = alembic_config(connection)
        _check_revision(connection, config)
        command.upgrade(config, "head")


def differences(connection: Connection) -> list[Any]:
    """Differences between the database and the tables in code."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def alembic_config(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    # A percent sign begins a reference in an Alembic configuration.
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


class DatabaseUnsuitable(RuntimeError):
    """The database or the role is unusable; the message contains the fault and the allowed values."""


_SESSION = text(
    "SELECT current_user, current_schema(), current_setting('server_encoding'), current_setting('search_path'),"
    " to_regclass('alembic_version') IS NOT NULL,"
    " CASE WHEN current_schema() IS NULL THEN false ELSE has_schema_privilege(current_schema(), 'CREATE') END"
)

_RIGHTS = text(
    "SELECT c.relname FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'"
    " AND c.relname = ANY(:names) AND NOT (has_table_privilege(c.oid, 'SELECT')"
    " AND has_table_privilege(c.oid, 'INSERT')"
    " AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')) ORDER BY 1"
)


def _check_revision(connection: Connection, config: Any) -> None:
    """Check that a migration begins at the database's revision; raises DatabaseUnsuitable."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    known = {one.revision: one.doc for one in ScriptDirectory.from_config(config).walk_revisions("base", "heads")}
    unknown = sorted(set(MigrationContext.configure(connection).get_current_heads()) - set(known))
    if unknown:
        allowed = ", ".join(f"{revision} ({topic})" for revision, topic in sorted(known.items()))
        raise DatabaseUnsuitable(
            f"the database has the revision {unknown[0]}, which this version cannot migrate;"
            f" allowed: an empty database, or one of the revisions {allowed}"
        )


def check_database(connection: Connection) -> None:
    """Check a PostgreSQL database before its tables are created or changed; raises DatabaseUnsuitable."""
    role, schema, encoding, path, is_made, may_create = connection.execute(_SESSION).one()
    if encoding != "UTF8":
        raise DatabaseUnsuitable(
            f"the database has the encoding {encoding}; allowed: UTF8 (CREATE DATABASE ... ENCODING 'UTF8')"
        )
    if schema is None:
        raise DatabaseUnsuitable(
            f"no schema of the search_path {path!r} exists for the role {role!r};"
            f" allowed: one that does (ALTER ROLE {role} SET search_path = public, or GRANT USAGE ON SCHEMA)"
        )
    if not is_made and not may_create:
        raise DatabaseUnsuitable(
            f"the role {role!r} may not make tables in the schema {schema!r};"
            f" allowed: one that may (GRANT CREATE, USAGE ON SCHEMA {schema} TO {role})"
        )
    _check_rights(connection, role, schema)


def _check_rights(connection: Connection, role: str, schema: str) -> None:
    names = [*metadata.tables, "alembic_version"]
    missing = list(connection.scalars(_RIGHTS, {"names": names}))
    if missing:
        raise DatabaseUnsuitable(
            f"the role {role!r} may not read and write {len(missing)} tables ({missing[0]}, ...); allowed: one that may"
            f" (GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role})"
        )
