"""What follows a commit: counting it, and waking whatever has something to do now."""

from __future__ import annotations

import logging

from services.base.loops import Loop
from services.messaging.jetstream import ConnectionState
from services.messaging.outbox_relay import OutboxRelay
from services.metrics.registry import Metrics
from services.runtime.messaging import Consuming
from services.unit_of_work import Recorded

logger = logging.getLogger("holdfast.worker")


class Wakes:
    """What follows a commit: metrics, and waking whoever has something to do now."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.relay: OutboxRelay | None = None
        self.consuming: Consuming | None = None
        self.releases: Loop | None = None

    def found(self, relay: OutboxRelay, consuming: Consuming, releases: Loop) -> None:
        """What is woken, which is built after this."""
        self.relay, self.consuming, self.releases = relay, consuming, releases

    @property
    def loops(self) -> list[Loop]:
        return [self.releases] if self.releases else []

    def after_commit(self, recorded: Recorded) -> None:
        for status in recorded.became:
            self._metrics.order_became(status)
        for reason in (recorded.failure_code, *recorded.opened):
            if reason:
                self._metrics.order_failed(reason)
        for reason in recorded.opened:
            # Notice to operations. Source: seed 7.3, reservation failures.
            logger.warning("order_flagged", extra={"order_id": recorded.order.order_id, "reason": reason})
        if recorded.became and self.consuming:
            self.consuming.order_moved(recorded.order.order_id)
        if recorded.stored_events and self.relay:
            self.relay.wake()
        if recorded.started_release:
            self.wake_releases()

    def wake_releases(self) -> None:
        if self.releases:
            self.releases.wake()

    def wake_relay(self) -> None:
        if self.relay:
            self.relay.wake()

    def nats_changed(self, state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTED and self.relay:
            self.relay.wake()
