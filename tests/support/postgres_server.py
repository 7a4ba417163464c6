"""A real PostgreSQL server from Debian's binaries, which ends with the process that started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from state.engine.database import Database
from state.schema import migrate

PATIENCE_SECONDS = 60.0
SUPERUSER = "holdfast"
TEMPLATE = "holdfast_template"

# Nothing survives the tests, so nothing has to reach the disk.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "32MB",
}


@contextmanager
def started_postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


class PostgresMissing(RuntimeError):
    """The tests need PostgreSQL: ``apt-get install postgresql``."""


class PostgresServer:
    """A server on a Unix socket of its own, with a migrated template to make databases from."""

    def __init__(self, *, keeps_commits: bool = False) -> None:
        """``keeps_commits``: also when the server is killed (not when the machine is)."""
        self._options = OPTIONS | ({"synchronous_commit": "on"} if keeps_commits else {})
        self._binaries = _binaries()
        # Not below pytest's directory: that one is closed to the unprivileged user the server runs as.
        self._directory = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
        self._data = self._directory / "data"
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user = _as_unprivileged_user(self._directory)

    def start(self) -> None:
        """Initialise and run the server, and migrate the template; raises RuntimeError with the server's log."""
        self._initialise()
        self._run()
        self._make_template()

    def standby(self) -> PostgresServer:
        """A running standby of this server, which follows it until it is promoted."""
        standby = PostgresServer()
        copy = [
            *standby._as_user,
            *(str(self._binaries / "pg_basebackup"), "-h", str(self.directory), "-U", SUPERUSER),
            *("-D", str(standby._data), "-R", "-X", "stream", "-c", "fast", "--no-sync"),
        ]
        done = subprocess.run(copy, capture_output=True, text=True, check=False, cwd=standby.directory)
        if done.returncode:
            standby.close()
            raise RuntimeError(f"pg_basebackup failed: {done.stderr}")
        standby._run()
        return standby

    def promote(self) -> None:
        """Make a standby the server that is written to."""
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def stop(self) -> None:
        """End the server at once, without any farewell."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE_SECONDS)

    @property
    def directory(self) -> Path:
        """Where its socket is."""
        return self._directory

    def restart(self) -> None:
        """End the server without any farewell, and start it again on the same data."""
        self.stop()
        self._run()

    def _run(self) -> None:
        settings = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        command = [
            *self._as_user,
            # As its parent ends, however it ends, the server shuts down fast.
            *(["--pdeathsig", "INT"] if self._as_user else ["setpriv", "--pdeathsig", "INT"]),
            str(self._binaries / "postgres"),
            "-D",
            str(self._data),
            "-k",
            str(self._directory),
            *settings,
        ]
        with self._log().open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._wait_until_it_answers()

    def new_database(self, *, migrated: bool = True) -> str:
        """The URL of a fresh database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE if migrated else 'template0'}")
        return self._url(name)

    def close(self) -> None:
        if self._process is not None:
            # At once: SIGTERM would wait for whoever is still connected.
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _initialise(self) -> None:
        command = [
            *self._as_user,
            str(self._binaries / "initdb"),
            "-D",
            str(self._data),
            "-U",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._directory)
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr or done.stdout}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                psycopg.connect(self._conninfo("postgres")).close()
            except psycopg.OperationalError as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = self._log().read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"PostgreSQL does not answer: {log}") from error
                time.sleep(0.02)
            else:
                return

    def _make_template(self) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        database = Database(self._url(TEMPLATE))
        try:
            migrate(database)
        finally:
            database.close()

    def _log(self) -> Path:
        return self._directory / "server.log"

    def _conninfo(self, name: str) -> str:
        return f"host={self._directory} user={SUPERUSER} dbname={name} connect_timeout=5"

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://{SUPERUSER}@/{name}?host={self._directory}"


def conninfo_of(url: str) -> str:
    """The URL of one of these databases as libpq takes it."""
    parsed = make_url(url)
    return f"host={parsed.query['host']} user={parsed.username} dbname={parsed.database} connect_timeout=2"


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("postgres")
    candidates = [*found, *([Path(on_path).resolve()] if on_path else [])]
    usable = [path.parent for path in candidates if (path.parent / "initdb").exists()]
    if not usable:
        raise PostgresMissing("No PostgreSQL server is installed: apt-get install postgresql")
    return usable[-1]


def _as_unprivileged_user(directory: Path) -> list[str]:
    """The words before a command that make it run as a user the server accepts; it refuses to run as root."""
    if os.geteuid() != 0:
        return []
    names = {user.pw_name: user for user in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    os.chown(directory, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
