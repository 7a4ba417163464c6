"""Prunes single tables in tests, by the rules of the product."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Table

from services.runtime.retention import KEPT, KeptRows, delete_older


def rule_of(table: Table, number: int = 0) -> KeptRows:
    """The rule of a table; ``number`` where it has several."""
    return [kept for kept in KEPT if kept.table is table][number]


def prune(connection: Connection, table: Table, before: datetime, limit: int, number: int = 0) -> int:
    """Delete a batch of rows from before a time; returns how many rows went."""
    return delete_older(connection, rule_of(table, number), before, limit)
