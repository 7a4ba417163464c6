"""When a broker that is up counts as broken."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from services.messaging.embedded import (
    FIRST_PATIENCE_SECONDS,
    LONGEST_PATIENCE_SECONDS,
    BrokerCheck,
    Publishing,
    PublishingVerdict,
    fetch_object,
    has_room,
    inventory_publishing,
    worker_publishing,
)

WELL = {"database": True, "nats": True, "streams": True, "publishing": True}
REFUSED = WELL | {"publishing": False, "trouble": "broker"}
STEP = 2.0


class Observed:
    """A verdict over time that passes in steps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.verdict = PublishingVerdict(lambda: self.now)

    def restarts(self, readiness: dict[str, Any] | None, seconds: float, *, has_room: bool = True) -> list[float]:
        """When it had the broker started again while it saw the same for so long, counted from the beginning."""
        began, times = self.now, []
        while self.now <= began + seconds:
            if not self.verdict.is_working(worker_publishing(readiness), has_room=has_room):
                times.append(self.now - began)
            self.now += STEP
        return times


def test_a_broker_that_refuses_every_publish_is_started_again_slower_and_slower():
    times = Observed().restarts(REFUSED, 3000)
    assert times[0] == FIRST_PATIENCE_SECONDS
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[:3] == pytest.approx([20, 40, 80], abs=2 * STEP)
    assert pauses[-1] == pytest.approx(LONGEST_PATIENCE_SECONDS, abs=2 * STEP)


def test_a_broker_without_its_streams_is_started_again():
    assert Observed().restarts(WELL | {"streams": False, "trouble": "broker"}, 15) == [FIRST_PATIENCE_SECONDS]


def test_a_broker_whose_disk_is_full_is_never_started_again_and_gets_its_time_once_there_is_room():
    observed = Observed()
    assert observed.restarts(REFUSED, 3600, has_room=False) == []
    assert observed.restarts(REFUSED, 15) == [FIRST_PATIENCE_SECONDS]


@pytest.mark.parametrize(
    "seen",
    [
        None,
        {},
        WELL,
        REFUSED | {"nats": False},
        REFUSED | {"database": False},
        {"ready": False, "database": False},
        WELL | {"publishing": "no"},
        WELL | {"publishing": False, "trouble": "database"},
        WELL | {"streams": False, "trouble": "database"},
        WELL | {"publishing": False, "trouble": "ours"},
        WELL | {"publishing": False},
    ],
    ids=[
        "no answer",
        "nothing",
        "well",
        "no connection",
        "no database",
        "waiting for the database",
        "of another form",
        "outbox not read",
        "lost events not sent again",
        "raised",
        "nobody named",
    ],
)
def test_what_implies_nothing_of_the_broker_never_restarts_it_and_breaks_the_time_of_failures(
    seen: dict[str, Any] | None,
):
    observed = Observed()
    assert observed.restarts(seen, 3600) == []
    for _ in range(100):
        assert observed.restarts(REFUSED, FIRST_PATIENCE_SECONDS - STEP) == []
        assert observed.restarts(seen, 0) == []


def test_a_broker_that_has_worked_long_enough_gets_the_first_patience_again():
    observed = Observed()
    observed.restarts(REFUSED, 100)
    observed.restarts(WELL, LONGEST_PATIENCE_SECONDS)
    assert observed.restarts(REFUSED, 15) == [FIRST_PATIENCE_SECONDS]


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("status", [200, 503])
def test_the_worker_reports_whether_it_is_ready_or_not(status: int):
    with answering(status, json.dumps(REFUSED).encode()) as port:
        assert fetch_object("127.0.0.1", port, "/readyz") == REFUSED


@pytest.mark.parametrize("body", [b"", b"ok", b"[]", b"{" * 100_000, b"\xff", b'{"a":"' + b"x" * 2**20])
def test_an_answer_that_cannot_be_read_is_none(body: bytes):
    with answering(200, body) as port:
        assert fetch_object("127.0.0.1", port, "/readyz") is None


async def test_a_worker_that_is_not_there_does_not_end_the_broker(tmp_path: Path):
    with answering(200, b"") as port:
        pass
    check = BrokerCheck(tmp_path)
    check.add_worker("127.0.0.1", port)
    check.add_inventory("127.0.0.1", port)
    assert await check()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, Publishing.UNKNOWN),
        ({}, Publishing.UNKNOWN),
        ({"data": []}, Publishing.UNKNOWN),
        ({"data": {"nats": "disconnected", "publishing": False}}, Publishing.UNKNOWN),
        ({"data": {"nats": "connected", "publishing": True}}, Publishing.TAKEN),
        ({"data": {"nats": "connected", "publishing": False}}, Publishing.REFUSED),
    ],
)
def test_the_inventory_service_reports_how_publishing_goes(answer: dict[str, Any] | None, told: Publishing):
    assert inventory_publishing(answer) is told


def test_a_place_that_cannot_be_asked_has_no_room(tmp_path: Path):
    assert has_room(tmp_path)
    assert not has_room(tmp_path / "absent")
