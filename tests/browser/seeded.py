"""A console over a database that a busy half hour left behind: no worker, so nothing on its pages moves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import update

from services.supervisor import free_port
from state.database import Database, opened
from state.schema import migrate
from state.tables import replicas
from tests.browser.product import ROOT, wait_until_healthy
from tests.ui import seed_console

HEARTBEAT_SECONDS = 1.0


@contextmanager
def seeded_console(data_dir: Path, *, filled: bool = True) -> Iterator[str]:
    """The console's address; with ``filled`` false its database has all its tables and nothing in them."""
    path = data_dir / "console.db"
    port = free_port(data_dir / "console.port")
    with opened(f"sqlite:///{path}") as database:
        migrate(database)
        if filled:
            seed_console.seed(database, datetime.now(UTC))
        environment = {**os.environ, "DATA_DIR": str(data_dir), "DATABASE_URL": f"sqlite:///{path}"}
        command = [sys.executable, "-m", "streamlit", "run", "pages/main.py", "--server.port", str(port)]
        log = data_dir / "console.log"
        with log.open("wb") as output, _alive(database):
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process, log)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(15)


@contextmanager
def _alive(database: Database) -> Iterator[None]:
    """The one worker's heartbeat, for as long as somebody looks."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            database.write_now(
                lambda connection: connection.execute(update(replicas).values(heartbeat_at=datetime.now(UTC)))
            )

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
