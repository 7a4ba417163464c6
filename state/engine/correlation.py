"""The id under which everything that one request or command does is found again.

It travels with the context and not as an argument, because a use case has no business with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from sqlalchemy import Connection

from state.engine.transactions import Transaction

T = TypeVar("T")

_current: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def current() -> str | None:
    """The id in force here; None when nobody has set one."""
    return _current.get()


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Everything done in the block belongs to this id."""
    token = _current.set(correlation_id)
    try:
        yield
    finally:
        _current.reset(token)


def carried(transaction: Transaction[T]) -> Transaction[T]:
    """The transaction under the id in force now, for when another thread runs it."""
    correlation_id = _current.get()
    if correlation_id is None:
        return transaction

    def run(connection: Connection) -> T:
        with correlated(correlation_id):
            return transaction(connection)

    return run
