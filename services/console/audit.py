"""Who did what, when, why, and what it changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Access
from services.console.csv_files import MAX_ROWS, csv_text
from services.console.paging import Paged, paged, time_and_number, walk
from services.console.readings import Reading
from state import audit
from state.audit import AuditEntry, AuditFilter

__all__ = ["Audit", "AuditEntry", "AuditFilter", "AuditPage"]

COUNT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page of actions, newest first."""

    rows: Paged[tuple[int, AuditEntry]]
    count: int
    is_count_capped: bool


class Audit:
    """The topic of the Audit page."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def page(self, wanted: AuditFilter, *, before: str | None = None, after: str | None = None) -> Reading[AuditPage]:
        """The page of actions older than ``before``, or newer than ``after``, or the newest."""

        def query(connection: Connection) -> AuditPage:
            found = paged(
                lambda limit, *, before, after: audit.search(
                    connection, wanted, limit=limit, before=before, after=after
                ),
                lambda row: (row.id, _entry(row)),
                _key,
                time_and_number,
                before,
                after,
            )
            return AuditPage(found, *audit.count_up_to(connection, wanted, COUNT_LIMIT))

        return self._access.read(("audit", wanted, before, after), LIVE_TTL, query)

    def people_and_actions(self) -> Reading[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Everybody who ever acted, and every action that was ever taken."""
        return self._access.read("audit_words", 10.0, lambda c: (tuple(audit.actors(c)), tuple(audit.actions(c))))

    def csv(self, wanted: AuditFilter) -> str:
        """The filtered actions, newest first, at most MAX_ROWS; raises SourceUnavailable."""

        def query(connection: Connection) -> list[AuditEntry]:
            rows = walk(
                lambda limit, *, before, after: audit.search(
                    connection, wanted, limit=limit, before=before, after=after
                ),
                _key,
                MAX_ROWS,
            )
            return [_entry(row) for row in rows]

        header = ("at", "actor", "action", "target", "orderId", "reason", "before", "after", "result", "correlationId")
        rows = (
            (e.at, e.actor, e.action, e.target, e.order_id, e.reason, e.before, e.after, e.result, e.correlation_id)
            for e in self._access.ask(query)
        )
        return csv_text(header, rows)


def _key(row: Any) -> tuple[Any, ...]:
    return row.at, row.id


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(*tuple(row)[1:])
