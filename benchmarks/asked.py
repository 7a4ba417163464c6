"""What a function asks of an SQLite database: the statements as they were sent, and their parameters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from sqlalchemy import Connection, event

from state.engine import statements

Question = tuple[str, Any]
QUESTIONS = ("SELECT", "WITH")


class _Noting:
    """The driver's connection, as the statements of ``state.engine.statements`` see it."""

    def __init__(self, driver: sqlite3.Connection, noted: list[Question]) -> None:
        self._driver = driver
        self._noted = noted

    def execute(self, statement: str, parameters: Any) -> sqlite3.Cursor:
        self._noted.append((statement, parameters))
        return self._driver.execute(statement, parameters)


def asked(connection: Connection, run: Callable[[Connection], Any]) -> list[Question]:
    """The questions of ``run``, in their order; fails when it asks none, or one on a way not known here."""
    driver: Any = connection.connection.driver_connection
    noted: list[Question] = []
    seen: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        noted.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    driver.set_trace_callback(seen.append)
    try:
        with patch.object(statements, "_driver", lambda _: _Noting(driver, noted)):
            run(connection)
    finally:
        driver.set_trace_callback(None)
        event.remove(connection, "before_cursor_execute", note)
    found = [one for one in noted if one[0].lstrip().upper().startswith(QUESTIONS)]
    reached = [text for text in seen if text.lstrip().upper().startswith(QUESTIONS)]
    assert found, "nothing was asked"
    assert len(found) == len(reached), f"{len(reached)} questions reached SQLite, {len(found)} were noted: {reached}"
    return found
