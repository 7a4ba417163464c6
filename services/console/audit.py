"""The audit log on the console: pages of actions, values for the filters, and a CSV file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Topic
from services.console.cache import Reading
from services.console.paging import MAX_ROWS, NEWEST, Paged, Place, csv_text, paged, walk
from state import audit
from state.audit import AuditEntry, AuditFilter

COUNT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page of actions, newest first."""

    rows: Paged[tuple[int, AuditEntry]]
    count: int
    is_count_capped: bool


class Audit(Topic):
    """The topic of the Audit page."""

    def page(self, wanted: AuditFilter, place: Place = NEWEST) -> Reading[AuditPage]:
        """The page of actions at a place."""

        def query(connection: Connection) -> AuditPage:
            listed = audit.listed(connection, wanted)
            found = paged(connection, listed, lambda row: (row.id, _entry(row)), place)
            return AuditPage(found, *listed.count(connection, COUNT_LIMIT))

        return self._access.read(("audit", wanted, place), LIVE_TTL, query)

    def people_and_actions(self) -> Reading[tuple[tuple[str, ...], tuple[str, ...]]]:
        """All actors and all kinds of action in the log."""
        return self._access.read("audit_words", 10.0, lambda c: (tuple(audit.actors(c)), tuple(audit.actions(c))))

    def csv(self, wanted: AuditFilter) -> str:
        """The matching actions, newest first, at most MAX_ROWS. Raises SourceUnavailable."""

        def query(connection: Connection) -> list[AuditEntry]:
            return [_entry(row) for row in walk(connection, audit.listed(connection, wanted), MAX_ROWS)]

        header = ("at", "actor", "action", "target", "orderId", "reason", "before", "after", "result", "correlationId")
        rows = (
            (e.at, e.actor, e.action, e.target, e.order_id, e.reason, e.before, e.after, e.result, e.correlation_id)
            for e in self._access.read_now(query)
        )
        return csv_text(header, rows)


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(*tuple(row)[1:])
