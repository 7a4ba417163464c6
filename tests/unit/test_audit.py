"""The audit command reads the sandbox's books, says what it found and touches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import OperationalError

from services.base.settings import Settings
from services.domain.errors import ConfigurationError
from services.sandbox import books as audit
from services.sandbox import payment_gateway
from services.sandbox.inventory_service import tables as inventory
from services.sandbox.inventory_service.catalogue import CATALOGUE, put_on_shelves
from services.sandbox.payment_gateway import payments
from state import releases
from state import tables as holdfast
from state.engine.database import Database
from state.engine.source import read_only

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
SETTLED = timedelta()


class Sandbox:
    """The databases of a sandbox whose processes are not running."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, database_url=None)
        self.orders = _made(self.settings.database, holdfast)
        self.inventory = _made(f"sqlite:///{folder}/sandbox/inventory.db", inventory)
        self.payments = _made(f"sqlite:///{folder}/sandbox/payments.db", payment_gateway)
        self.inventory.write_now(lambda c: put_on_shelves(c, CATALOGUE, START))

    def order(self, order_id: str, status: str, **values: object) -> None:
        row = {
            "order_id": order_id,
            "user_id": "u-1",
            "customer_priority": "standard",
            "status": status,
            "inventory_status": "NONE",
            "payment_status": "NONE",
            "request_hash": "h",
            "created_at": START,
            "updated_at": START,
            "version": 1,
        }
        self.orders.write_now(lambda c: c.execute(insert(holdfast.orders), row | values))

    def pay(self, order_id: str) -> None:
        self.payments.write_now(lambda c: payment_gateway.capture(c, order_id, "u-1", {}, START))

    def send(self, event_id: str, published_at: datetime | None) -> None:
        row = {"event_id": event_id, "subject": "order.cancelled", "order_id": "o-1", "payload": b"{}"}
        times = {"created_at": START, "published_at": published_at}
        self.orders.write_now(lambda c: c.execute(insert(holdfast.outbox), row | times))

    def waiting(self) -> audit.Waiting:
        with audit.opened(self.settings) as books:
            return audit.waiting(books)


def _made(url: str, module: object) -> Database:
    database = Database(url)
    module.metadata.create_all(database.engine)  # type: ignore[attr-defined]
    return database


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path)
    yield sandbox
    for database in (sandbox.orders, sandbox.inventory, sandbox.payments):
        database.close()


def test_books_that_balance_are_summed_up(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox.order("o-1", "REJECTED")
    sandbox.order("o-2", "REJECTED")
    assert audit.run(sandbox.settings, SETTLED) == 0
    assert capsys.readouterr().out.splitlines() == [
        "orders       2: 2 REJECTED",
        f"stock        24 products, {sum(product.on_hand for product in CATALOGUE)} on hand, 0 held",
        "payments     0",
        "waiting      0 orders, 0 releases, 0 refunds, 0 unsent events, 0 unheard events",
        "for people   0 open cases",
        "differences  0",
    ]


def test_a_difference_is_named_and_sets_the_exit_code(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    sandbox.pay("o-1")
    assert audit.run(sandbox.settings, SETTLED) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "differences  1",
        "  PAYMENT_KEPT  o-1  captured, the order is unknown",
    ]


def test_a_difference_that_waiting_work_settles_is_no_failure(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.order("o-1", "CANCELLED", payment_status="REFUND_PENDING")
    sandbox.pay("o-1")
    assert audit.run(sandbox.settings, SETTLED) == 0
    assert capsys.readouterr().out.endswith("PAYMENT_KEPT  o-1  captured, the order is CANCELLED  (pending)\n")


def test_recently_changed_rows_are_not_compared(sandbox: Sandbox) -> None:
    sandbox.pay("o-1")
    assert audit.run(sandbox.settings, datetime.now(UTC) - START + timedelta(seconds=1)) == 0


def test_everything_that_is_on_its_way_is_counted(sandbox: Sandbox) -> None:
    assert not sandbox.waiting()
    now = datetime.now(UTC)
    sandbox.order("o-1", "PLACED")
    sandbox.order("o-2", "CANCELLED", payment_status="REFUND_PENDING", due_at=START)
    sandbox.orders.write_now(lambda c: releases.start(c, "o-2", "cancelled", START))
    sandbox.send("e-1", None)
    sandbox.send("e-2", now)
    sandbox.send("e-3", now)
    key = {"event_id": "e-3", "type": "order.cancelled", "source": "order-service"}
    handled = key | {"outcome": "released", "handled_at": now}
    sandbox.inventory.write_now(lambda c: c.execute(insert(inventory.inbox), handled))
    assert sandbox.waiting() == audit.Waiting(orders=2, releases=1, refunds=1, unsent_events=1, unheard_events=1)


def test_a_directory_without_books_is_one_line_and_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"DATA_DIR: .* has no .*holdfast\.db; allowed: "):
        audit.run(Settings(data_dir=tmp_path), SETTLED)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_one_moment_and_cannot_write(sandbox: Sandbox) -> None:
    with read_only(str(sandbox.payments.url)) as connection:
        sandbox.pay("o-1")
        assert connection.scalar(select(func.count()).select_from(payments)) == 0
        with pytest.raises(OperationalError, match="readonly"):
            payment_gateway.capture(connection, "o-2", "u-1", {}, START)
