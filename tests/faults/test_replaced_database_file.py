"""A database file that is replaced, deleted or read for long while the worker uses it."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from services.base.identity import new_id
from state.engine import database as database_module
from state.engine.database import Database, opened
from state.engine.transactions import DatabaseReplaced, Kind, failure_of
from state.schema import migrate
from tests.faults.processes import wait_until, worker
from tests.faults.shop import place
from tests.support.inbox_rows import keys, put

REST_SECONDS = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "holdfast.db"
    with opened(f"sqlite:///{path}") as database:
        migrate(database)
    shutil.copy(path, tmp_path / "backup.db")
    return path


def replace_main(path: Path) -> None:
    (path.parent / "backup.db").replace(path)


def replace_all(path: Path) -> None:
    for name in ("holdfast.db-wal", "holdfast.db-shm"):
        (path.parent / name).unlink(missing_ok=True)
    replace_main(path)


def move_away(path: Path) -> None:
    path.rename(path.parent / "old.db")


def delete_log(path: Path) -> None:
    path.with_name("holdfast.db-wal").unlink()


def delete_index(path: Path) -> None:
    path.with_name("holdfast.db-shm").unlink()


@pytest.mark.parametrize("fault", [replace_main, replace_all, move_away, Path.unlink, delete_log, delete_index])
async def test_nothing_is_acknowledged_into_a_file_that_nobody_will_read(path, fault):
    database = Database(f"sqlite:///{path}")
    try:
        await database.write(put("before"))
        fault(path)
        existed = path.exists()
        for _ in range(2):
            with pytest.raises(DatabaseReplaced, match=r"holdfast\.db"):
                await database.write(put(new_id()))
        with pytest.raises(DatabaseReplaced):
            await database.read(keys)
        # No empty database is made where somebody is about to put one back.
        assert path.exists() == existed
    finally:
        database.close()


async def test_a_replacement_in_the_middle_of_a_transaction_is_noticed_before_it_is_acknowledged(path):
    database = Database(f"sqlite:///{path}")
    try:
        await database.write(put("before"))

        def transaction(connection):
            put("during")(connection)
            replace_main(path)

        with pytest.raises(DatabaseReplaced):
            await database.write(transaction)
    finally:
        database.close()
    with closing(sqlite3.connect(path)) as restored:
        assert restored.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
        assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_database_in_use_stays_itself(path):
    """Other processes that come and go, and a log that is cut, are no replacement."""
    database = Database(f"sqlite:///{path}")
    try:
        for number in range(3):
            await database.write(put(f"a{number}"))
            with opened(f"sqlite:///{path}") as other:
                other.write_now(put(f"b{number}"))
            database.write_now(lambda connection: None)
            with closing(sqlite3.connect(path)) as third:
                third.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert len(await database.read(keys)) == 6
    finally:
        database.close()


async def test_the_log_is_cut_once_its_long_reader_is_gone(path, monkeypatch):
    monkeypatch.setattr(database_module, "LARGE_LOG_BYTES", 100_000)
    log = path.with_name("holdfast.db-wal")
    database = Database(f"sqlite:///{path}")
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM inbox").fetchone()
            for number in range(300):
                await database.write(put(f"{number:0>4}"))
            assert log.stat().st_size > 1_000_000
            assert database.shorten_log() > 100_000
        began = time.monotonic()
        assert database.shorten_log() <= 100_000
        assert time.monotonic() - began < 3
        assert log.stat().st_size <= 100_000
        await database.write(put("after"))
    finally:
        database.close()


async def test_a_question_that_takes_too_long_is_ended_and_the_next_one_is_answered(path, monkeypatch):
    monkeypatch.setattr(database_module, "READ_SECONDS", 0.2)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with opened(f"sqlite:///{path}") as database:
        began = time.monotonic()
        with pytest.raises(OperationalError) as caught:
            await database.read(lambda connection: connection.exec_driver_sql(endless).all())
        assert time.monotonic() - began < 5
        assert failure_of(caught.value).kind is Kind.BUSY
        assert await database.read(keys) == []


# ------------------------------------------------------------------------ the worker


@pytest.mark.slow
def test_a_worker_reports_that_its_file_is_gone_and_ends_once_another_one_is_there(tmp_path, nats_url, inventory):
    file = tmp_path / "var" / "holdfast.db"
    addresses = {"NATS_URL": nats_url, "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{inventory.port}"}
    with worker(tmp_path, **addresses) as service:
        assert place(service, new_id()).status_code == 201
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
            source.backup(backup)
        file.rename(tmp_path / "old.db")
        refused = place(service, new_id())
        assert (refused.status_code, refused.json()["error"]["retryable"]) == (503, True)
        ready = service.client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, False)
        assert "holdfast.db is gone" in ready.json()["reason"]
        wait_until(lambda: "database_not_writable" in (tmp_path / "worker.log").read_text(), REST_SECONDS, service.log)
        assert service.process.poll() is None
        assert not file.exists()
        (tmp_path / "backup.db").rename(file)
        assert service.process.wait(REST_SECONDS) == 75
        assert "holdfast.db is gone while in use: the worker ends" in service.log()
        # A loop that failed meanwhile may say so in its own line; the process itself ends in good order.
        assert "\nTraceback" not in service.log()
    with worker(tmp_path, **addresses) as service:
        assert place(service, new_id()).status_code == 201


@pytest.mark.slow
def test_the_log_that_a_long_reader_made_grow_is_cut_while_the_worker_runs(tmp_path, nats_url, inventory):
    file = tmp_path / "var" / "holdfast.db"
    log = file.with_name("holdfast.db-wal")
    addresses = {"NATS_URL": nats_url, "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{inventory.port}"}
    with worker(tmp_path, **addresses) as service, closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM inbox").fetchone()
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("CREATE TABLE large (content BLOB)")
            for _ in range(70):
                writer.execute("INSERT INTO large VALUES (zeroblob(1048576))")
        assert log.stat().st_size > 64 * 1024 * 1024
        reader.execute("COMMIT")
        wait_until(lambda: log.stat().st_size <= 64 * 1024 * 1024, 3 * REST_SECONDS, service.log)
        assert place(service, new_id()).status_code == 201
