"""Rules of bulk jobs: states of jobs and items, stages, and the next step. Pure.

A bulk job acts on a frozen list of items. It sends 1 item, then 2, 5 and 20 items, then the rest. Each stage begins
when the previous stage is confirmed. The job stops when too many items of a stage fail.
Source: requirements 11.2, 2, 3 and 4; page Releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.domain.orders.changes import CALLED_OFF
from services.domain.orders.lifecycle import TRIES
from services.domain.orders.model import InventoryStatus, Order, OrderStatus
from services.domain.reviews import ReviewAction

MAX_ITEMS = 1000
"""Most items of one bulk job."""

RAMP = (1, 2, 5, 20)
"""Sizes of the stages before the last one, which takes all remaining items."""

MAX_ITEMS_PER_BATCH = 8
"""Most items sent concurrently. Small batches avoid a thundering herd after an outage."""

MAX_IN_FLIGHT = 20
"""Most items that may be sent and unconfirmed at one time."""


class BulkAction(StrEnum):
    """The action of a bulk job on each of its items."""

    RETRY_RELEASE = "retry_release"
    MARK_RELEASED = "mark_released"
    RESOLVE_REVIEW = "resolve_review"
    REPLAY_EVENT = "replay_event"
    DISCARD_EVENT = "discard_event"


class BulkJobState(StrEnum):
    """The state of a bulk job."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """Paused by an actor, who can resume it."""
    STOPPED = "STOPPED"
    """Stopped automatically, because too many items of a stage failed. A resumed job sends one item first."""
    DONE = "DONE"
    """Every item has ended."""
    CANCELLED = "CANCELLED"
    """Cancelled by an actor. Unsent items are never sent."""


class ControlAction(StrEnum):
    """What an actor can do with a bulk job."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


CONTROLS: Mapping[str, tuple[ControlAction, ...]] = {
    BulkJobState.RUNNING: (ControlAction.PAUSE, ControlAction.CANCEL),
    BulkJobState.PAUSED: (ControlAction.RESUME, ControlAction.CANCEL),
    BulkJobState.STOPPED: (ControlAction.RESUME, ControlAction.CANCEL),
}
"""The controls that each state allows."""


class BulkItemState(StrEnum):
    """The state of one item of a bulk job."""

    ASKED = "ASKED"
    """Not sent yet."""
    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    """The action was accepted; its effect is not confirmed yet."""
    CONFIRMED = "CONFIRMED"
    """The Inventory Service confirmed the effect."""
    RECORDED = "RECORDED"
    """Done in this service, for an action that needs no confirmation of the Inventory Service."""
    FAILED = "FAILED"
    UNANSWERED = "UNANSWERED"
    """Sent, but no answer came. The action may have taken effect."""
    SKIPPED = "SKIPPED"
    """Not sent, because the item has changed since the actor saw it."""
    NOT_SENT = "NOT_SENT"
    """The job was cancelled before the item was sent."""


IN_FLIGHT = frozenset({BulkItemState.SENT, BulkItemState.ACCEPTED})
SUCCEEDED = frozenset({BulkItemState.CONFIRMED, BulkItemState.RECORDED})
UNCONFIRMED = frozenset({BulkItemState.FAILED, BulkItemState.UNANSWERED})
ENDED = SUCCEEDED | UNCONFIRMED | {BulkItemState.SKIPPED, BulkItemState.NOT_SENT}

Tally = Mapping[str, int]
"""Number of items by BulkItemState."""


def count(tally: Tally, states: frozenset[BulkItemState]) -> int:
    """Number of items in any of the states."""
    return sum(tally.get(state, 0) for state in states)


class StepKind(StrEnum):
    """The kind of a job's next step."""

    SEND = "send"
    WAIT = "wait"
    ADVANCE = "advance"
    """The stage is confirmed; the next stage begins."""
    STOP = "stop"
    END = "end"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of a job: the number of items to send, or the reason to stop."""

    kind: StepKind
    send: int = 0
    reason: str = ""


THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether inventory calls may be sent: the state of a circuit breaker, or a pause after a 429."""

    state: str = "closed"
    """closed, half_open, open or THROTTLED. An override counts as the state that it sets."""
    retry_in_seconds: float = 0.0
    """Seconds until an open breaker allows a trial call, or until the pause ends."""

    @property
    def budget(self) -> int:
        """Number of calls that may be sent concurrently: one in half_open, none in open and THROTTLED."""
        return {"closed": MAX_ITEMS_PER_BATCH, "half_open": 1}.get(self.state, 0)


def stage_size(stage: int) -> int | None:
    """Number of items of a stage, counted from 0; None for the last stage, which takes all remaining items."""
    return RAMP[stage] if stage < len(RAMP) else None


def tolerated(stage: int, tried: int) -> int:
    """Number of unconfirmed items that a stage tolerates: one in ten, rounded down."""
    size = stage_size(stage)
    return (max(RAMP[-1], tried) if size is None else size) // 10


def next_step(stage: int, waiting: int, in_flight: int, batch: Tally, gate: Gate) -> Step:
    """The next step of a running job.

    ``waiting`` and ``in_flight`` count items of the whole job, ``batch`` counts those of the current stage by state.
    A skipped item does not count in its stage; the stage sends another item instead.
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
    """The name of a stage for messages."""
    size = stage_size(stage)
    return "the last stage" if size is None else f"the stage of {size}"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one item, with its error or remark."""

    state: BulkItemState
    detail: str | None = None
    version: int | None = None
    """Version of the item after this attempt, for an item that is sent again."""


_SETTLED_STOCK = frozenset({InventoryStatus.INVENTORY_CONFIRMED, InventoryStatus.RESTOCK_REQUESTED})
_NOT_SOLD = CALLED_OFF | {OrderStatus.CONFIRMATION_FAILED}


def became(action: str, order: Order) -> ItemResult | None:
    """Return the result of an accepted action on a review case, derived from its order; None if undecided."""
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
    if order.inventory_status in _SETTLED_STOCK and order.status not in _NOT_SOLD:
        return ItemResult(BulkItemState.CONFIRMED)
    if order.status in _NOT_SOLD:
        return ItemResult(BulkItemState.FAILED, f"The order is {order.status}.")
    return None


def _cancelled(order: Order) -> ItemResult | None:
    if order.status != OrderStatus.CANCELLED:
        return None
    match order.inventory_status:
        case InventoryStatus.RELEASED:
            return ItemResult(BulkItemState.CONFIRMED)
        case InventoryStatus.RELEASE_FAILED:
            return ItemResult(
                BulkItemState.FAILED, "The order is cancelled, but its reservation could not be released."
            )
        case InventoryStatus.RESTOCK_REQUESTED:
            return ItemResult(
                BulkItemState.RECORDED, "Restock requested; the Inventory Service does not confirm restocks."
            )
        case InventoryStatus.NONE:
            return ItemResult(BulkItemState.RECORDED, "Nothing was reserved.")
        case _:
            return None
