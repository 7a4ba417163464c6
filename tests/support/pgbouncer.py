"""A real PgBouncer from Debian's package before a server of the tests, in transaction mode."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from services.base.addresses import free_port
from tests.support.postgres_server import PATIENCE_SECONDS, _as_unprivileged_user


@contextmanager
def pgbouncer(url: str, *, pool_size: int = 4, ignores_options: bool = False) -> Iterator[str]:
    """The URL of the same database behind a pooler with so many sessions."""
    server = make_url(url)
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pgbouncer-"))
    as_user = _as_unprivileged_user(folder)
    port = free_port(folder / "port")
    (folder / "users").write_text(f'"{server.username}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
* = host={server.query["host"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "users"}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
ignore_startup_parameters = {"options," if ignores_options else ""}extra_float_digits
"""
    )
    for path in folder.iterdir():
        path.chmod(0o644)
    binary = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*as_user, binary, str(folder / "pgbouncer.ini")], stdout=log, stderr=log)
    behind = f"postgresql+psycopg://{server.username}@127.0.0.1:{port}/{server.database}"
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                psycopg.connect(behind.replace("+psycopg", ""), connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield behind
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
