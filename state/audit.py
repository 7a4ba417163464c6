"""Audit log: who acted, when, why and with which changes. Also stores the last visits of the hand-over page.

An entry is written in the transaction of its action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from services.base.context import current_correlation_id
from state.engine import rows
from state.engine.keyset import WINDOW, Keyset
from state.engine.rows import Rows
from state.tables import audit_log, console_looks

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One manual action."""

    at: datetime
    actor: str
    action: str
    target: str
    """Target of the action: ``order:ID``, ``review:ID``, ``release:ID``, ``dead-letter:ID``, ``breaker:NAME``, ..."""
    order_id: str | None = None
    reason: str | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    result: str = "done"
    action_id: str | None = None
    correlation_id: str | None = None
    """Id of the command or request that the entry belongs to; default: the id of the current one."""


_ENTRIES = Rows(audit_log, AuditEntry)
_NEWEST = (audit_log.c.at.desc(), audit_log.c.id.desc())


def add(connection: Connection, entry: AuditEntry) -> None:
    """Append; raises IntegrityError when an entry with this action_id exists."""
    _ENTRIES.add(connection, replace(entry, correlation_id=entry.correlation_id or current_correlation_id()))


def find_action(connection: Connection, action_id: str) -> AuditEntry | None:
    return _ENTRIES.one(connection, audit_log.c.action_id == action_id)


def has(connection: Connection, correlation_id: str) -> bool:
    """Whether the audit log has an entry of the command or request."""
    return rows.has_any(connection, audit_log, audit_log.c.correlation_id == correlation_id)


def last_on(connection: Connection, target: str, order_id: str, actions: Sequence[str]) -> AuditEntry | None:
    """The newest entry with one of the actions, on one target of an order."""
    table = audit_log
    wanted = (table.c.order_id == order_id, table.c.target == target, table.c.action.in_(actions))
    return next(iter(_ENTRIES.some(connection, *wanted, order=_NEWEST, limit=1)), None)


def page(connection: Connection, *, limit: int = MAX_PAGE) -> list[AuditEntry]:
    """Entries, newest first."""
    return _ENTRIES.some(connection, order=_NEWEST, limit=min(limit, MAX_PAGE))


KINDS = ("review", "operation", "dead-letter", "outbox-event", "drill", "breaker", "alert", "silence", "sandbox")
"""Kinds of targets that a search finds by the id alone."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Filters of the audit log; an empty filter matches all."""

    actor: str = ""
    action: str = ""
    target: str = ""
    """A whole target or its id, an order's id, or the id of a command or request."""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        return self == AuditFilter()


def listed(connection: Connection, wanted: AuditFilter, window: int = WINDOW) -> Keyset:
    """Rows of ``id`` and AuditEntry, newest first by ``(at, id)``."""
    table = audit_log
    driving: list[ColumnElement[bool]] = []
    if wanted.since:
        driving.append(table.c.at >= wanted.since)
    if wanted.until:
        driving.append(table.c.at < wanted.until)
    equal: dict[str, str] = {}
    if wanted.target:
        name, value = _meant(connection, wanted.target)
        equal[name] = value
    equal |= {name: value for name, value in (("actor", wanted.actor), ("action", wanted.action)) if value}
    # The first condition, the most selective, chooses the index; the others filter its rows.
    first, *others = equal.items() or [("", "")]
    if first[0]:
        driving.append(table.c[first[0]] == first[1])
    residual = (lambda row: [row[name] == value for name, value in others]) if others else None
    return Keyset([table.c.id, *_ENTRIES.columns], (table.c.at, table.c.id), driving, residual, window)


def _meant(connection: Connection, target: str) -> tuple[str, str]:
    """The column and value that a typed id stands for: an order, a command, or a target of some kind."""
    told = [("order_id", target), ("correlation_id", target)]
    if ":" not in target:
        told += [("target", f"{kind}:{target}") for kind in KINDS]
    for name, value in told:
        if rows.has_any(connection, audit_log, audit_log.c[name] == value):
            return name, value
    return "target", target


def actions(connection: Connection) -> list[str]:
    """Every action in the audit log, by name; each action costs one step in the index."""
    return _distinct(connection, "action")


def actors(connection: Connection, limit: int = 200) -> list[str]:
    """All actors of the audit log, by name."""
    return _distinct(connection, "actor", limit)


def _distinct(connection: Connection, name: str, limit: int = 100) -> list[str]:
    # Steps through the index from each value to the next greater one; neither database does this for DISTINCT.
    column, found = audit_log.c[name], [""]
    while len(found) <= limit:
        greater = connection.scalar(select(column).where(column > found[-1]).order_by(column).limit(1))
        if greater is None:
            break
        found.append(greater)
    return found[1:]


def note_visit(connection: Connection, person: str, at: datetime) -> None:
    rows.put(connection, console_looks, {"person": person, "looked_at": at})


def last_visit(connection: Connection, person: str) -> datetime | None:
    return connection.scalar(select(console_looks.c.looked_at).where(console_looks.c.person == person))
