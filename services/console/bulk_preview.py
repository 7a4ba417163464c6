"""The preview of a bulk operation with the other side's view: one stored question, and what came of it.

Reached as ``console().previews``. Source: console, "what none of them has" 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, LOOK_UP_INVENTORY_MANY, Access
from services.console.bulk import BulkRequest, BulkTarget
from services.console.cache import Reading
from services.domain.bulk_preview import MAX_ASKED, Agreement, ComparedItem, FrozenSelection, compare, freeze, summary
from services.domain.reconciliation import OFFERED, is_fresh
from state import commands, inventory_lookups, orders
from state.commands import Command

__all__ = [
    "MAX_ASKED", "Agreement", "ComparedItem", "FrozenSelection", "PreviewComparison", "Previews", "freeze", "narrowed",
    "summary",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class PreviewComparison:
    """The items of a preview beside what the Inventory Service says of them."""

    items: Mapping[str, ComparedItem]
    """By item id, those beyond the first MAX_ASKED orders included."""
    question: Command | None
    """The command that asks; None when nothing had to be asked."""

    @property
    def is_asking(self) -> bool:
        return self.question is not None and self.question.is_unfinished


class Previews:
    """Asks through a stored command, and reads the answers that are kept."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def ask(self, bulk: BulkRequest, *, actor: str, command_id: str) -> Command | None:
        """Have a worker ask about the first MAX_ASKED orders; None when every answer of a moment ago still counts.

        Raises SourceUnavailable or NotPermitted, and then nothing was stored.
        """
        ids, now = _first_orders(bulk), self._access.now()
        wanted = self._access.read_now(lambda c: inventory_lookups.not_fresh(c, ids, now))
        if not wanted:
            return None
        arguments = {"orderIds": wanted}
        return self._access.store_command(
            LOOK_UP_INVENTORY_MANY, command_id, arguments, actor=actor, command_id=command_id
        )

    def compared(self, bulk: BulkRequest, command_id: str) -> Reading[PreviewComparison]:
        """Every item as it stands between both sides now; ``command_id`` is that of the question."""
        now = self._access.now()
        return self._access.read(("preview", command_id), LIVE_TTL, lambda c: _compared(c, bulk, command_id, now))


def narrowed(bulk: BulkRequest, frozen: FrozenSelection) -> BulkRequest:
    """The operation without what is left out."""
    fit = tuple(target for target in bulk.targets if target.item_id not in frozen.left_out)
    left = tuple(target for target in bulk.targets if target.item_id in frozen.left_out)
    return replace(bulk, targets=fit, left_out=left)


def _first_orders(bulk: BulkRequest) -> list[str]:
    return list(dict.fromkeys(target.order_id for target in bulk.targets))[:MAX_ASKED]


def _compared(connection: Connection, bulk: BulkRequest, command_id: str, now: datetime) -> PreviewComparison:
    ids = _first_orders(bulk)
    answers = inventory_lookups.of_orders(connection, ids)
    owners = {order.order_id: order for order in orders.get_many(connection, ids)}

    def one(target: BulkTarget) -> ComparedItem:
        order = owners.get(target.order_id)
        if order is None:
            return ComparedItem(Agreement.LATER if target.order_id not in ids else Agreement.UNANSWERED)
        answer = answers.get(target.order_id)
        counts = answer is not None and is_fresh(answer.asked_at, now, order.updated_at, OFFERED)
        said = answer.result if answer is not None and counts else None
        return compare(bulk.bulk_action, bulk.action, target.cause, order.status, said)

    items = {target.item_id: one(target) for target in bulk.targets}
    return PreviewComparison(items, commands.get(connection, command_id))
