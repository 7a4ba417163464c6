"""Transactions: the writer's interface, its refusals, savepoints for one row of many, and classes of failures.

A failure is classified by SQLSTATE or SQLite's error code, never by the text of a message. Sources: PostgreSQL,
appendix A (error codes); SQLite, result codes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

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


class Kind(Enum):
    """The possible reaction to a failed transaction."""

    BUSY = "busy"
    """The server works but is overloaded, or a lock was not available: retry later."""
    UNUSABLE = "unusable"
    """The database refuses writes for now (server, disk or permissions); the connection stays."""
    LOST = "lost"
    """Like UNUSABLE, and this session cannot be used again: a new connection may reach a working server."""
    OURS = "ours"
    """The statement or its values are wrong: repeating it gives the same error."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind, and one sentence for the engineer on call, without parts of the statement or the address."""

    kind: Kind
    sentence: str
    is_undone: bool = False
    """Whether nothing was committed for certain, so that the same transaction may run again at once."""


POSTGRESQL: dict[str, Failure] = {
    "40001": Failure(Kind.BUSY, "The database had two transactions in each other's way.", is_undone=True),
    "40P01": Failure(Kind.BUSY, "The database had two transactions that waited for each other.", is_undone=True),
    "53300": Failure(Kind.BUSY, "The database has no connection left."),
    "53400": Failure(Kind.BUSY, "The database has reached a limit of its configuration."),
    "53200": Failure(Kind.BUSY, "The database has no memory left."),
    "55P03": Failure(Kind.BUSY, "A lock in the database was not to be had in time."),
    "57014": Failure(Kind.BUSY, "The database took too long and the statement was cancelled."),
    "53100": Failure(Kind.UNUSABLE, "The disk of the database is full."),
    "53000": Failure(Kind.UNUSABLE, "The database has no resources left."),
    "42501": Failure(Kind.UNUSABLE, "The role may not do in the database what the service needs."),
    "25006": Failure(Kind.LOST, "The database is read-only.", is_undone=True),
    "25P03": Failure(Kind.LOST, "The database ended a session that was idle in a transaction."),
    "25P04": Failure(Kind.LOST, "The database ended a transaction that took too long."),
    "57P01": Failure(Kind.LOST, "The database server is being shut down."),
    "57P02": Failure(Kind.LOST, "The database server has crashed."),
    "57P03": Failure(Kind.LOST, "The database server cannot be connected to yet."),
    "57P04": Failure(Kind.LOST, "The database was dropped."),
    "57P05": Failure(Kind.LOST, "The database ended an idle session."),
    "3D000": Failure(Kind.LOST, "The database does not exist."),
    "26000": Failure(Kind.LOST, "A pooler before the database mixes up sessions; see DATABASE_POOLER."),
    "42P05": Failure(Kind.LOST, "A pooler before the database mixes up sessions; see DATABASE_POOLER."),
}
"""Failures by SQLSTATE."""

POSTGRESQL_CLASSES: dict[str, Failure] = {
    "08": Failure(Kind.LOST, "The connection to the database is broken."),
    "28": Failure(Kind.LOST, "The database does not let the role in."),
    "53": Failure(Kind.UNUSABLE, "The database has no resources left."),
    "57": Failure(Kind.LOST, "An operator of the database intervened."),
    "58": Failure(Kind.UNUSABLE, "The database server has an error of its system."),
    "F0": Failure(Kind.UNUSABLE, "The configuration of the database server is broken."),
    "XX": Failure(Kind.UNUSABLE, "The database server has an internal error or damaged data."),
}
"""Failures by the first two characters of the SQLSTATE, for codes that the table above does not contain."""

SQLITE: dict[int, Failure] = {
    sqlite3.SQLITE_BUSY: Failure(Kind.BUSY, "The database file is locked by another process."),
    sqlite3.SQLITE_LOCKED: Failure(Kind.BUSY, "A table of the database file is locked."),
    sqlite3.SQLITE_PROTOCOL: Failure(Kind.BUSY, "The database file is locked by too many at once."),
    sqlite3.SQLITE_INTERRUPT: Failure(Kind.BUSY, "A question to the database took too long and was ended."),
    sqlite3.SQLITE_NOMEM: Failure(Kind.BUSY, "There is no memory left for the database."),
    sqlite3.SQLITE_READONLY: Failure(Kind.LOST, "The database file is read-only."),
    sqlite3.SQLITE_IOERR: Failure(Kind.UNUSABLE, "The database file cannot be read or written: an error of its disk."),
    sqlite3.SQLITE_CANTOPEN: Failure(Kind.LOST, "The database file cannot be opened."),
    sqlite3.SQLITE_PERM: Failure(Kind.LOST, "The database file may not be used."),
    sqlite3.SQLITE_CORRUPT: Failure(Kind.LOST, "The database file is damaged."),
    sqlite3.SQLITE_NOTADB: Failure(Kind.LOST, "The database file is none of SQLite."),
    sqlite3.SQLITE_FULL: Failure(Kind.UNUSABLE, "The disk of the database file is full."),
}
"""Failures by primary result code, the low byte of an extended code."""

PASSING_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
"""Errors of a file that another process uses. At the start, every other error of a file needs a repair."""

NO_ANSWER = Failure(Kind.LOST, "The database does not answer.")
WRONG = Failure(Kind.OURS, "The statement is wrong for this database.")


def failure_of(error: BaseException) -> Failure:
    """Classify an error of the driver, or SQLAlchemy's wrapper of it."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if (code := sqlite_code(original)) is not None:
        return SQLITE.get(code, WRONG)
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        return POSTGRESQL.get(state) or POSTGRESQL_CLASSES.get(state[:2], WRONG)
    is_lost = isinstance(error, DBAPIError) and error.connection_invalidated
    if is_lost or isinstance(error, OperationalError | InterfaceError):
        # No code: the server was not reached, or the connection broke before the server could send one.
        return NO_ANSWER
    return WRONG


def is_passing(error: BaseException) -> bool:
    """Whether the database caused the error and the same work may succeed later."""
    return isinstance(error, DBAPIError) and failure_of(error).kind is not Kind.OURS


def is_of_database(error: BaseException) -> bool:
    """Whether the database or the connection to it caused the error, and not the work itself."""
    return is_passing(error) or isinstance(error, DatabaseOverloaded | DatabaseClosed | DatabaseReplaced)


def sqlite_code(error: BaseException) -> int | None:
    """The primary result code of SQLite; None for errors of other databases and of the driver itself."""
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return None if code is None else code & 0xFF


def is_locked(error: BaseException) -> bool:
    """Whether another process has the lock that SQLite needs."""
    return sqlite_code(error) in PASSING_SQLITE
