"""A database file whose bytes are replaced while it is in use: a backup that was copied over it."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.base.identity import new_id
from state.engine.database import Database, opened
from state.engine.source import Source, SourceUnavailable
from state.engine.sqlite_files import identity_of
from state.engine.transactions import DatabaseReplaced
from state.schema import migrate
from tests.chaos.stack import ROOT
from tests.faults.processes import wait_until, worker
from tests.faults.shop import place
from tests.support.inbox_rows import keys, put

Fault = Callable[[Path, Path], object]
REST_SECONDS = 60.0


def backup(path: Path) -> Path:
    """A backup of a database, in use or not, as SQLite makes it."""
    copy = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def in_place(copy: Path, path: Path) -> None:
    """As `rsync --inplace` does: the file is never shorter than it was."""
    with path.open("r+b") as file:
        file.write(copy.read_bytes())
        file.truncate()


def vacuumed(copy: Path, path: Path) -> None:
    """A backup whose pages lie in another order."""
    with closing(sqlite3.connect(copy)) as database:
        database.execute("VACUUM")
    shutil.copyfile(copy, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "holdfast.db"
    with opened(f"sqlite:///{path}") as database:
        migrate(database)
    return path


def content(path: Path) -> list[str]:
    """What somebody finds who opens the file anew."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return sorted(key for (key,) in database.execute("SELECT event_id FROM inbox"))


@pytest.mark.parametrize("fault", [shutil.copyfile, shutil.copy2, in_place, vacuumed])
@pytest.mark.parametrize("checkpointed", [False, True])
async def test_nothing_is_acknowledged_after_a_backup_was_copied_over_the_file(
    path: Path, fault: Fault, checkpointed: bool
) -> None:
    database = Database(f"sqlite:///{path}")
    try:
        await database.write(put("before"))
        copy = backup(path)
        await database.write(put("later"))
        if checkpointed:
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(PASSIVE)")
            await database.write(put("last"))
        known = identity_of(path)
        fault(copy, path)
        assert identity_of(path) == known
        for _ in range(2):
            with pytest.raises(DatabaseReplaced, match=r"holdfast\.db was overwritten while in use"):
                await database.write(put(new_id()))
            with pytest.raises(DatabaseReplaced):
                await database.read(keys)
    finally:
        database.close()
        del database
        gc.collect()
    # What was in the log of the file before it is kept aside, and damages nothing.
    assert content(path) == ["before"]
    assert identity_of(path.with_name("holdfast.db-wal.old"))


async def test_a_copy_in_the_middle_of_a_transaction_is_noticed_before_it_is_acknowledged(path: Path) -> None:
    copy = backup(path)
    database = Database(f"sqlite:///{path}")
    try:
        await database.write(put("before"))

        def transaction(connection):
            put("during")(connection)
            shutil.copyfile(copy, path)

        with pytest.raises(DatabaseReplaced):
            await database.write(transaction)
    finally:
        database.close()
        gc.collect()
    assert content(path) == []


async def test_a_reader_alone_notices_it_too(path: Path) -> None:
    copy = backup(path)
    with opened(f"sqlite:///{path}") as writer:
        writer.write_now(put("before"))
        reader = Database(f"sqlite:///{path}")
        try:
            assert await reader.read(keys) == ["before"]
            shutil.copyfile(copy, path)
            with pytest.raises(DatabaseReplaced):
                await reader.read(keys)
        finally:
            reader.close()


def test_the_console_reports_it_once_and_then_shows_what_was_restored(path: Path) -> None:
    source = Source(f"sqlite:///{path}")
    source.write(put("before"))
    copy = backup(path)
    source.write(put("later"))
    assert source.read(keys) == ["before", "later"]
    shutil.copyfile(copy, path)
    with pytest.raises(SourceUnavailable, match="overwritten"):
        source.read(keys)
    assert source.read(keys) == ["before"]
    source.write(put("after"))
    assert source.read(keys) == ["after", "before"]
    source.close()
    assert content(path) == ["after", "before"]


WORKER = """
import sys
from sqlalchemy import insert
from state.engine.database import Database
from state.tables import inbox
from state.engine.transactions import DatabaseReplaced
from tests.chaos.stack import ROOT
from tests.support.fakes import START
from tests.support.inbox_rows import keys, put
database = Database(sys.argv[1])
for key in sys.stdin:
    row = {"event_id": key.strip(), "type": "t", "received_at": START}
    try:
        database.write_now(lambda connection: connection.execute(insert(inbox), row))
    except DatabaseReplaced:
        print("replaced", flush=True)
        break
    print("written", flush=True)
database.close()
"""
"""Writes a row for each line that it reads, and ends when its file is another one."""


@contextmanager
def writing(path: Path) -> Iterator[Callable[[str], str]]:
    """Another process that writes; called with a key, returns what it says."""
    command = [sys.executable, "-c", WORKER, f"sqlite:///{path}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin, process.stdout

        def ask(key: str) -> str:
            print(key, file=to, flush=True)
            return back.readline().strip()

        yield ask


def test_the_console_goes_over_to_what_a_worker_has_begun_anew(path: Path) -> None:
    source = Source(f"sqlite:///{path}")
    with writing(path) as write:
        assert write("before") == "written"
        copy = backup(path)
        assert source.read(keys) == ["before"]
        shutil.copyfile(copy, path)
        assert write("later") == "replaced"
    with writing(path) as write:
        assert write("after") == "written"
        with pytest.raises(SourceUnavailable, match="overwritten"):
            source.read(keys)
        assert source.read(keys) == ["after", "before"]
        source.write(put("last"))
        assert write("end") == "written"
        assert source.read(keys) == ["after", "before", "end", "last"]
    source.close()
    assert content(path) == ["after", "before", "end", "last"]


NEIGHBOUR = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
database.execute("PRAGMA wal_autocheckpoint=8")
print("ready", flush=True)
number = 0
while True:
    number += 1
    row = (f"{sys.argv[2]}-{number}", "t" * 900, "2026-11-22 12:00:00.000000")
    database.execute("INSERT INTO inbox (event_id, type, received_at) VALUES (?, ?, ?)", row)
    if number % 20 == 0:
        database.execute("DELETE FROM inbox WHERE event_id LIKE ?", (f"{sys.argv[2]}-%",))
    if number % 50 == 0:
        database.execute("VACUUM")
    if number % 7 == 0:
        database.execute("PRAGMA wal_checkpoint(PASSIVE)")
    # SQLite's lock is not fair: without a pause nobody else gets it.
    time.sleep(0.003)
"""
"""Another process that writes, writes back a part of the log every few pages, and puts the file in order."""


def test_neighbours_that_write_checkpoint_and_are_killed_are_no_replacement(path: Path) -> None:
    """Whatever SQLite itself does to the file, in whatever process, alarms nobody."""
    with opened(f"sqlite:///{path}") as database, closing(sqlite3.connect(path, isolation_level=None)) as long_reader:
        for turn in range(4):
            command = [sys.executable, "-c", NEIGHBOUR, str(path), f"n{turn}"]
            neighbour = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
            # Half of the time a long reader keeps the log from being written back as a whole.
            if turn % 2:
                long_reader.execute("BEGIN")
                long_reader.execute("SELECT count(*) FROM inbox").fetchone()
            stamps = set()
            for number in range(60):
                database.write_now(put(f"{turn}-{number}"))
                database.read_now(keys)
                stamps.add(path.stat().st_mtime_ns)
            # While somebody reads the old state, the log is written back up to there only.
            assert turn % 2 or len(stamps) > 1
            neighbour.kill()
            neighbour.wait()
            neighbour.stdout.close()
            database.write_now(put(f"{turn}-end"))
            if turn % 2:
                long_reader.execute("COMMIT")
            database.shorten_log()
        assert len([key for key in database.read_now(keys) if key[0].isdigit()]) == 4 * 61


# ------------------------------------------------------------------------ the worker


@pytest.mark.slow
def test_a_worker_reports_that_its_file_was_overwritten_and_goes_on_with_the_backup_after_a_restart(
    tmp_path: Path, nats_url: str, inventory
) -> None:
    file = tmp_path / "var" / "holdfast.db"
    addresses = {"NATS_URL": nats_url, "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{inventory.port}"}
    kept, lost = new_id(), new_id()
    with worker(tmp_path, **addresses) as service:
        assert place(service, kept).status_code == 201
        copy = backup(file)
        assert place(service, lost).status_code == 201
        subprocess.run(["cp", str(copy), str(file)], check=True)
        refused = place(service, new_id())
        assert (refused.status_code, refused.json()["error"]["retryable"]) == (503, True)
        ready = service.client.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (503, False)
        assert "holdfast.db was overwritten" in ready.json()["reason"]
        assert service.process.wait(REST_SECONDS) == 75
        assert "holdfast.db was overwritten while in use: the worker ends" in service.log()
        # A loop that failed meanwhile may say so in its own line; the process itself ends in good order.
        assert "\nTraceback" not in service.log()
    with worker(tmp_path, **addresses) as service:
        found = {one: service.client.get(f"/api/v1/orders/{one}").status_code for one in (kept, lost)}
        assert found == {kept: 200, lost: 404}
        wait_until(lambda: service.client.get("/readyz").is_success, REST_SECONDS, service.log)
        assert place(service, new_id()).status_code == 201
