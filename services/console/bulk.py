"""Bulk operations as the pages see them: what is frozen when a person looks, what is stored when they commit.

Nothing is executed here: storing an operation stores its items, and a worker carries it on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.console.access import LIVE_TTL, STEER_OPERATION, Access, Command
from services.console.cache import Reading
from services.console.csv_files import csv_text
from services.console.texts import storable_text
from services.domain.bulk import MAX_ITEMS, STEERABLE, ItemState, OperationState, Steer, Verb, stage_name
from state import audit, bulk_jobs, dead_letters, releases, reviews
from state.audit import AuditEntry
from state.bulk_jobs import Item, Operation

__all__ = [
    "IRREVERSIBLE", "MAX_ITEMS", "PAGE_SIZE", "STEERABLE", "Bulk", "Commit", "Item", "ItemState", "Ledger", "Operation",
    "OperationState", "Operations", "Shown", "Steer", "Target", "Verb", "stage_name",
]  # fmt: skip

_CSV_COLUMNS = (
    "item_id", "order_id", "version", "seen_state", "state", "sent_at", "accepted_at", "settled_at", "detail",
)  # fmt: skip
PAGE_SIZE = 20
PAST = 8
"""Operations that have ended, as shown on a page."""

IRREVERSIBLE = ("CANCEL_ORDER", "MARK_RELEASED", "APPROVE", Verb.MARK_RELEASED, Verb.DISCARD_EVENT)
"""Verbs and review actions whose count is typed when they act on several things."""

_VERSIONS = {
    Verb.RETRY_RELEASE: releases.versions,
    Verb.MARK_RELEASED: releases.versions,
    Verb.RESOLVE_REVIEW: reviews.versions,
    Verb.REPLAY_EVENT: dead_letters.versions,
    Verb.DISCARD_EVENT: dead_letters.versions,
}
"""Version and state of the things that a verb acts on, as they are now."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing as the person saw it."""

    item_id: str
    order_id: str
    """Empty of an event that names no order."""
    version: int
    state: str
    cause: str
    note: str = ""
    """What else the preview says of it."""
    claimed_by: str | None = None
    """Who works on it."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a person is about to ask for, frozen when its dialog opens."""

    verb: str
    action: str | None
    targets: tuple[Target, ...]
    seen_at: datetime
    filter: str
    """What was matched or picked, in words."""
    matching: Callable[[Any], Sequence[str]] | None = None
    """For "all matching": the ids that match by now; None for things picked one by one."""
    left_out: tuple[Target, ...] = ()
    """Shown, and not acted on: what the other side says makes the action wrong for them."""

    @property
    def has_reconciliation(self) -> bool:
        """Whether the Inventory Service can say anything about it; events are our own affair."""
        return self.verb not in (Verb.REPLAY_EVENT, Verb.DISCARD_EVENT)

    @property
    def is_irreversible(self) -> bool:
        return self.verb in IRREVERSIBLE or self.action in IRREVERSIBLE


@dataclass(frozen=True, slots=True)
class Commit:
    """What was stored, and what had changed between looking and committing."""

    operation: Operation
    changed: int
    """Items that are skipped because they are no longer what was seen."""

    @property
    def sentence(self) -> str | None:
        """The drift in words; None without any."""
        parts = []
        if self.changed:
            are = "is" if self.changed == 1 else "are"
            parts.append(f"{self.changed} of {self.operation.total} changed since and {are} skipped")
        if self.operation.unseen:
            verb = "matches" if self.operation.unseen == 1 else "match"
            parts.append(f"{self.operation.unseen} new {verb}, not included")
        return "; ".join(parts) or None


@dataclass(frozen=True, slots=True)
class Shown:
    """Operations of a page: those that have not ended, oldest first, and the latest that have."""

    unended: tuple[Operation, ...]
    past: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """One page of an operation's items."""

    operation: Operation
    items: tuple[Item, ...]
    has_more: bool


class Operations:
    """The facade's part for bulk operations; reached as ``console().operations``."""

    def __init__(self, access: Access) -> None:
        self._access = access

    # -- reading -------------------------------------------------------------------------------

    def shown(self, verbs: Sequence[str] | None = None) -> Reading[Shown]:
        """Operations with one of the verbs, or all."""
        key = ("operations", tuple(verbs) if verbs else None)
        return self._access.read(key, LIVE_TTL, lambda c: _shown(c, verbs))

    def ledger(self, operation_id: str, *, states: Sequence[str] = (), page: int = 1) -> Reading[Ledger]:
        """Items of one operation; no value although there is an as_of means that it does not exist."""
        key = ("ledger", operation_id, tuple(states), page)
        return self._access.read(key, LIVE_TTL, lambda c: _ledger(c, operation_id, states, page))

    def csv(self, operation_id: str) -> str:
        """Every item of an operation as CSV; raises SourceUnavailable."""
        found = self._access.read_now(lambda c: bulk_jobs.item_page(c, operation_id, limit=MAX_ITEMS))
        return csv_text(_CSV_COLUMNS, [[getattr(item, name) for name in _CSV_COLUMNS] for item in found])

    # -- writing -------------------------------------------------------------------------------

    def start(self, bulk: Bulk, reason: str, *, actor: str, operation_id: str) -> Commit:
        """Store the operation; the same operation_id again stores nothing.

        What is no longer at the version seen is stored as skipped, and what matches by now without having
        been shown is counted, not included. Raises ValueError without targets, above MAX_ITEMS, or without
        a reason where one is needed, and SourceUnavailable; then nothing was stored.
        """
        if not 0 < len(bulk.targets) <= MAX_ITEMS:
            raise ValueError(f"an operation acts on 1 to {MAX_ITEMS} things, not {len(bulk.targets)}")
        if bulk.is_irreversible and not reason.strip():
            raise ValueError("what cannot be undone needs a reason")
        at = self._access.now()
        why = storable_text(reason.strip()) or None
        return self._access.write(actor, lambda c: _store(c, bulk, why, actor, operation_id, at))

    def steer(self, operation_id: str, move: str, *, actor: str, command_id: str) -> Command:
        """Pause or resume a bulk operation, or cancel its remaining items."""
        return self._access.store_command(
            STEER_OPERATION, operation_id, {"move": move}, actor=actor, command_id=command_id
        )


def _shown(connection: Any, verbs: Sequence[str] | None) -> Shown:
    wanted = set(verbs or tuple(Verb))
    unended = tuple(one for one in bulk_jobs.unended(connection) if one.verb in wanted)
    latest = bulk_jobs.page(connection, verbs=verbs, limit=PAST + len(unended))
    return Shown(unended, tuple(one for one in latest if one.ended_at is not None)[:PAST])


def _ledger(connection: Any, operation_id: str, states: Sequence[str], page: int) -> Ledger | None:
    operation = bulk_jobs.get(connection, operation_id)
    if operation is None:
        return None
    offset = (max(page, 1) - 1) * PAGE_SIZE
    found = bulk_jobs.item_page(connection, operation_id, states=states, limit=PAGE_SIZE + 1, offset=offset)
    return Ledger(operation, tuple(found[:PAGE_SIZE]), len(found) > PAGE_SIZE)


def _store(connection: Any, bulk: Bulk, reason: str | None, actor: str, operation_id: str, at: datetime) -> Commit:
    ids = [target.item_id for target in bulk.targets]
    now = _VERSIONS[Verb(bulk.verb)](connection, ids)
    items = [_item(operation_id, place, target, now, at) for place, target in enumerate(bulk.targets)]
    # orjson takes plain strings for keys only.
    tally = dict(Counter(str(ItemState(item.state).value) for item in items))
    shown = {*ids, *(target.item_id for target in bulk.left_out)}
    unseen = len(set(bulk.matching(connection)) - shown) if bulk.matching else 0
    operation = Operation(
        operation_id=operation_id,
        verb=bulk.verb,
        action=bulk.action,
        actor=actor,
        reason=reason,
        filter=storable_text(_said(bulk)),
        causes=sorted({storable_text(target.cause) for target in bulk.targets}),
        total=len(items),
        unseen=unseen,
        seen_at=bulk.seen_at,
        created_at=at,
        tally=tally,
    )
    if not bulk_jobs.add(connection, operation, items):
        return Commit(bulk_jobs.get(connection, operation_id) or operation, tally.get(ItemState.SKIPPED, 0))
    audit.add(connection, _audit(operation, bulk))
    return Commit(operation, tally.get(ItemState.SKIPPED, 0))


def _said(bulk: Bulk) -> str:
    number = len(bulk.left_out)
    return f"{bulk.filter}; {number} left out, their side differs" if number else bulk.filter


def _item(operation_id: str, place: int, target: Target, now: dict[str, tuple[int, str]], at: datetime) -> Item:
    version, state = now.get(target.item_id, (None, "gone"))
    item = Item(operation_id, target.item_id, target.order_id, place, target.version, target.state)
    # A dead letter's version, its attempts, stays as it is when the dead letter is settled.
    if (version, state) == (target.version, target.state):
        return item
    detail = f"Changed between looking and committing: it is {state} at version {version}."
    seen = (operation_id, target.item_id, target.order_id, place, target.version, target.state)
    return Item(*seen, state=ItemState.SKIPPED, settled_at=at, detail=detail)


def _audit(operation: Operation, bulk: Bulk) -> AuditEntry:
    what = operation.action or operation.verb
    return AuditEntry(
        at=operation.created_at,
        actor=operation.actor,
        action=f"BULK_{what.upper()}"[:40],
        target=f"operation:{operation.operation_id}",
        order_id=None,
        reason=operation.reason,
        before={"filter": storable_text(bulk.filter), "shown": operation.total + len(bulk.left_out)}
        | ({"leftOut": [target.item_id for target in bulk.left_out]} if bulk.left_out else {}),
        after={"asked": operation.tally.get(ItemState.ASKED, 0), "skipped": operation.tally.get(ItemState.SKIPPED, 0)},
        result="started",
        action_id=operation.operation_id,
    )
