"""Rows that no version of the service writes: every column of every table with values that are odd for its type.

The rows are copies of such as the console's seed has left, each with one odd value, written straight into SQLite.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Float, Integer, LargeBinary, String, Table, TypeDecorator

from state.tables import metadata

LONG = "x" * 20_000
ODD_TEXTS = [
    "",
    "\0",
    "nul\0inside",
    "SOME_NEW_WORD",
    "Größe \u202e 💥 <b>*_`[x](http://x)",
    LONG,
    "2026-13-45",
    "None",
]
ODD_TIMES = [
    "0001-01-01 00:00:00.000000",
    "9999-12-31 23:59:59.999999",
    "10000-01-01 04:59:59.000000",
    "infinity",
    "-infinity",
    "yesterday",
    "",
    "2026-11-22",
    "2026-11-22T12:00:00+14:00",
    20261122,
]
ODD_JSON = ["", "not json", "null", "[]", "{}", "5", "NaN", "1e400", '"text"', '[1, "a", null, {}, [[]]]', '{"": null}']
ODD_MEMBERS: list[Any] = [None, 5, -1.5, 1e300, "", "nul\0", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-05:00",
                          [], {}, [None, {}, "x"], {"x": None}, True]  # fmt: skip
ODD_NUMBERS = [-1, 0, 2**40, 2**62]
ODD_FLOATS = [-1.0, 1e308, float("inf")]
ODD_BYTES = [b"", b"\xff\x00\xfe", b"null", b'{"orderId": 5, "data": []}']
COPIES = "odd-{}-{}"


def corrupt(path: str, tables: Collection[str] | None = None) -> int:
    """Write odd rows into the database file; returns how many."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    written = 0
    for table in metadata.sorted_tables:
        if tables is None or table.name in tables:
            written += _corrupt(connection, table)
    connection.commit()
    connection.close()
    return written


def _corrupt(connection: sqlite3.Connection, table: Table) -> int:
    rows = [dict(row) for row in connection.execute(f'SELECT * FROM "{table.name}" LIMIT 3')]
    written = 0
    for row in rows[:1] or [{column.name: _plain(column) for column in table.columns}]:
        for column in table.columns:
            for value in _odd_values(column, row[column.name]):
                written += _insert(connection, table, _copy(table, row, written) | {column.name: value})
    return written


def _insert(connection: sqlite3.Connection, table: Table, row: dict[str, Any]) -> int:
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join("?" * len(row))
    try:
        connection.execute(f'INSERT INTO "{table.name}" ({names}) VALUES ({places})', list(row.values()))
    except sqlite3.IntegrityError:
        # The schema itself keeps this one out.
        return 0
    if table.name == "orders":
        item = [row["order_id"], "SKU-CHAIR", "oak", 0, 2, 0]
        connection.execute("INSERT INTO order_items VALUES (?, ?, ?, ?, ?, ?)", item)
    return 1


def _copy(table: Table, row: dict[str, Any], number: int) -> dict[str, Any]:
    """The row under a key of its own."""
    copied = dict(row)
    unique = {column.name for column in table.columns if column.unique}
    unique |= {"stream_seq"} if table.name == "dead_letters" else set()
    keys = {column.name for column in table.primary_key} - {
        column.name for column in table.columns if column.foreign_keys
    }
    if not keys:
        keys = {column.name for column in table.primary_key}
    for name in unique | keys:
        column = table.columns[name]
        if name == "is_active":
            copied[name] = None
        elif isinstance(column.type, Integer):
            copied[name] = 1_000_000 + number
        elif isinstance(column.type, String):
            copied[name] = COPIES.format(name.partition("_")[0], number)
        else:
            copied[name] = f"2026-11-22 11:{number // 60 % 60:02}:{number % 60:02}.000000"
    return copied


def _plain(column: Column[Any]) -> Any:
    """A value as it may be, for tables that the seed leaves empty."""
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    if column.foreign_keys:
        return "ORD-1001"
    plain = {JSON: "{}", Boolean: 1, Integer: 60, Float: 1.0, LargeBinary: b"{}", String: "plain"}
    return next((value for of, value in plain.items() if isinstance(kind, of)), "2026-11-22 11:30:00.000000")


def _odd_values(column: Column[Any], present: Any) -> Iterator[Any]:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    if column.nullable:
        yield None
    if isinstance(kind, JSON):
        yield from ODD_JSON
        yield from _odd_members(present)
    elif isinstance(kind, Boolean):
        yield from (0, 1, 2)
    elif isinstance(kind, Integer):
        yield from ODD_NUMBERS
    elif isinstance(kind, Float):
        yield from ODD_FLOATS
    elif isinstance(kind, LargeBinary):
        yield from ODD_BYTES
    elif isinstance(kind, String):
        yield from ODD_TEXTS
    else:
        yield from ODD_TIMES


def _odd_members(present: Any) -> Iterator[str]:
    """The JSON as it is, with each of its members missing or odd."""
    known = json.loads(present) if isinstance(present, str) else None
    wrapped = known if isinstance(known, list) else [known]
    first = wrapped[0] if wrapped and isinstance(wrapped[0], dict) else {}
    for name in first:
        for value in ODD_MEMBERS:
            odd = first | {name: value}
            yield json.dumps([odd] if isinstance(known, list) else odd)
        odd = {other: value for other, value in first.items() if other != name}
        yield json.dumps([odd] if isinstance(known, list) else odd)
