"""Group commit on SQLite: one writing thread, one fsync for all waiting callers. See docs/adr/0003."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from state.engine.sqlite_files import OpenFiles
from state.engine.transactions import (
    MAX_WAITING_TRANSACTIONS,
    DatabaseClosed,
    DatabaseOverloaded,
    Kind,
    T,
    Transaction,
    Writer,
    failure_of,
    is_locked,
)

GROUP_LIMIT = 128
"""Maximum of transactions in one commit, so that the first caller does not wait too long."""


class _Job(Generic[T]):
    """A waiting transaction; its future is settled on the caller's loop, else on the writer thread."""

    __slots__ = ("error", "future", "loop", "result", "transaction")

    def __init__(self, transaction: Transaction[T], loop: asyncio.AbstractEventLoop | None) -> None:
        self.transaction = transaction
        self.loop = loop
        self.future: Any = loop.create_future() if loop else Future()
        self.result: T | None = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():
            # The caller was cancelled; its committed transaction stays committed.
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class GroupCommitWriter(Writer):
    """A single writing thread whose commits are shared by all waiting callers."""

    def __init__(self, engine: Engine, files: OpenFiles | None = None) -> None:
        """``files`` are checked before each commit is acknowledged."""
        self._engine = engine
        self._files = files
        # Written in C; a Queue would cost as much as a small transaction. SimpleQueue has no maximum size, so
        # _put() checks it.
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="db-write", daemon=True)
        self._thread.start()

    async def run(self, transaction: Transaction[T]) -> T:
        job = _Job(transaction, asyncio.get_running_loop())
        self._put(job)
        result: T = await job.future
        return result

    def submit(self, transaction: Transaction[T]) -> Future[T]:
        job = _Job(transaction, None)
        self._put(job)
        future: Future[T] = job.future
        return future

    def _put(self, job: _Job[Any]) -> None:
        if self._closed:
            raise DatabaseClosed("the database is closed")
        if self._jobs.qsize() >= MAX_WAITING_TRANSACTIONS:
            raise DatabaseOverloaded(f"{MAX_WAITING_TRANSACTIONS} transactions are waiting")
        self._jobs.put(job)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        # One permanent connection, in autocommit mode for SQLAlchemy: transactions are begun and ended explicitly,
        # because SQLAlchemy's own bookkeeping would cost more than a small transaction.
        connection: Connection | None = None
        open_ = True
        while open_:
            group, open_ = self._next_group()
            if not group:
                continue
            try:
                self._check_files()
                connection = connection or self._connect()
                if not _commit_together(connection, group):
                    group += self._all_who_wait()
                self._check_files()
            except Exception as error:  # noqa: BLE001 - boundary: this thread must continue to answer callers
                _fail(group, _wrapped(error))
                connection = self._leave(connection)
            if any(job.error and failure_of(job.error).kind is Kind.LOST for job in group):
                # The cause may have been repaired, so the next group tries a new connection.
                connection = self._leave(connection)
            _settle(group)
        self._leave(connection)

    def _connect(self) -> Connection:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if self._files is not None:
            try:
                # SQLite opens the log at the first query.
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").all()
            except Exception:
                _drop(connection)
                raise
            self._files.remember()
        return connection

    def _check_files(self) -> None:
        if self._files is not None:
            self._files.check()

    def _leave(self, connection: Connection | None) -> Connection | None:
        """Close the connection, unless that would delete a foreign log; returns the connection if it stays open."""
        if self._files is not None:
            if self._files.problem is not None and self._files.is_log_foreign:
                return connection
            if connection is not None:
                self._files.forget()
        _drop(connection)
        return None

    def _next_group(self) -> tuple[list[_Job[Any]], bool]:
        group: list[_Job[Any]] = []
        job = self._jobs.get()
        while job is not None:
            if not job.future.cancelled():
                group.append(job)
            if len(group) >= GROUP_LIMIT:
                return group, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _all_who_wait(self) -> list[_Job[Any]]:
        """Fail callers queued while the write lock timed out; they have waited the full timeout already."""
        waiting: list[_Job[Any]] = []
        for _ in range(self._jobs.qsize()):
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)
                break
            waiting.append(job)
        locked = sqlite3.OperationalError("database is locked")
        locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
        _fail(waiting, _wrapped(locked))
        return waiting


def _commit_together(connection: Connection, group: list[_Job[Any]]) -> bool:
    """Run and commit a group; False when the write lock was not available within the busy_timeout."""
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    is_locked_out = True
    try:
        # IMMEDIATE takes the write lock first: upgrading a read lock later can fail.
        driver.execute("BEGIN IMMEDIATE")
        is_locked_out = False
        for job in group:
            _run_in_savepoint(connection, driver, job)
        driver.execute("COMMIT")
    except Exception as error:  # noqa: BLE001 - boundary: the commit failed for every caller of the group
        _fail(group, _wrapped(error))
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        return not (is_locked_out and is_locked(error))
    return True


def _wrapped(error: Exception) -> Exception:
    """Wrap errors of the driver in the errors of SQLAlchemy, which callers handle."""
    if not isinstance(error, sqlite3.Error):
        return error
    return DBAPIError.instance(None, None, error, sqlite3.Error)


def _fail(group: list[_Job[Any]], error: Exception) -> None:
    for job in group:
        job.error = job.error or error


def _drop(connection: Connection | None) -> None:
    """Close a connection in any state; the next group opens another one."""
    if connection is not None:
        with suppress(Exception):
            connection.invalidate()
            connection.close()


def _run_in_savepoint(connection: Connection, driver: sqlite3.Connection, job: _Job[Any]) -> None:
    driver.execute("SAVEPOINT caller")
    try:
        job.result = job.transaction(connection)
    except Exception as error:
        job.error = error
        if not driver.in_transaction:
            # SQLite has rolled back the whole transaction, for example because the disk is full. So every
            # transaction of the group fails with this error.
            raise
        driver.execute("ROLLBACK TO caller")
    driver.execute("RELEASE caller")


def _settle(group: list[_Job[Any]]) -> None:
    """Wake the callers. Those of one loop are woken together, because each wake-up of a loop costs a system call."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Job[Any]]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        if loop is None:
            _settle_all(jobs)
        else:
            # A closed loop has no waiting callers.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle_all, jobs)


def _settle_all(jobs: list[_Job[Any]]) -> None:
    for job in jobs:
        job.settle()
