"""The worker on SQLite while its file is locked, its disk is full, or its directory closed."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from services.base.identity import new_id
from state.engine import sqlite_group_commit
from state.engine.sqlite_group_commit import GroupCommitWriter, _commit_together
from tests.chaos.stack import ROOT
from tests.faults.processes import Service, wait_until, worker
from tests.faults.shop import MUG, all_confirmed, place
from tests.support.nats_server import eventually
from tests.support.orders_harness import OrdersHarness

WAIT_SECONDS = 7.0
"""The busy_timeout of five seconds, whoever waits before; and some more."""

REST_SECONDS = 60.0

slow = pytest.mark.slow


def refused_for_now(reply: httpx.Response) -> bool:
    error = reply.json()["error"]
    return (reply.status_code, error["code"], error["retryable"]) == (503, "SERVICE_UNAVAILABLE", True) and int(
        reply.headers["Retry-After"]
    ) >= 1


def database_of(folder: Path) -> Path:
    return folder / "var" / "holdfast.db"


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process (this one) writes, and does not come to an end."""
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def disk_full(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """No file of the process can be written at all, as on a full disk, until the block ends."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def service(folder: Path, nats_url: str, inventory: Service) -> Iterator[Service]:
    """One worker for all faults: each must leave it as it was."""
    inventory_url = f"http://127.0.0.1:{inventory.port}"
    with worker(folder, NATS_URL=nats_url, INVENTORY_SERVICE_URL=inventory_url) as service:
        yield service


@slow
def test_a_locked_database_refuses_orders_with_503_and_serves_them_when_it_is_free(service, folder):
    before, during, after = new_id(), new_id(), new_id()
    assert place(service, before).status_code == 201
    with locked(database_of(folder)):
        began = time.monotonic()
        assert refused_for_now(place(service, during))
        assert time.monotonic() - began < WAIT_SECONDS
        # Whoever only reads is not kept waiting, and the process is alive; nothing can be written.
        assert service.client.get(f"/api/v1/orders/{before}").status_code == 200
        assert service.client.get("/healthz").status_code == 200
        assert service.client.get("/readyz").status_code == 503
    wait_until(lambda: service.client.get("/readyz").status_code == 200, REST_SECONDS, service.log)
    assert service.client.get(f"/api/v1/orders/{during}").status_code == 404
    assert [place(service, order_id).status_code for order_id in (during, after)] == [201, 201]
    wait_until(lambda: all_confirmed(service, [before, during, after]), REST_SECONDS, service.log)


@slow
def test_a_full_disk_refuses_orders_with_503_loses_none_and_recovers_by_itself(service):
    before = [new_id() for _ in range(5)]
    assert {place(service, order_id).status_code for order_id in before} == {201}
    during, after = [new_id() for _ in range(5)], [new_id() for _ in range(5)]
    with disk_full(service.process):
        for order_id in during:
            assert refused_for_now(place(service, order_id))
        assert [service.client.get(f"/api/v1/orders/{order_id}").status_code for order_id in before] == [200] * 5
        assert service.client.get("/healthz").status_code == 200
        ready = service.client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, False)
        assert "disk" in ready.json()["reason"]
    wait_until(lambda: service.client.get("/readyz").status_code == 200, REST_SECONDS, service.log)
    assert {service.client.get(f"/api/v1/orders/{order_id}").status_code for order_id in during} == {404}
    for order_id in during + after:
        assert place(service, order_id).status_code == 201
    wait_until(lambda: all_confirmed(service, before + during + after), REST_SECONDS, service.log)


@slow
def test_a_disk_that_fills_up_while_orders_run_loses_nothing_that_was_acknowledged(service, inventory):
    stop, answers = threading.Event(), dict[str, int]()

    def customer() -> None:
        with httpx.Client(base_url=service.client.base_url, timeout=30.0, trust_env=False) as client:
            while not stop.is_set():
                order_id = new_id()
                body = {"orderId": order_id, "userId": "user-1", "items": [MUG.wire() | {"quantity": 1}]}
                answers[order_id] = client.post("/api/v1/orders", json=body).status_code

    customers = [threading.Thread(target=customer) for _ in range(4)]
    for thread in customers:
        thread.start()
    for _ in range(3):
        seen = len(answers)
        wait_until(lambda seen=seen: len(answers) > seen + 12, REST_SECONDS, service.log)
        with disk_full(service.process):
            wait_until(lambda: 503 in list(answers.values())[-4:], REST_SECONDS, service.log)
    stop.set()
    for thread in customers:
        thread.join(30)
    assert set(answers.values()) <= {201, 202, 503}
    placed = [order_id for order_id, status in answers.items() if status in (201, 202)]
    assert len(placed) > 30
    wait_until(lambda: all_confirmed(service, placed), 60.0, service.log)
    # An order that was refused half way waits for the sweeper; the others were never there.
    left = [service.client.get(f"/api/v1/orders/{order_id}") for order_id in answers if order_id not in placed]
    assert {reply.status_code for reply in left} <= {200, 404}
    assert all(reply.json()["data"]["status"] != "REJECTED" for reply in left if reply.is_success)


# ----------------------------------------------------------------- the writer by itself


async def test_every_caller_that_shares_a_commit_with_a_full_disk_gets_the_error_of_the_disk(shop: OrdersHarness):
    limit_pages(shop, 1)
    ends = await asyncio.gather(
        *(shop.place(metadata={"note": "x" * 200_000}) for _ in range(4)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [OperationalError] * 4
    assert all("disk is full" in str(end) for end in ends)
    assert await shop.all_orders() == []
    assert shop.called == []
    limit_pages(shop, 2**30)
    assert (await shop.place()).status == "PLACED"


def limit_pages(shop: OrdersHarness, pages: int) -> None:
    shop.real_database.write_now(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}"))


async def test_a_lock_that_outlasts_our_patience_is_an_error_of_the_database_and_nothing_is_half_done(
    shop: OrdersHarness, tmp_path: Path
):
    shop.real_database.write_now(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=50"))
    before = await shop.everything()
    with locked(tmp_path / "holdfast.db"):
        ends = await asyncio.gather(shop.place(), shop.place(), return_exceptions=True)
    assert [type(end) for end in ends] == [OperationalError] * 2
    assert "database is locked" in str(ends[0])
    assert await shop.everything() == before
    assert shop.called == []
    assert (await shop.place()).status == "PLACED"


async def test_a_caller_queued_behind_the_lock_waits_no_longer_than_the_first(
    shop: OrdersHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    groups: list[int] = []

    def counted(connection: Any, group: list[Any]) -> bool:
        groups.append(len(group))
        return _commit_together(connection, group)

    monkeypatch.setattr(sqlite_group_commit, "_commit_together", counted)
    shop.real_database.write_now(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=500"))
    groups.clear()
    writer = shop.real_database._writer
    assert isinstance(writer, GroupCommitWriter)
    with locked(tmp_path / "holdfast.db"):
        first = asyncio.ensure_future(shop.place())
        await eventually(lambda: first.done() or (writer._jobs.qsize() == 0 and bool(shop.placement._arriving)))
        later = [asyncio.ensure_future(shop.place()) for _ in range(3)]
        ends = await asyncio.gather(first, *later, return_exceptions=True)
    assert [type(end) for end in ends] == [OperationalError] * 4
    # The lock was waited for once, by the first.
    assert groups == [1]
    assert (await shop.place()).status == "PLACED"


# --------------------------------------------------------------------- the directory


def start(folder: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATA_DIR": str(folder), "SANDBOX_TRAFFIC": "0", "API_PORT": "8699"}
    return subprocess.run(
        (*prefix, sys.executable, "-m", "services", "worker"),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def stopped_by_data_dir(done: subprocess.CompletedProcess[str], folder: Path) -> bool:
    lines = done.stderr.splitlines()
    return done.returncode == 2 and len(lines) == 1 and lines[0].startswith(f"DATA_DIR: {str(folder)!r} ")


@slow
@pytest.mark.parametrize("name", ["", "below"])
def test_a_read_only_data_directory_stops_the_start_with_one_line(tmp_path: Path, name: str):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    # The superuser may write anywhere, unless it gives up that right.
    prefix = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
    done = start(closed / name, *prefix)
    assert stopped_by_data_dir(done, closed / name), done.stderr
    assert "Permission denied" in done.stderr
    assert list(closed.iterdir()) == []


@slow
def test_a_data_directory_that_is_a_file_stops_the_start_with_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = start(tmp_path / "file")
    assert stopped_by_data_dir(done, tmp_path / "file"), done.stderr
