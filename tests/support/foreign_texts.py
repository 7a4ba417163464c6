"""One odd text in every text that is stored, and where on a page it would be read as Markdown."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import JSON, Column, String, Table, Text
from streamlit.testing.v1 import AppTest

from state.tables import metadata

ODD = ":red[mark] **x** [a](http://e) $z$ <img>"
RAW = re.compile(r"(?<!\\)\[mark|(?<!\\)\*\*x|(?<!\\)<img", re.IGNORECASE)
"""The text where Markdown takes effect; escaped, a backslash stands before each sign."""

PHASES = 3
"""Each value is odd in one of them: rows stay found by what else is in them."""

NOT_MARKDOWN = {
    "code", "json", "arrow_data_frame", "arrow_vega_lite_chart", "vega_lite_chart", "text_input", "text_area",
    "selectbox", "iframe", "unknown",
}  # fmt: skip
NOT_SHOWN = {
    "id", "query_string", "key", "user_key", "element_id", "form_id", "identity", "page", "url", "language",
    "fragment_id", "user_agent", "icon", "file_name", "data", "key_prefix", "alt",
}  # fmt: skip


def make_odd(path: str, phase: int) -> int:
    """Put the odd text into a third of all values of each text column; returns how many were changed."""
    changed = 0
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in metadata.sorted_tables:
            for number, column in enumerate(_texts(table)):
                changed += _change(connection, table, column, (phase + number) % PHASES)
    return changed


def _texts(table: Table) -> Iterator[Column[Any]]:
    """Columns that hold text and by which no other table finds its rows."""
    ids = {"order_id", "review_id", "operation_id", "item_id", "command_id", "alert_id", "replica"}
    for column in table.columns:
        kind = getattr(column.type, "impl", column.type)
        if isinstance(kind, String | Text | JSON) and not column.foreign_keys and column.name not in ids:
            yield column


def _change(connection: sqlite3.Connection, table: Table, column: Column[Any], rest: int) -> int:
    is_json = isinstance(getattr(column.type, "impl", column.type), JSON)
    keys = [key.name for key in table.primary_key]
    names = ", ".join(f'"{name}"' for name in (column.name, *keys))
    is_it = " AND ".join(f'"{name}" = ?' for name in keys)
    rows = connection.execute(f'SELECT {names} FROM "{table.name}"').fetchall()
    changed = 0
    for number, (value, *key) in enumerate(rows):
        if number % PHASES != rest or not isinstance(value, str) or not value:
            continue
        odd = json.dumps(_odd_leaves(json.loads(value))) if is_json else ODD
        if not is_json and (column.unique or column.primary_key):
            odd = f"{ODD} {number}"
        statement = f'UPDATE OR IGNORE "{table.name}" SET "{column.name}" = ? WHERE {is_it}'
        changed += connection.execute(statement, (odd, *key)).rowcount
    return changed


def _odd_leaves(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _odd_leaves(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_odd_leaves(one) for one in value]
    return ODD if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\dT", value) else value


def raw_texts(test: AppTest) -> list[str]:
    """Every text of the page in which the odd one takes effect."""
    return [f"{kind}: {text}" for kind, text in shown_texts(test) if RAW.search(text)]


def shown_texts(test: AppTest) -> Iterator[tuple[str, str]]:
    """Kind of element and text, for all that is read as Markdown."""
    for element in test.main:
        kind = getattr(element, "type", "")
        proto = getattr(element, "proto", None)
        if kind in ("table", "arrow_table"):
            for row in element.value.to_dict("records"):  # type: ignore[union-attr]
                yield from ((kind, str(cell)) for cell in row.values())
        elif isinstance(proto, Message) and kind not in NOT_MARKDOWN:
            yield from ((kind, text) for text in _strings(proto))


def _strings(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.name in NOT_SHOWN:
            continue
        for one in value if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else [value]:
            if isinstance(one, Message):
                yield from _strings(one)
            elif isinstance(one, str):
                yield one
