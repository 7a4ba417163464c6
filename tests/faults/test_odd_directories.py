"""A checkout and a DATA_DIR under any path: everything starts, and writes there and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from services.base.addresses import free_port
from services.base.identity import new_id
from tests.chaos.stack import ROOT
from tests.faults.processes import wait_until
from tests.faults.shop import MUG

pytestmark = [pytest.mark.slow]

ODD = "Größe 50%25 a?b=c #1 'x' \"y\" $HOME & \\z"
REST_SECONDS = 40.0


@contextmanager
def running(checkout: Path, folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """The whole sandbox without a console, started from a directory that has nothing to do with it."""
    port = free_port(folder / "api.port")
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "services", "worker"),
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(checkout),
                "API_PORT": str(port),
                "SANDBOX_TRAFFIC": "0",
                **environment,
            },
            stdout=output,
            stderr=output,
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            return client.get("/readyz").is_success
        return False

    try:
        wait_until(is_ready, REST_SECONDS, log.read_text)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def place(client: httpx.Client) -> int:
    body = {"orderId": new_id(), "userId": "user-1", "items": [MUG.wire()]}
    return client.post("/api/v1/orders", json=body).status_code


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.db")}


EVERYTHING = {"holdfast.db", "sandbox/inventory.db", "sandbox/payments.db"}


def test_a_data_directory_of_any_name_is_used_and_no_other_one(tmp_path: Path):
    data = tmp_path / ODD
    with running(ROOT, tmp_path, DATA_DIR=str(data)) as client:
        assert place(client) == 201
        assert files(data) == EVERYTHING
        assert files(tmp_path) == {f"{ODD}/{name}" for name in EVERYTHING}
        assert any((data / "nats" / "js").rglob("*.blk"))


def test_a_checkout_of_any_name_runs_and_holds_its_data_wherever_it_is_started(tmp_path: Path):
    checkout = tmp_path / ODD.replace(":", "")
    checkout.mkdir()
    for name in ("services", "state", "pages"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with running(checkout, elsewhere) as client:
        assert place(client) == 201
        assert files(checkout / "var") == EVERYTHING
        assert files(elsewhere) == set()
    said = (elsewhere / "worker.log").read_text()
    assert "worker_started" in said
    assert "holdfast.db" in said
