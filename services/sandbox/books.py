"""``python -m services audit``: an independent comparison of the sandbox's databases.

It reads the databases of orders, stock and payments under DATA_DIR (or the orders' at DATABASE_URL) and writes to
none of them. The services may be running, stopped or killed. While they run, the databases can differ about an order
in progress, so only rows unchanged for ``--settled-seconds`` (default 5) are compared; 0 compares all.

It prints the contents, the open work and the differences::

    orders       412: 301 CONFIRMED, 61 CANCELLED, 38 REJECTED, 12 RETURNED
    stock        24 products, 3980 on hand, 0 held
    payments     374: 313 CAPTURED, 9 DECLINED, 52 REFUNDED
    waiting      0 orders, 0 releases, 0 refunds, 0 unsent events, 0 unheard events
    for people   2 open cases
    differences  1
      DEDUCTED_TWICE  5b2c...  0e8d.../7c9e... deducted 2 times

A difference that ends with "(pending)" will be settled by waiting work: run the audit again later.
"Unheard" events were published in the last days and not handled. They include dead letters, and answers that were
lost with a stream of the broker and requested again.
The exit code is 0 without differences or with pending ones only, 1 otherwise, 2 without databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, or_, select

from services.base.addresses import sqlite_url
from services.base.identity import utc_now
from services.base.settings import Settings
from services.domain.errors import ConfigurationError
from services.domain.orders.model import PaymentStatus, ReleaseState
from services.sandbox.conservation import Difference, differences
from services.sandbox.inventory_service import tables as inventory_tables
from services.sandbox.payment_gateway import payments
from state.engine.source import read_only
from state.orders import with_open_review
from state.sandbox import UNDER_WAY
from state.tables import inbox, orders, outbox, releases, reviews

REMEMBERED = timedelta(days=7)
"""How far back events are compared; every inbox keeps its events for longer."""


@dataclass(frozen=True, slots=True)
class Books:
    """The contents of the three databases, each read in one transaction."""

    orders: Connection
    inventory: Connection
    payments: Connection | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Automatic work that is still open; all zero when the system is at rest."""

    orders: int
    """Orders with a next step, or unfinished without an open case."""
    releases: int
    refunds: int
    unsent_events: int
    unheard_events: int

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class UnheardEvent:
    """A published event that was not handled."""

    event_id: str
    subject: str
    published_at: datetime

    def __str__(self) -> str:
        return f"{self.subject} {self.event_id}, published {self.published_at.isoformat()}"


@contextmanager
def opened(settings: Settings) -> Iterator[Books]:
    """The databases under DATA_DIR. Raises ConfigurationError if there are none."""
    sandbox = settings.data_dir.resolve() / "sandbox"
    with ExitStack() as stack:
        try:
            yield Books(
                stack.enter_context(read_only(settings.database)),
                stack.enter_context(read_only(sqlite_url(sandbox / "inventory.db"))),
                _payments(stack, sandbox / "payments.db"),
            )
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"DATA_DIR: {str(settings.data_dir)!r} has no {error}; allowed: a directory in which the sandbox ran"
            ) from None


def _payments(stack: ExitStack, path: Path) -> Connection | None:
    return stack.enter_context(read_only(sqlite_url(path))) if path.exists() else None


def run(settings: Settings, settled: timedelta) -> int:
    """Print the audit. Returns the exit code."""
    with opened(settings) as books:
        found = compare(books, settled)
        print("\n".join(report(books, found)))  # noqa: T201 - the answer to a command
    return 1 if any(not difference.is_pending for difference in found) else 0


def compare(books: Books, settled: timedelta = timedelta()) -> list[Difference]:
    """Differences among rows that have not changed for ``settled``."""
    now = utc_now()
    return differences(books.orders, books.inventory, books.payments, now=now, settled_before=now - settled)


def waiting(books: Books, since: datetime | None = None) -> Waiting:
    """Open automatic work. Unheard events count if published after ``since``, by default within the last REMEMBERED."""
    return Waiting(
        orders=_count(
            books.orders, orders, or_(orders.c.due_at.isnot(None), orders.c.status.in_(UNDER_WAY) & ~with_open_review())
        ),
        releases=_count(books.orders, releases, releases.c.state == ReleaseState.PENDING),
        refunds=_count(books.orders, orders, orders.c.payment_status == PaymentStatus.REFUND_PENDING),
        unsent_events=_unsent(books.orders, outbox) + _unsent(books.inventory, inventory_tables.outbox),
        unheard_events=len(unheard(books, since)),
    )


def unheard(books: Books, since: datetime | None = None) -> list[UnheardEvent]:
    """Unhandled events that were published after ``since``, by default within the last REMEMBERED."""
    since = since or utc_now() - REMEMBERED
    return [
        *_unheard(books.orders, outbox, books.inventory, inventory_tables.inbox, since),
        *_unheard(books.inventory, inventory_tables.outbox, books.orders, inbox, since),
    ]


def report(books: Books, found: list[Difference]) -> list[str]:
    """The lines to print."""
    stock = inventory_tables.stock.c
    products, on_hand, held = books.inventory.execute(
        select(func.count(), func.sum(stock.on_hand), func.sum(stock.reserved)).select_from(inventory_tables.stock)
    ).one()
    left = waiting(books)
    parts = (f"{getattr(left, field.name)} {field.name.replace('_', ' ')}" for field in fields(left))
    cases = _count(books.orders, reviews, reviews.c.state == "OPEN")
    return [
        f"orders       {_by(books.orders, orders.c.status)}",
        f"stock        {products} products, {on_hand or 0} on hand, {held or 0} held",
        f"payments     {_by(books.payments, payments.c.state) if books.payments else 'not compared'}",
        f"waiting      {', '.join(parts)}",
        f"for people   {cases} open cases",
        f"differences  {len(found)}",
        *(_line(difference) for difference in found),
    ]


def _line(difference: Difference) -> str:
    pending = "  (pending)" if difference.is_pending else ""
    return f"  {difference.kind}  {difference.key}  {difference.detail}{pending}"


def _by(connection: Connection, column: Any) -> str:
    counts = connection.execute(select(column, func.count()).group_by(column).order_by(func.count().desc())).all()
    return ": ".join(filter(None, (str(sum(row[1] for row in counts)), ", ".join(f"{n} {name}" for name, n in counts))))


def _count(connection: Connection, table: Table, condition: Any) -> int:
    return connection.scalar(select(func.count()).select_from(table).where(condition)) or 0


def _unsent(connection: Connection, table: Table) -> int:
    return _count(connection, table, table.c.published_at.is_(None))


def _unheard(sender: Connection, sent: Table, reader: Connection, heard: Table, since: datetime) -> list[UnheardEvent]:
    handled = set(reader.scalars(select(heard.c.event_id)))
    columns = (sent.c.event_id, sent.c.subject, sent.c.published_at)
    published = sender.execute(select(*columns).where(sent.c.published_at > since).order_by(sent.c.id))
    return [UnheardEvent(*row) for row in published if row.event_id not in handled]
