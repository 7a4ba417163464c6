"""A worker whose database is away when it starts waits for it; one that is told to stop does not wait for a gateway."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import make_url

from services.base.addresses import free_port
from services.base.identity import new_id
from state.engine.source import read_only
from state.tables import orders
from tests.chaos.stack import ROOT
from tests.faults.processes import Service, wait_until, worker
from tests.faults.proxy import TcpProxy
from tests.faults.shop import place
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.slow

REST_SECONDS = 60.0
END_SECONDS = 5.0
"""Of a worker alone; all of Holdfast has ten. Source: contract 1."""

NOBODY = "http://127.0.0.1:9"


def readiness(service: Service) -> httpx.Response:
    return service.client.get("/readyz")


@contextmanager
def silent_gateway() -> Iterator[str]:
    """It takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_worker_waits_for_its_database_alive_and_saying_why_and_goes_on_by_itself(
    tmp_path: Path, postgres_server: PostgresServer, nats_url: str, inventory: Service
):
    url = make_url(postgres_server.new_database(migrated=False))
    with TcpProxy(f"{url.query['host']}/.s.PGSQL.5432") as proxy, ExitStack() as fault:
        fault.enter_context(proxy.refusing())
        through = url.difference_update_query(["host"]).set(host="127.0.0.1", port=proxy.port, password="s3cret")
        addresses = {
            "DATABASE_URL": through.render_as_string(hide_password=False),
            "NATS_URL": nats_url,
            "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{inventory.port}",
        }
        with worker(tmp_path, **addresses) as service:
            assert service.client.get("/healthz").status_code == 200
            away = readiness(service)
            assert (away.status_code, away.json()["ready"], away.json()["database"]) == (503, False, False)
            assert "Connection refused" in away.json()["reason"]
            refused = place(service, new_id())
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
            assert int(refused.headers["Retry-After"]) >= 1
            said = service.log()
            assert "database_away" in said
            assert "Traceback" not in said
            assert "s3cret" not in said + away.text
            fault.close()
            wait_until(lambda: readiness(service).status_code == 200, REST_SECONDS, service.log)
            assert place(service, new_id()).status_code == 201


def test_a_worker_that_waits_for_its_database_ends_when_it_is_told_to(tmp_path: Path, nats_url: str):
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    addresses = {"DATABASE_URL": f"postgresql+psycopg://u@127.0.0.1:{port}/d", "NATS_URL": nats_url}
    with worker(tmp_path, INVENTORY_SERVICE_URL=NOBODY, **addresses) as service:
        assert readiness(service).status_code == 503
        assert end(service) < END_SECONDS
        assert service.process.returncode == 0


def end(service: Service) -> float:
    """SIGTERM: how many seconds until the process has ended."""
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(20)
    return time.monotonic() - began


@pytest.mark.parametrize("variable", ["DATA_DIR", "DATABASE_URL"])
def test_a_read_only_database_file_ends_the_start_with_one_line(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, sqlite_url: str, variable: str
):
    source = Path(make_url(sqlite_url).database or "")
    folder = tmp_path / "data"
    folder.mkdir()
    file = (folder if variable == "DATA_DIR" else tmp_path) / "holdfast.db"
    if file != source:
        source.rename(file)
    file.chmod(0o444)
    (tmp_path if variable == "DATABASE_URL" else folder).chmod(0o555)
    # The superuser may write anywhere, unless it gives up that right.
    prefix = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override") if os.geteuid() == 0 else ()
    given = {"DATABASE_URL": f"sqlite:///{file}"}
    done = subprocess.run(
        (*prefix, sys.executable, "-m", "services", "worker"),
        cwd=ROOT,
        env={
            **os.environ,
            "DATA_DIR": str(folder),
            "API_PORT": str(free_port(tmp_path_factory.mktemp("port") / "api.port")),
            "NATS_URL": "nats://127.0.0.1:9",
            "INVENTORY_SERVICE_URL": NOBODY,
            **given,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    (tmp_path if variable == "DATABASE_URL" else folder).chmod(0o755)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{variable}: {str(file)!r} cannot be used (")
    assert "allowed: " in line


def test_a_payment_that_hangs_does_not_delay_the_end_and_the_order_is_kept(
    tmp_path: Path, nats_url: str, inventory: Service
):
    inventory_url = f"http://127.0.0.1:{inventory.port}"
    database = f"sqlite:///{tmp_path / 'var' / 'holdfast.db'}"

    def is_paying() -> bool:
        with read_only(database) as books:
            return books.execute(orders.select().where(orders.c.status == "PAYING")).first() is not None

    with silent_gateway() as payments:
        addresses = {"NATS_URL": nats_url, "INVENTORY_SERVICE_URL": inventory_url, "PAYMENT_SERVICE_URL": payments}
        with worker(tmp_path, **addresses) as service:
            answers: list[httpx.Response] = []
            asking = threading.Thread(target=lambda: answers.append(place(service, new_id())))
            asking.start()
            wait_until(is_paying, REST_SECONDS, service.log)
            seconds = end(service)
            asking.join(10)
            assert seconds < END_SECONDS
            assert answers[0].status_code == 503
            assert "Traceback" not in service.log()
    assert is_paying()
