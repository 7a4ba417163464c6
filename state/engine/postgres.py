"""Transactions on a database server: one thread and one connection per running transaction.

When a link falls silent, the call that detects it fails, and with it all callers that wait for a thread. So no caller
waits longer than a single call may take.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from state.engine.transactions import (
    MAX_WAITING_TRANSACTIONS,
    DatabaseClosed,
    DatabaseOverloaded,
    T,
    Transaction,
    Writer,
    failure_of,
)

SLOW_SECONDS = 0.5
"""A failure after at least this time also fails the waiting callers; a quicker failure does not affect them."""

SHARE_PATIENCE_SECONDS = 2.0
"""How long a thread waits for the connection of another thread when the server grants no more."""

SHARE_PAUSE_SECONDS = 0.25
"""Pause between two attempts to connect; a returned connection ends it."""


class ConnectionShare:
    """The connections of an engine, shared by threads; works with as many connections as the server grants."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._returned = threading.Condition()
        self._in_use = 0

    def run(self, transaction: Transaction[T]) -> T:
        """Run a transaction; retry once where the error code guarantees a rollback."""
        try:
            return self._run_once(transaction)
        except DBAPIError as error:
            if not failure_of(error).is_undone:
                raise
        return self._run_once(transaction)

    def _run_once(self, transaction: Transaction[T]) -> T:
        connection = self._connection()
        try:
            with connection, connection.begin():
                return transaction(connection)
        finally:
            with self._returned:
                self._in_use -= 1
                self._returned.notify()

    def _connection(self) -> Connection:
        """Return a connection; when the server refuses another one, wait for one that another thread returns."""
        deadline = time.monotonic() + SHARE_PATIENCE_SECONDS
        is_first = True
        while True:
            began = time.monotonic()
            try:
                connection = self._engine.connect()
            except PoolTimeout as error:
                raise DatabaseOverloaded("all connections to the database are in use") from error
            except OperationalError:
                now = time.monotonic()
                with self._returned:
                    # After the first refusal wait even when no connection is in use: other threads may be connecting.
                    if now - began >= SLOW_SECONDS or now >= deadline or not (self._in_use or is_first):
                        raise
                    is_first = False
                    self._returned.wait(SHARE_PAUSE_SECONDS)
            else:
                with self._returned:
                    self._in_use += 1
                return connection


class PooledTransactions(Writer):
    """Runs transactions on threads of its own; a failing link fails all callers that wait for a thread."""

    def __init__(self, share: ConnectionShare, threads: int, name: str) -> None:
        self._share = share
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = threading.BoundedSemaphore(MAX_WAITING_TRANSACTIONS)
        self._failure: tuple[float, OperationalError] | None = None
        """Time and error of the last call that found the server unreachable."""
        self._running: set[Future[Any]] = set()

    async def run(self, transaction: Transaction[T]) -> T:
        return await asyncio.wrap_future(self.submit(transaction))

    def submit(self, transaction: Transaction[T]) -> Future[T]:
        return self.call(lambda: self._share.run(transaction))

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Run a function on one of the threads."""
        if not self._places.acquire(blocking=False):
            raise DatabaseOverloaded(f"{MAX_WAITING_TRANSACTIONS} transactions are waiting")
        try:
            future = self._threads.submit(self._work, work, time.monotonic())
        except RuntimeError as error:
            self._places.release()
            raise DatabaseClosed("the database is closed") from error
        self._running.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[Any]) -> None:
        self._running.discard(future)
        self._places.release()

    def _work(self, work: Callable[[], T], since: float) -> T:
        failure = self._failure
        if failure is not None and since < failure[0]:
            known = failure[1]
            raise OperationalError(known.statement, known.params, known.orig or known)
        began = time.monotonic()
        try:
            return work()
        except OperationalError as error:
            now = time.monotonic()
            if now - began >= SLOW_SECONDS and (error.connection_invalidated or _is_unreachable(error)):
                self._failure = now, error
            raise

    def close(self, patience_seconds: float | None = None) -> None:
        """Refuse new transactions and wait for running ones, at most ``patience_seconds`` if given."""
        self._threads.shutdown(wait=patience_seconds is None, cancel_futures=patience_seconds is not None)
        if patience_seconds is not None:
            wait(list(self._running), patience_seconds)


def _is_unreachable(error: OperationalError) -> bool:
    """Whether no connection could be made; a refusal by a server that answers has an SQLSTATE."""
    return getattr(error.orig, "sqlstate", None) is None
