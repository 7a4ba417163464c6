"""Who did what, when, why, and what it changed; written in the transaction of the action itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from state.tables import audit_log

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One manual action."""

    at: datetime
    actor: str
    action: str
    target: str
    """``order:ID``, ``review:ID``, ``release:ID`` or ``dead-letter:ID``."""
    order_id: str | None
    reason: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    result: str
    action_id: str | None


_COLUMNS = [audit_log.c[name] for name in AuditEntry.__dataclass_fields__]


def add(connection: Connection, entry: AuditEntry) -> None:
    """Append; raises IntegrityError when an entry with this action_id exists."""
    connection.execute(insert(audit_log), {name: getattr(entry, name) for name in AuditEntry.__dataclass_fields__})


def find_action(connection: Connection, action_id: str) -> AuditEntry | None:
    row = connection.execute(select(*_COLUMNS).where(audit_log.c.action_id == action_id)).one_or_none()
    return AuditEntry(*row) if row else None


def last_on(connection: Connection, target: str, order_id: str, actions: Sequence[str]) -> AuditEntry | None:
    """The newest of some actions on one target of an order."""
    statement = select(*_COLUMNS).where(
        audit_log.c.order_id == order_id, audit_log.c.target == target, audit_log.c.action.in_(actions)
    )
    row = connection.execute(statement.order_by(audit_log.c.at.desc(), audit_log.c.id.desc()).limit(1)).one_or_none()
    return AuditEntry(*row) if row else None


def page(connection: Connection, *, limit: int = MAX_PAGE) -> list[AuditEntry]:
    """Newest first."""
    statement = select(*_COLUMNS).order_by(audit_log.c.at.desc(), audit_log.c.id.desc())
    return [AuditEntry(*row) for row in connection.execute(statement.limit(min(limit, MAX_PAGE)))]
