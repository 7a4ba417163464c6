"""A console over a database that a busy half hour left behind: no worker, so nothing on its pages moves.

Or over one in which nothing has happened yet, or over none at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, update

from services.base.addresses import free_port
from services.domain.orders.events import timestamp
from services.domain.orders.model import InventoryStatus, Line, OrderStatus, ReviewReason
from state import bulk_jobs, orders, releases, replicas, reviews, tables
from state.bulk_jobs import BulkItem, BulkJob
from state.engine.database import Database, opened
from state.engine.transactions import DatabaseReplaced
from state.schema import migrate
from tests.browser.product import ROOT, wait_until_healthy
from tests.support import seed_console
from tests.support.children import MORTAL, end

HEARTBEAT_SECONDS = 1.0
FILE, LOG = "console.db", "console.log"
LONG_ID = "01a204c7-e8b7-7f19-9553-1a42c2e740de"
"""Of an order as real ones are called."""

Content = Literal["busy", "fresh", "none"]
"""A busy half hour, the first minute of a worker, or no database."""


@contextmanager
def seeded_console(data_dir: Path, content: Content = "busy") -> Iterator[str]:
    """The console's address."""
    url = f"sqlite:///{data_dir / FILE}"
    with ExitStack() as stack:
        if content != "none":
            database = stack.enter_context(opened(url))
            migrate(database)
            database.write_now(_busy if content == "busy" else _fresh)
            stack.enter_context(_alive(database))
        port = free_port(data_dir / "console.port")
        environment = {**os.environ, "DATA_DIR": str(data_dir), "DATABASE_URL": url}
        command = [*MORTAL, sys.executable, "-m", "streamlit", "run", "pages/main.py", "--server.port", str(port)]
        with (data_dir / LOG).open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process, data_dir / LOG)
            yield f"http://127.0.0.1:{port}"
        finally:
            end(process)


@contextmanager
def database_away(data_dir: Path) -> Iterator[None]:
    """Takes the database of a console away for a while."""
    file = data_dir / FILE
    file.rename(file.with_suffix(".away"))
    try:
        yield
    finally:
        file.with_suffix(".away").rename(file)


def _busy(connection: Connection) -> None:
    now = datetime.now(UTC)
    seed_console.fill(connection, now, 40)
    _under_way(connection, now)
    _long_ids(connection, now)


def _under_way(connection: Connection, now: datetime) -> None:
    """A bulk retry in the middle of its ramp."""
    states = [*["CONFIRMED"] * 7, *["SENT"] * 2, *["ASKED"] * 9]
    running = BulkJob(
        "OP-3", "retry_release", None, "ben", "the service is back", "Failed; INVENTORY_TIMEOUT",
        ["INVENTORY_TIMEOUT: no answer within 3000 ms"], len(states), 0, now - timedelta(seconds=50),
        now - timedelta(seconds=40), stage=3, tally={state: states.count(state) for state in states},
    )  # fmt: skip
    rows = [
        BulkItem(
            "OP-3", f"ORD-8{number:03}", f"ORD-8{number:03}", number, 2, "FAILED", state,
            sent_at=None if state == "ASKED" else now - timedelta(seconds=30 - number),
            settled_at=now - timedelta(seconds=29 - number) if state == "CONFIRMED" else None,
        )
        for number, state in enumerate(states)
    ]  # fmt: skip
    bulk_jobs.add(connection, running, rows)


def _long_ids(connection: Connection, now: datetime) -> None:
    """An order as they come in: every id of it is a UUID."""
    lines = (
        Line("0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0", "7c9e6679-7425-40de-944b-e07fc1f90ae7", 2),
        Line("4d9e99bc-33f5-4b6e-a4b9-7f4c1f4f4a0f", "98b1bd40-3f3f-4f1d-8a1b-1c5a0c5c5d5e", 1),
    )
    at = now - timedelta(minutes=3)
    made = seed_console.order(
        LONG_ID, OrderStatus.CANCELLED, at, lines=lines, customer_priority="high",
        user_id="3fa85f64-5717-4562-b3fc-2c963f66afa6", inventory_status=InventoryStatus.RELEASE_PENDING,
        reservation_id="0b9d3c5e-6a43-4f0e-9a52-0f1f4dd6a1c2",
    )  # fmt: skip
    orders.add(connection, made, "h")
    orders.add_timeline(connection, LONG_ID, seed_console.story(made))
    reviews.open_case(
        connection, "01a204c8-0000-7aaa-8bbb-1a42c2e740de", LONG_ID, ReviewReason.RELEASE_FAILED,
        "Circuit breaker inventoryServiceReleaser is open; nothing was sent.", at,
    )  # fmt: skip
    releases.start(connection, LONG_ID, "order cancelled: customer called", at)


def _fresh(connection: Connection) -> None:
    now = datetime.now(UTC)
    lag = {"stream": "INVENTORY_EVENTS", "durable": "order-service", "pending": 0, "ack_pending": 0}
    quiet = {"calls": 0, "failures": 0, "failureRate": 0.0, "buckets": [[0, 0]] * 10}
    breakers = [seed_console.breaker(name, "closed", now, **quiet) for name in seed_console.BREAKERS]
    lags = [lag | {"redelivered": 0, "at": now.isoformat()}]
    seed_console.heartbeat(connection, now, breakers, consumers=lags)
    replicas.take_lease(connection, "alerts", seed_console.REPLICA, now, now + timedelta(seconds=15))
    replicas.note_lease(connection, "alerts", {"intervalSeconds": 5.0, "webhook": False, "rules": {}})


@contextmanager
def _alive(database: Database) -> Iterator[None]:
    """The one worker's heartbeat and its judging of the alerts, for as long as somebody looks."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.is_set():
            # A test may take the file away; the heartbeat goes on once it is back.
            with suppress(DatabaseReplaced):
                database.write_now(_beat)
            stop.wait(HEARTBEAT_SECONDS)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _beat(connection: Connection) -> None:
    now = datetime.now(UTC)
    connection.execute(update(tables.replicas).values(heartbeat_at=now))
    evaluated = replicas.get_lease(connection, "alerts")
    assert evaluated is not None
    replicas.note_lease(connection, "alerts", evaluated.noted | {"evaluatedAt": timestamp(now)})
