"""Transactions: the writer's interface, its refusals, and savepoints for one row of many."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")
Transaction = Callable[[Connection], T]

MAX_WAITING_TRANSACTIONS = 10_000
"""Maximum of waiting callers; further ones are refused at once, so that the queue does not grow without limit."""


class DatabaseOverloaded(RuntimeError):
    """Too many transactions are waiting; nothing was written."""


class DatabaseClosed(RuntimeError):
    """The database facade was closed; nothing was written."""


class DatabaseReplaced(RuntimeError):
    """The database file in use was replaced; nothing is written, because it would be lost."""


class Writer(Protocol):
    """Runs transaction functions; each is committed completely or not at all."""

    async def run(self, transaction: Transaction[T]) -> T:
        """Run a transaction for a caller on an event loop."""
        ...

    def submit(self, transaction: Transaction[T]) -> Future[T]:
        """Run a transaction for a caller on a plain thread."""
        ...

    def close(self) -> None:
        """Finish accepted transactions and refuse new ones."""
        ...


def apart(connection: Connection, work: Callable[[], object]) -> Exception | None:
    """Run ``work`` in a savepoint; returns its exception after the rollback, or None.

    A lost connection ends the whole transaction; its error is raised.
    """
    connection.exec_driver_sql("SAVEPOINT apart")
    try:
        work()
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT apart")
        connection.exec_driver_sql("RELEASE SAVEPOINT apart")
        return error
    connection.exec_driver_sql("RELEASE SAVEPOINT apart")
    return None
