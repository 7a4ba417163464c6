"""Where a process may be killed: before and after each of its commits, requests and publications.

Installed by the launcher only, around the product's own seams. Points are counted from the moment the
arm file appears; a run without a point to die at writes down those that it passes.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

BACKGROUND = (
    "AlertEvaluator.",
    "Recorder.",
    "Retention.",
    "delete_older",
    "_run",
    "BreakerOverrides.",
    "ClockSkewRepair.",
    "ConservationAudit.",
    "Leader.",
    "_sweep.",
    "SqlOutbox.",
    "EventParking.",
    "DatabaseWatch.",
    "EventRecovery.",
    "build.",
    "build_messaging.",
    "serve.",
)
"""How the names of transactions begin that belong to no order, or are counted elsewhere."""

MEASURED = "state.samples"
"""The module whose functions are transactions by themselves, and belong to no order either."""

WRAPPERS = {
    "OrdersContext.unit_of_work.<locals>.transaction": "work",
}
"""Functions of the product around a transaction, and the variable that has it."""

BEFORE, AFTER = "before", "after"


class Point(NamedTuple):
    """One moment in the life of a process: the nth time that it comes to a seam."""

    label: str
    number: int
    phase: str

    def __str__(self) -> str:
        return f"{self.phase} {self.label} #{self.number}"


def points_in(trace: Path) -> list[Point]:
    """What a process wrote down."""
    return [Point(*json.loads(line)) for line in trace.read_text().splitlines()] if trace.exists() else []


class Seams:
    """Counts what the process passes, and kills it, or another, at one of them."""

    def __init__(self, arm: Path, trace: Path | None, point: Point | None, victim: int | None) -> None:
        self._arm = arm
        self._trace = trace
        self._point = point
        self._victim = victim
        self._passed: Counter[tuple[str, str]] = Counter()

    def passes(self, label: str, phase: str) -> bool:
        """Note a point; True when another process was killed here."""
        if not self._arm.exists():
            return False
        self._passed[label, phase] += 1
        here = Point(label, self._passed[label, phase], phase)
        if self._trace is not None:
            with self._trace.open("a") as trace:
                trace.write(json.dumps(here) + "\n")
        if here != self._point:
            return False
        os.kill(self._victim or os.getpid(), signal.SIGKILL)
        return self._victim is not None


def label_of(transaction: Any) -> str | None:
    """The name of a transaction; None when it belongs to no order."""
    function = getattr(transaction, "func", transaction)
    while (wrapped := WRAPPERS.get(getattr(function, "__qualname__", ""))) is not None:
        function = inspect.getclosurevars(function).nonlocals[wrapped]
        function = getattr(function, "func", function)
    name: str = getattr(function, "__qualname__", type(function).__name__)
    if name.startswith(BACKGROUND) or "settle_and_claim" in name or function.__module__ == MEASURED:
        return None
    return name.replace("<locals>.", "").replace(".<lambda>", "")


def install_in_database(seams: Seams) -> None:
    """Around every transaction. Claims are made all the time: only those that found something count."""
    from state.engine.database import Database

    write = Database.write

    async def watched(self: Database, transaction: Any) -> Any:
        label = label_of(transaction)
        if label is None:
            return await write(self, transaction)
        is_claim = label.endswith("run_due")
        if not is_claim:
            seams.passes(label, BEFORE)
        result = await write(self, transaction)
        if result or not is_claim:
            seams.passes(label, AFTER)
        return result

    Database.write = watched  # type: ignore[method-assign]


def install_in_availability(seams: Seams) -> None:
    """Around the one answer of the Inventory Service that changes nothing."""
    from services.sandbox.inventory_service import queries

    availability = queries.availability

    def watched(*given: Any) -> Any:
        seams.passes("availability", BEFORE)
        answer = availability(*given)
        seams.passes("availability", AFTER)
        return answer

    queries.availability = watched


def install_in_transport(seams: Seams) -> None:
    """Before a request is sent, and after its answer came and before anything was done about it."""
    from services.clients.http.transport import AiohttpTransport, Answer, Outgoing, Progress

    send = AiohttpTransport.send

    async def watched(self: AiohttpTransport, request: Outgoing, progress: Progress) -> Answer:
        words = [word for word in request.url.path.split("/") if word and "-" not in word.removeprefix("check-")]
        label = f"{request.method} {'/'.join(words[2:])}"
        if label.startswith("GET inventory"):
            # The audit looks whenever it likes.
            return await send(self, request, progress)
        seams.passes(label, BEFORE)
        answer = await send(self, request, progress)
        seams.passes(label, AFTER)
        return answer

    AiohttpTransport.send = watched  # type: ignore[method-assign]


def install_in_relay(seams: Seams) -> None:
    """Around claiming, publishing and marking events; a broker that is killed has answered nothing."""
    from services.messaging.outbox_relay import OutboxRow, SqlOutbox
    from services.messaging.publisher import JetStreamPublisher

    publish, settle_and_claim = JetStreamPublisher.publish, SqlOutbox.settle_and_claim

    async def watched_publish(self: JetStreamPublisher, rows: Sequence[OutboxRow]) -> dict[int, str]:
        label = f"publish {'+'.join(row.subject for row in rows)}"
        seams.passes(label, BEFORE)
        answers = await publish(self, rows)
        if seams.passes(label, AFTER):
            return dict.fromkeys((row.id for row in rows), "killed before it answered")
        return answers

    async def watched_claim(self: SqlOutbox, settled: Any, failed: Any, limit: int) -> list[OutboxRow]:
        if settled:
            seams.passes("mark as published", BEFORE)
        rows = await settle_and_claim(self, settled, failed, limit)
        if settled:
            seams.passes("mark as published", AFTER)
        if rows:
            seams.passes("claim events", AFTER)
        return rows

    JetStreamPublisher.publish = watched_publish  # type: ignore[method-assign,assignment]
    SqlOutbox.settle_and_claim = watched_claim  # type: ignore[method-assign]


def shift_the_clock(seconds: float) -> None:
    """Let the worker believe that so much time has passed, so that no test has to wait for a claim's end."""
    from services.runtime import clients, parts

    real = parts.utc_now

    def shifted() -> datetime:
        return real() + timedelta(seconds=seconds)

    for module in (parts, clients):
        module.utc_now = shifted  # type: ignore[attr-defined]


def hurry_redeliveries() -> None:
    """The broker delivers again after two seconds what a dead consumer had taken."""
    from services.messaging.durable_consumer import ConsumerSettings

    defaults = ConsumerSettings.__init__.__kwdefaults__
    assert defaults is not None
    defaults["ack_wait_seconds"] = 2.0


def seams_of(given: Mapping[str, str]) -> Seams:
    """As the launcher was told by variables of its own."""
    point = Point(*json.loads(given["CRASH_POINT"])) if "CRASH_POINT" in given else None
    trace = Path(given["CRASH_TRACE"]) if "CRASH_TRACE" in given else None
    victim = int(given["CRASH_VICTIM"]) if "CRASH_VICTIM" in given else None
    return Seams(Path(given["CRASH_ARM"]), trace, point, victim)
