"""Metadata, column types and shapes of columns that all tables share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, text

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


def required(kind: Any, *names: str) -> list[Column[Any]]:
    """Columns of one type that are not null."""
    return [Column(name, kind, nullable=False) for name in names]


def optional(kind: Any, *names: str) -> list[Column[Any]]:
    """Columns of one type that may be null."""
    return [Column(name, kind) for name in names]


def where(condition: str) -> dict[str, Any]:
    """The arguments of a partial index on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
