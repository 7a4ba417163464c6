"""What a PostgreSQL database must be like, asked at the start: one line says what is wrong and how to mend it."""

from __future__ import annotations

from sqlalchemy import Connection, text

from state.tables import metadata


class DatabaseUnsuitable(RuntimeError):
    """The database or the role cannot be used as they are; the message says what is wrong and what is allowed."""


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


def check_database(connection: Connection) -> None:
    """Before the tables are made or changed; raises DatabaseUnsuitable."""
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
