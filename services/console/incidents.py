"""Incident impact: the orders that failures of the Inventory Service affected within an interval.

The URL form of an interval is ``FROM~TO~BREAKER``; TO is empty while it lasts, BREAKER when all breakers count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from services.breakers.overview import OPERATIONS
from services.console.access import Topic
from services.console.cache import Reading
from services.domain.external import utc_time
from services.domain.orders.events import timestamp
from services.domain.orders.model import Order
from state import incident_impacts, orders
from state.incident_impacts import MAX_WINDOW, AffectedOrder, Window

PAGE_SIZE = 20
TTL_SECONDS, COUNTED_TTL_SECONDS = 2.0, 5.0
SERVED_WINDOW = timedelta(hours=1)
"""Window of the denied calls and served fallbacks shown beside a breaker."""

_END = datetime.max.replace(tzinfo=UTC)
_WITHIN = timedelta(microseconds=999)
"""The longest time from the start of a millisecond that is within it."""


@dataclass(frozen=True, slots=True)
class IncidentInterval:
    """The time of an incident, and its breaker."""

    start: datetime
    end: datetime | None = None
    """None while it lasts."""
    breaker: str | None = None

    def __str__(self) -> str:
        # A URL has whole milliseconds. Rounding the end up keeps its last millisecond within the interval.
        end = timestamp(min(self.end, _END - _WITHIN) + _WITHIN) if self.end else ""
        return f"{timestamp(self.start)}~{end}~{self.breaker or ''}"

    @classmethod
    def parse(cls, text: str | None) -> IncidentInterval | None:
        """The interval of a URL; None without one or for an invalid one."""
        start, _, rest = (text or "").partition("~")
        end, _, breaker = rest.partition("~")
        try:
            began, ended = utc_time(start), utc_time(end) if end else None
        except ValueError:
            return None
        if (ended is not None and ended <= began) or (breaker and breaker not in OPERATIONS):
            return None
        return cls(began, ended, breaker or None)

    @property
    def window(self) -> Window:
        """The window of the database query. The millisecond that contains ``start`` belongs to it."""
        start = self.start.replace(microsecond=self.start.microsecond // 1000 * 1000)
        operations = (OPERATIONS.get(self.breaker, self.breaker),) if self.breaker else ()
        return Window(start, self.end or _END, operations)


@dataclass(frozen=True, slots=True)
class AffectedOrderRow:
    """An affected order, and its present row; None when it was deleted."""

    affected: AffectedOrder
    order: Order | None


@dataclass(frozen=True, slots=True)
class Incident:
    """One page of the orders affected within an interval, the last affected first."""

    interval: IncidentInterval
    counts: Mapping[tuple[str, str], int]
    """Number of impacts by (kind, inventory call)."""
    orders: int
    """Orders affected, each counted once."""
    rows: tuple[AffectedOrderRow, ...] = ()

    def count(self, kind: str) -> int:
        return sum(count for (name, _), count in self.counts.items() if name == kind)

    @property
    def is_capped(self) -> bool:
        """Whether more impacts may exist than MAX_WINDOW, the maximum that is counted."""
        return sum(self.counts.values()) >= MAX_WINDOW


class Incidents(Topic):
    """Reads of the incident impact."""

    def of(self, interval: IncidentInterval, page: int = 1) -> Reading[Incident]:
        """The orders affected within an interval."""
        key = ("incident", interval, page)
        return self._access.read(key, TTL_SECONDS, lambda c: _incident(c, interval, max(page, 1)))

    def counted(self, intervals: Sequence[IncidentInterval]) -> Reading[Mapping[IncidentInterval, Incident]]:
        """The numbers of several intervals in one reading, without rows."""
        wanted = tuple(intervals)

        def read(connection: Connection) -> Mapping[IncidentInterval, Incident]:
            return {interval: _counted(connection, interval) for interval in wanted}

        return self._access.read(("incidents", wanted), COUNTED_TTL_SECONDS, read)

    def served(self) -> Reading[Mapping[tuple[str, str], int]]:
        """Number of impacts by (kind, inventory call) within SERVED_WINDOW."""

        def read(connection: Connection) -> Mapping[tuple[str, str], int]:
            return incident_impacts.counts(connection, Window(self._access.now() - SERVED_WINDOW, _END))

        return self._access.read("served", TTL_SECONDS, read)


def _incident(connection: Connection, interval: IncidentInterval, page: int) -> Incident:
    window = interval.window
    found = incident_impacts.page(connection, window, limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE)
    known = {order.order_id: order for order in orders.get_many(connection, [affected.order_id for affected in found])}
    rows = tuple(AffectedOrderRow(affected, known.get(affected.order_id)) for affected in found)
    return replace(_counted(connection, interval), rows=rows)


def _counted(connection: Connection, interval: IncidentInterval) -> Incident:
    window = interval.window
    return Incident(
        interval, incident_impacts.counts(connection, window), incident_impacts.count_orders(connection, window)
    )
