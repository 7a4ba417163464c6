"""Bulk operations as pure rules: the ledger of each item, and when the next items may go.

An operation acts on a frozen list of things. It begins with one of them, goes on to 2, 5 and 20 and then
to the rest, each stage only after the one before was confirmed, and stops itself when too many fail.
Source: console, "what none of them has" 2, 3 and 4; page Releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.domain.orders.failed_steps import TRIES
from services.domain.orders.model import InventoryStatus, Order, OrderStatus
from services.domain.reviews import ReviewAction

MAX_ITEMS = 1000
"""Things that one operation may act on."""

RAMP = (1, 2, 5, 20)
"""Sizes of the stages before the rest."""

MAX_ITEMS_PER_BATCH = 8
"""Items sent together. Small batches avoid a thundering herd after an outage."""

MAX_IN_FLIGHT = 20
"""Items that may wait for their confirmation at one time."""


class BulkAction(StrEnum):
    """What an operation does to each of its items."""

    RETRY_RELEASE = "retry_release"
    MARK_RELEASED = "mark_released"
    RESOLVE_REVIEW = "resolve_review"
    REPLAY_EVENT = "replay_event"
    DISCARD_EVENT = "discard_event"


class BulkJobState(StrEnum):
    """Where an operation stands."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """By a person, who may let it go on."""
    STOPPED = "STOPPED"
    """By itself: too much of a stage was not confirmed. A person may let it go on, from one item again."""
    DONE = "DONE"
    """Every item has its end."""
    CANCELLED = "CANCELLED"
    """By a person: what had not been sent never will be."""


class ControlAction(StrEnum):
    """A move of a person."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


CONTROLS: Mapping[str, tuple[ControlAction, ...]] = {
    BulkJobState.RUNNING: (ControlAction.PAUSE, ControlAction.CANCEL),
    BulkJobState.PAUSED: (ControlAction.RESUME, ControlAction.CANCEL),
    BulkJobState.STOPPED: (ControlAction.RESUME, ControlAction.CANCEL),
}
"""What each state lets a person do."""


class BulkItemState(StrEnum):
    """An item's place in the ledger."""

    ASKED = "ASKED"
    """Not sent yet."""
    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    """Taken on; what follows from it is not confirmed yet."""
    CONFIRMED = "CONFIRMED"
    """The other side says that it is done."""
    RECORDED = "RECORDED"
    """Done here; there is nothing that the other side would confirm."""
    FAILED = "FAILED"
    UNANSWERED = "UNANSWERED"
    """Sent, and no answer came: it may have had its effect."""
    SKIPPED = "SKIPPED"
    """Not sent: it is no longer what the person saw."""
    NOT_SENT = "NOT_SENT"
    """The operation was cancelled before its turn."""


IN_FLIGHT = frozenset({BulkItemState.SENT, BulkItemState.ACCEPTED})
SUCCEEDED = frozenset({BulkItemState.CONFIRMED, BulkItemState.RECORDED})
UNCONFIRMED = frozenset({BulkItemState.FAILED, BulkItemState.UNANSWERED})
ENDED = SUCCEEDED | UNCONFIRMED | {BulkItemState.SKIPPED, BulkItemState.NOT_SENT}

Tally = Mapping[str, int]
"""Items per ItemState."""


def count(tally: Tally, states: frozenset[BulkItemState]) -> int:
    """Items in any of the states."""
    return sum(tally.get(state, 0) for state in states)


class StepKind(StrEnum):
    """What an operation does next."""

    SEND = "send"
    WAIT = "wait"
    ADVANCE = "advance"
    """The stage is confirmed: the next one begins."""
    STOP = "stop"
    END = "end"


@dataclass(frozen=True, slots=True)
class Step:
    """The next move, with how many items to send or why to stop."""

    kind: StepKind
    send: int = 0
    reason: str = ""


THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Gate:
    """What the circuit breaker before the other service, and that service itself, let through."""

    state: str = "closed"
    """closed, half_open or open; a forced state counts as what it does. THROTTLED: the service asked for a rest."""
    retry_in_seconds: float = 0.0
    """Until an open breaker lets a trial through, or the rest ends."""

    @property
    def budget(self) -> int:
        """Calls that may be sent together: one while the breaker tries, none while it is open."""
        return {"closed": MAX_ITEMS_PER_BATCH, "half_open": 1}.get(self.state, 0)


def stage_size(stage: int) -> int | None:
    """Items of a stage, counted from 0; None: all that are left."""
    return RAMP[stage] if stage < len(RAMP) else None


def tolerated(stage: int, tried: int) -> int:
    """How many of a stage may stay unconfirmed without stopping the operation: one in ten, rounded down."""
    size = stage_size(stage)
    return (max(RAMP[-1], tried) if size is None else size) // 10


def next_step(stage: int, waiting: int, in_flight: int, batch: Tally, gate: Gate) -> Step:
    """Decide how a running operation goes on.

    ``waiting`` and ``in_flight`` count the whole operation, ``batch`` the items of its present stage.
    A skipped item was never tried: another one takes its place in the stage.
    """
    if waiting == 0:
        return Step(StepKind.WAIT if in_flight else StepKind.END)
    tried = count(batch, IN_FLIGHT | SUCCEEDED | UNCONFIRMED)
    bad = count(batch, UNCONFIRMED)
    if bad > tolerated(stage, tried):
        return Step(StepKind.STOP, reason=f"{bad} of {tried} in {stage_name(stage)} not confirmed")
    size = stage_size(stage)
    if size is not None and tried >= size:
        return Step(StepKind.WAIT if in_flight else StepKind.ADVANCE)
    room = MAX_IN_FLIGHT - in_flight if size is None else size - tried
    send = min(waiting, room, MAX_ITEMS_PER_BATCH, max(gate.budget - count(batch, frozenset({BulkItemState.SENT})), 0))
    return Step(StepKind.SEND, send) if send > 0 else Step(StepKind.WAIT)


def stage_name(stage: int) -> str:
    """A stage in words."""
    size = stage_size(stage)
    return "the last stage" if size is None else f"the stage of {size}"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How an item stands after it was sent, with the error or remark that goes with it."""

    state: BulkItemState
    detail: str | None = None
    version: int | None = None
    """Of an item that waits for another turn: the version that its own attempt left it at."""


_SETTLED_STOCK = frozenset({InventoryStatus.INVENTORY_CONFIRMED, InventoryStatus.RESTOCK_REQUESTED})
_CALLED_OFF = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.CONFIRMATION_FAILED})


def became(action: str, order: Order) -> ItemResult | None:
    """How an accepted action on a review case ended, as far as its order tells; None: not yet."""
    if action == ReviewAction.CANCEL_ORDER:
        return _cancelled(order)
    if action in (ReviewAction.RECONFIRM, ReviewAction.RETRY_RESERVATION):
        return _confirmed(order)
    if action == ReviewAction.RETRY_STEP:
        return _got_on(order)
    return ItemResult(BulkItemState.RECORDED)


def _got_on(order: Order) -> ItemResult | None:
    if order.step_failures == 0:
        return ItemResult(BulkItemState.RECORDED, "The order has got on.")
    return (
        ItemResult(BulkItemState.FAILED, f"It failed again: {order.step_error}")
        if order.step_failures >= TRIES
        else None
    )


def _confirmed(order: Order) -> ItemResult | None:
    if order.inventory_status in _SETTLED_STOCK and order.status not in _CALLED_OFF:
        return ItemResult(BulkItemState.CONFIRMED)
    if order.status in _CALLED_OFF:
        return ItemResult(BulkItemState.FAILED, f"The order is {order.status}.")
    return None


def _cancelled(order: Order) -> ItemResult | None:
    if order.status != OrderStatus.CANCELLED:
        return None
    match order.inventory_status:
        case InventoryStatus.RELEASED:
            return ItemResult(BulkItemState.CONFIRMED)
        case InventoryStatus.RELEASE_FAILED:
            return ItemResult(BulkItemState.FAILED, "The order is cancelled, but its hold could not be released.")
        case InventoryStatus.RESTOCK_REQUESTED:
            return ItemResult(
                BulkItemState.RECORDED, "Restock requested; the Inventory Service does not confirm restocks."
            )
        case InventoryStatus.NONE:
            return ItemResult(BulkItemState.RECORDED, "Nothing was held.")
        case _:
            return None
