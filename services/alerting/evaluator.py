"""Judging the alerts in the worker, from the database alone: works with nothing else installed.

Every replica is ready to do it and one does, under a lease. All state is in the database, so that a
restart or a takeover changes nothing. Source: contract section 6; console rule 17.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.alerting import webhook
from services.alerting.labels import matchers_of
from services.alerting.recording import Gauges, Recording
from services.alerting.rules import Rule
from services.alerting.series import View
from services.alerting.states import Silencers, Step, expired, owed, step
from services.domain.events import timestamp
from services.domain.order import OrderStatus
from state import (
    alert_inputs,
    alerts,
    dead_letters,
    leases,
    notifications,
    orders,
    outbox,
    replicas,
    reviews,
    silences,
)
from state.alerts import FIRING, LEASE, PROMETHEUS, WORKER
from state.database import Database
from state.replicas import Replica

LEASE_ROUNDS = 3
"""The lease runs out when so many rounds are missed."""
SHORTEST_LEASE = timedelta(seconds=5)


LATE_COMMIT = timedelta(seconds=30)
"""A sample may become visible so long after the time that stands in it."""

PAGE = 500


@dataclass(frozen=True, slots=True)
class AlertingPolicy:
    """What the settings say about alerting."""

    window: timedelta
    interval: timedelta
    heartbeat: timedelta
    is_sent: bool
    """Whether there is a webhook to send notifications to."""
    external_url: str
    """Where a reader of a notification finds more."""
    link: str
    """The address of the list of alerts."""

    @property
    def lease(self) -> timedelta:
        return max(LEASE_ROUNDS * self.interval, SHORTEST_LEASE)

    @property
    def outage(self) -> timedelta:
        """Not having looked for so long is not having known."""
        return 2 * self.lease


class AlertEvaluator:
    """One round judges every rule once; rounds of replicas without the lease do nothing."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        replica: str,
        rules: Sequence[Rule],
        policy: AlertingPolicy,
    ) -> None:
        self._database = database
        self._clock = clock
        self._replica = replica
        self._rules = tuple(rules)
        self._policy = policy
        self._recording: Recording | None = None
        self._read_up_to: datetime | None = None

    async def evaluate(self) -> bool:
        """One round of a Loop."""
        now = self._clock()
        held = await self._database.read(lambda c: leases.get(c, LEASE))
        if held is not None and held.holder != self._replica and held.expires_at > now:
            self._recording = None
            return False
        view = await self._look(now)
        await self._database.write(lambda c: self._judge(c, view, now))
        return False

    async def hand_over(self) -> None:
        """Let another replica go on at once; to be called when this one stops in good order."""
        await self._database.write(lambda c: leases.give_back(c, LEASE, self._replica))

    # ------------------------------------------------------------------ looking

    async def _look(self, now: datetime) -> View:
        if self._recording is None or (self._read_up_to and now < self._read_up_to):
            # A clock that was set back: what comes now is older than what was read.
            self._recording = Recording(self._policy.window // timedelta(milliseconds=1))
            self._read_up_to = None
        start = now - self._policy.window
        after = max(start, self._read_up_to - LATE_COMMIT) if self._read_up_to else start
        recording = self._recording
        while True:
            rows = await self._database.read(partial(_samples, after, now))
            recording.feed(rows)
            if len(rows) < PAGE:
                break
            # The last instant may hold samples of further replicas: it is read again.
            after = rows[-1][0] if rows[-1][0] > after else after + timedelta(milliseconds=1)
        self._read_up_to = now
        gauges, living = await self._database.read(lambda c: _present(c, now))
        return recording.view(now, gauges, living)

    # ------------------------------------------------------------------ judging

    def _judge(self, connection: Connection, view: View, now: datetime) -> None:
        """One transaction: whoever holds the lease at its commit has judged, and nobody else."""
        if not leases.take(connection, LEASE, self._replica, now, now + self._policy.lease):
            return
        known = alerts.of_source(connection, WORKER)
        policy = self._policy
        apply(connection, step(self._rules, view, known, now, outage=policy.outage, link=policy.link))
        apply(connection, expired(alerts.of_source(connection, PROMETHEUS), now))
        self._notify(connection, now)
        leases.note(connection, LEASE, self._noted(view, now))

    def _noted(self, view: View, now: datetime) -> dict[str, Any]:
        return {
            "evaluatedAt": timestamp(now),
            "intervalSeconds": self._policy.interval.total_seconds(),
            "webhook": self._policy.is_sent,
            "rules": {rule.name: {"value": rule.present(view), "threshold": rule.threshold} for rule in self._rules},
        }

    def _notify(self, connection: Connection, now: datetime) -> None:
        if not self._policy.is_sent:
            return
        candidates = [*alerts.standing(connection), *alerts.owing(connection)]
        for alert, status in owed(candidates, silencers(connection, now)):
            payload = webhook.notification(alert, status, self._policy.external_url)
            _queue(connection, alert.alert_id, alert.name, status, payload, now)
            alerts.put(connection, replace(alert, is_notified=status == FIRING))
        last = notifications.last_of(connection, webhook.WATCHDOG)
        # One that waits already says as much as two.
        if last is None or (
            last.state != notifications.PENDING and abs(now - last.created_at) >= self._policy.heartbeat
        ):
            held = leases.get(connection, LEASE)
            payload = webhook.watchdog(now, held.acquired_at if held else now, self._policy.external_url)
            _queue(connection, webhook.WATCHDOG, webhook.WATCHDOG, FIRING, payload, now)


def silencers(connection: Connection, now: datetime) -> Silencers:
    """The matchers of the silences that run."""
    return {silence.silence_id: matchers_of(silence.matchers) for silence in silences.running(connection, now)}


def apply(connection: Connection, change: Step) -> None:
    """Store what an evaluation or a received message changes."""
    for alert in change.put:
        alerts.put(connection, alert)
    for alert_id in change.remove:
        alerts.remove(connection, alert_id)
    alerts.add_events(connection, change.events)


def _samples(start: datetime, end: datetime, connection: Connection) -> list[tuple[datetime, str, dict[str, Any]]]:
    return alert_inputs.samples_between(connection, start, end, PAGE)


def _queue(
    connection: Connection, alert_id: str, name: str, status: str, payload: dict[str, Any], now: datetime
) -> None:
    notifications.add(connection, alert_id=alert_id, name=name, status=status, payload=payload, at=now)


def _present(connection: Connection, now: datetime) -> tuple[Gauges, list[Replica]]:
    gauges = Gauges(
        reservation_queue=orders.count_with_status(connection, OrderStatus.PENDING_INVENTORY),
        outbox_oldest_at=outbox.pending(connection)[1],
        dead_letters=dead_letters.count_open(connection),
        reviews_oldest_at=reviews.oldest_open_at(connection),
    )
    return gauges, replicas.alive(connection, now)
