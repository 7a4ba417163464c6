"""Two workers on one PostgreSQL server and one broker: any of them may die, and the books agree."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS, Fault, replica_faults
from tests.chaos.replicated import SECOND
from tests.chaos.soak import BRISK, Step, plan, soak
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.slow

KINDS = ("kill -9 worker", f"kill -9 {SECOND}", "kill -9 both workers", "kill -9 nats-server", "PostgreSQL crash")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer(keeps_commits=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_a_long_soak_of_replicas_meets_what_a_single_worker_meets_and_more(server: PostgresServer) -> None:
    faults = replica_faults(server)
    kinds = {step.fault.kind for step in plan(random.Random(1), 600.0, BRISK, faults)}
    assert kinds == {fault.kind for fault in faults}
    assert {fault.kind for fault in FAULTS} < kinds
    assert set(KINDS) <= kinds


async def test_two_workers_lose_nothing_whichever_of_them_dies_and_when(tmp_path: Path, server: PostgresServer) -> None:
    by_kind: dict[str, Fault] = {fault.kind: fault for fault in replica_faults(server)}
    steps = [Step(by_kind[kind], 1.0, 1.5) for kind in (*KINDS, f"SIGSTOP {SECOND}", *KINDS[:3])]
    report = await soak(tmp_path, steps, seed=3, tell=print, database_url=server.new_database())
    print("\n".join(report.lines()))  # noqa: T201 - figures for people, shown by pytest -s
    assert report.differences == ()
    assert report.broken_promises == ()
    assert report.still_waiting == ""
    assert report.faults == Counter(step.fault.kind for step in steps)
    assert report.acknowledged["CONFIRMED"] >= 50
