"""Metadata and column types that all tables share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Integer, MetaData, String

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Key = String(128)
Word = String(40)
Traceparent = String(55)
# SQLite gives only INTEGER primary keys a rowid of their own.
Serial = BigInteger().with_variant(Integer, "sqlite")

BY_KEY: dict[str, Any] = {"sqlite_with_rowid": False}
"""SQLite stores the rows in the tree of the primary key (WITHOUT ROWID), which saves the write of a second tree."""
