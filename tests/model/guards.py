"""Every guard of the design as a switch, with the smallest set of circumstances in which it is needed.

A guard is either a rule of the other services or of the tables (a switch of the model), or code of
the product (switched off by a patch). Where two guards stand behind each other, the second one is
shown in a world without the first, which is in itself a sound one: BASES says which, and each is
searched with all its guards on as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from services.clients.payments import PaymentState
from services.domain.calls import Attempted
from services.domain.errors import ApiError, InsufficientInventory, PaymentDeclined, ReservationFailed
from services.domain.orders import ending, lifecycle
from services.domain.orders.changes import Change
from services.domain.orders.model import Order, OrderStatus
from services.messaging.envelope import IncomingEvent
from services.orders import inventory_events, placement
from services.orders.fulfilment import OrderFulfilment
from services.orders.sweeper import OrderSweeper
from services.releases import jobs
from tests.model.neighbours import StockRules
from tests.model.rows import START
from tests.model.runs import Attempts
from tests.model.world import (
    CRASH,
    DEAD_EVENT,
    DECLINE,
    DUPLICATE,
    GARBLED,
    LATE,
    LOST,
    PAUSE,
    RIVAL,
    RIVAL_GIVES_BACK,
    SLOW_EVENT,
    TIME,
    UNANSWERED,
    Bounds,
)

Patch = Callable[[pytest.MonkeyPatch], None]


def _nothing(_: pytest.MonkeyPatch) -> None:
    """The product as it is."""


@dataclass(frozen=True)
class Guard:
    """One rule that can be switched off, and where its absence shows."""

    base: str
    """Which of BASES; the guard is off in ``off`` and on in the base."""
    off: Callable[[Bounds], Bounds] = lambda bounds: bounds
    patch: Patch = _nothing


def _bounds(*kinds: str, faults: int = 1, cancels: int = 0, operators: int = 0, **more: Any) -> Bounds:
    return Bounds(faults=faults, kinds=frozenset(kinds), cancels=cancels, operators=operators, **more)


NO_TOMBSTONES = StockRules(tombstones=False)

BASES: dict[str, Bounds] = {
    "calls": _bounds(LOST, UNANSWERED, LATE, GARBLED, CRASH, RIVAL, DECLINE, attempts=Attempts(reserve=2), faults=2),
    "cancels": _bounds(LOST, UNANSWERED, LATE, CRASH, DECLINE, cancels=1),
    "holds": _bounds(TIME, RIVAL, LATE, CRASH, faults=3),
    "sold out and back": _bounds(LATE, RIVAL, RIVAL_GIVES_BACK, faults=3, attempts=Attempts(reserve=2)),
    "slow runs": _bounds(PAUSE, cancels=1),
    "slow charges": _bounds(PAUSE, faults=2, cancels=1, runs=2),
    "events": _bounds(DUPLICATE, SLOW_EVENT, TIME, cancels=1, operators=1),
    "dead letters": _bounds(DEAD_EVENT, CRASH, cancels=1, faults=2),
    "a second reservation": _bounds(DUPLICATE, SLOW_EVENT, TIME, faults=2, operators=1),
    "a request that comes again": _bounds(LOST, UNANSWERED, LATE, CRASH, DECLINE, faults=2, repeats=1),
    "returns": _bounds(DUPLICATE, cancels=1, returns=1),
    "operators": _bounds(TIME, operators=2),
    "holds, with a gateway that cannot void": _bounds(TIME, RIVAL, LATE, CRASH, faults=3, gateway_can_void=False),
    "cancels, with a gateway that cannot void": _bounds(
        LOST, UNANSWERED, LATE, CRASH, cancels=1, gateway_can_void=False
    ),
    "slow charges, with a gateway that cannot void": _bounds(
        PAUSE, faults=3, cancels=1, runs=2, gateway_can_void=False
    ),
    "a shop with more than one unit": _bounds(UNANSWERED, LATE, CRASH, cancels=1, units=2),
    "a shop without tombstones": _bounds(TIME, cancels=1, operators=1, stock=NO_TOMBSTONES),
    "a shop without returnIds": _bounds(
        DUPLICATE, returns=1, stock=StockRules(returns_once=False, returns_are_capped=False)
    ),
    "a shop without inbox": _bounds(DUPLICATE, cancels=1, returns=1, stock=StockRules(inbox=False)),
    "a shop without inbox and cap": _bounds(
        DUPLICATE, returns=1, stock=StockRules(inbox=False, returns_are_capped=False)
    ),
    "a gateway that knows no keys": _bounds(UNANSWERED, CRASH, gateway_knows_the_key=False),
    "events believed for any reservation": _bounds(DUPLICATE, TIME, faults=2, operators=1),
}
"""Sound worlds: with every guard that is on in them, nothing goes wrong."""


# ------------------------------------------------------------------ switches


def _stock(**rules: bool) -> Callable[[Bounds], Bounds]:
    return lambda bounds: replace(bounds, stock=replace(bounds.stock, **rules))


def _rows(**rules: bool) -> Callable[[Bounds], Bounds]:
    return lambda bounds: replace(bounds, rows=replace(bounds.rows, **rules))


# ------------------------------------------------------------------- patches


def _for_any_reservation(patch: pytest.MonkeyPatch) -> None:
    """Events count for the order whatever reservation they name."""
    real = inventory_events._is_awaited

    def is_awaited(order: Order, event: IncomingEvent) -> bool:
        return real(order, replace(event, data=event.data | {"reservationId": order.reservation_id}))

    patch.setattr(inventory_events, "_is_awaited", is_awaited)


def _in_any_status(patch: pytest.MonkeyPatch) -> None:
    """Events are applied wherever the order stands."""
    real = inventory_events._is_awaited
    patch.setattr(
        inventory_events, "_is_awaited", lambda order, event: real(replace(order, status=OrderStatus.PLACED), event)
    )
    for kind, decide in inventory_events._ORDER_DECISIONS.items():
        patch.setitem(inventory_events._ORDER_DECISIONS, kind, _believing_the_status(decide))


def _believing_the_status(decide: Callable[..., Change]) -> Callable[..., Change]:
    def decision(order: Order, event: IncomingEvent, at: datetime) -> Change:
        return decide(replace(order, status=OrderStatus.PLACED), event, at)

    return decision


def _changed(name: str, change_of: Callable[[Order, Change], Change]) -> Patch:
    """A step of the life cycle whose Change is spoilt."""

    def patch_it(patch: pytest.MonkeyPatch) -> None:
        module = lifecycle if hasattr(lifecycle, name) else ending
        real = getattr(module, name)
        patch.setattr(module, name, lambda order, *given, **named: change_of(order, real(order, *given, **named)))

    return patch_it


def _without_release(order: Order, change: Change) -> Change:
    return replace(change, release_because=None)


def _without_release_of_the_unseen(order: Order, change: Change) -> Change:
    return change if order.reservation_id else replace(change, release_because=None)


def _without_due(order: Order, change: Change) -> Change:
    return replace(change, values=change.values | {"due_at": None})


def _without_events(order: Order, change: Change) -> Change:
    return replace(change, events=())


def _without_doubt(order: Order, change: Change) -> Change:
    """The payment's outcome is taken for known."""
    return replace(change, values=change.values | {"payment_status": order.payment_status})


def _no_release_after(*errors: type[ApiError]) -> Patch:
    def patch_it(patch: pytest.MonkeyPatch) -> None:
        real = lifecycle.reject

        def reject(order: Order, error: ApiError, at: datetime, *, release: bool = False) -> Change:
            return real(order, error, at, release=release and not isinstance(error, errors))

        patch.setattr(lifecycle, "reject", reject)

    return patch_it


def _no_refund_of_the_unseen(patch: pytest.MonkeyPatch) -> None:
    """Only a payment that was seen captured is refunded."""
    real = ending.cancel_while_paying

    def cancel_while_paying(order: Order, reason: str, at: datetime, *, money: bool | None) -> Change:
        return real(order, reason, at, money=bool(money))

    patch.setattr(ending, "cancel_while_paying", cancel_while_paying)


def _refund_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ending, "LATE_CAPTURE", timedelta(0))


def _cancel_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    """A cancel while PAYING ends the order at once, as it does before."""
    real = ending.cancel

    def cancel(order: Order, reason: str, at: datetime) -> Change:
        if order.status == OrderStatus.PAYING:
            return ending._cancel_unpaid(order, reason, at)
        return real(order, reason, at)

    patch.setattr(ending, "cancel", cancel)


async def _do_nothing(*_: Any, **__: Any) -> None:
    """What a guard that is gone does."""


def _without_method(owner: type, name: str) -> Patch:
    return lambda patch: patch.setattr(owner, name, _do_nothing)


async def _charge_without_asking(self: OrderFulfilment, order: Order) -> Order:
    return await self._pay(order, ())


def _forget_the_cancel(patch: pytest.MonkeyPatch) -> None:
    """A payment's outcome is recorded as if no cancel had been asked for."""
    real = OrderFulfilment._payment_known

    async def known(self: OrderFulfilment, order: Order, state: Any, attempts: Any) -> Order:
        return await real(self, replace(order, cancel_reason=None), state, attempts)

    patch.setattr(OrderFulfilment, "_payment_known", known)


def _believe_an_old_refusal(patch: pytest.MonkeyPatch) -> None:
    """That there was nothing to refund is recorded whatever has happened since."""

    async def record(self: OrderSweeper, order: Order, *_: Any) -> None:
        await self._record_refund(order, ending.refunded(START, was_charged=False), ())

    patch.setattr(OrderSweeper, "_record_nothing_to_refund", record)


def _refund_without_fence(patch: pytest.MonkeyPatch) -> None:
    """That there was nothing to refund is taken to mean that there never will be."""

    async def give_back(self: OrderSweeper, order_id: str) -> Attempted[PaymentState]:
        state, attempts = await self.payments.refund(order_id)
        return PaymentState.VOIDED if state == PaymentState.ABSENT else state, attempts

    patch.setattr(OrderSweeper, "_give_back", give_back)


def _give_up_after_a_failed_release(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(jobs.ReleaseJobs, "_failed", lambda _, job, *__: jobs._released("not released", job))


def _reservation_lasts_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lifecycle, "reservation_lasts", lambda *_: True)


def _never_ask_again(patch: pytest.MonkeyPatch) -> None:
    """A placed order is not looked at any more, whatever becomes of its events."""
    real = lifecycle.place

    def place(*given: Any) -> Change:
        return replace(change := real(*given), values=change.values | {"due_at": None})

    patch.setattr(lifecycle, "place", place)


def _refund_is_taken_for_made(patch: pytest.MonkeyPatch) -> None:
    """A refund without an answer counts as made."""
    patch.setattr(ending, "refund_later", lambda order, due_at: ending.refunded(due_at, was_charged=True))


def _try_any_refusal_again(patch: pytest.MonkeyPatch) -> None:
    """A refused order is tried again whatever it was refused for, whatever it has reserved and released."""
    patch.setattr(lifecycle, "may_try_again", lambda order: order.status == OrderStatus.REJECTED)
    patch.setattr(placement, "releases", SimpleNamespace(get=lambda *_: None))


PATCHED_BASES: dict[str, Patch] = {"events believed for any reservation": _for_any_reservation}
"""Bases in which a guard of the product is off, so that the one behind it is needed."""

GUARDS: dict[str, Guard] = {
    # ------------------------------------------------- the Inventory Service
    "reserve holds only what is available": Guard("calls", _stock(reserves_only_what_is_available=False)),
    "reserve is idempotent by order": Guard("a shop with more than one unit", _stock(reserve_is_idempotent=False)),
    "confirm only ACTIVE holds": Guard("events", _stock(confirms_only_active=False)),
    "confirm only holds that are not over": Guard("holds", _stock(confirms_only_unexpired=False)),
    "one deduction per reservation": Guard("a shop without inbox", _stock(deducts_once=False)),
    "a release leaves a tombstone": Guard("cancels", _stock(tombstones=False)),
    "order.cancelled restocks what was deducted": Guard("cancels", _stock(cancel_restocks=False)),
    "order.cancelled restocks once": Guard("a shop without inbox", _stock(restocks_once=False)),
    "once per returnId": Guard("a shop without inbox and cap", _stock(returns_once=False)),
    "the Inventory Service's inbox": Guard("a shop without returnIds", _stock(inbox=False)),
    # ------------------------------------------------------------ the tables
    "version check": Guard("cancels", _rows(versions_are_checked=False)),
    "events are stored with the change": Guard(
        "cancels", lambda bounds: replace(bounds, events_are_stored_with_the_change=False)
    ),
    "a release job's version": Guard("a shop without tombstones", _rows(jobs_are_versioned=False)),
    # ----------------------------------------------------------- the events
    "the order service's inbox": Guard("events believed for any reservation", _rows(inbox=False)),
    "an event counts for its reservation only": Guard("a second reservation", patch=_for_any_reservation),
    "an event counts for a placed order only": Guard("events", patch=_in_any_status),
    # ------------------------------------------------------------- the holds
    "release on cancel of an unseen answer": Guard(
        "cancels", patch=_changed("_cancel_unpaid", _without_release_of_the_unseen)
    ),
    "release after a 409 that follows an unanswered attempt": Guard(
        "sold out and back", patch=_no_release_after(InsufficientInventory)
    ),
    "release after an unusable answer": Guard("calls", patch=_no_release_after(ReservationFailed)),
    "release after a declined payment": Guard("calls", patch=_no_release_after(PaymentDeclined)),
    "release when a cancel ends the payment": Guard("cancels", patch=_changed("cancel_while_paying", _without_release)),
    "release again a hold taken after the end": Guard(
        "a shop without tombstones", patch=_without_method(OrderFulfilment, "give_back_if_ended")
    ),
    "an unanswered release is tried again": Guard("cancels", patch=_give_up_after_a_failed_release),
    "nobody is charged for a hold that is over": Guard("holds", patch=_reservation_lasts_for_ever),
    "order.cancelled is published": Guard("cancels", patch=_changed("_cancel_placed", _without_events)),
    # ------------------------------------------------------------- the money
    "a charge is keyed by the order": Guard("calls", lambda bounds: replace(bounds, gateway_knows_the_key=False)),
    "ask the gateway before charging again": Guard(
        "a gateway that knows no keys",
        patch=lambda patch: patch.setattr(OrderFulfilment, "_settle_payment", _charge_without_asking),
    ),
    "a cancel waits for the payment's outcome": Guard("cancels", patch=_cancel_does_not_wait),
    "a cancel asked for while paying is carried out": Guard("cancels", patch=_forget_the_cancel),
    "refund also when only the answer was lost": Guard("cancels", patch=_no_refund_of_the_unseen),
    "a refund that finds no money fences the key off": Guard("holds", patch=_refund_without_fence),
    "without a fence, a refund waits for a late capture": Guard(
        "holds, with a gateway that cannot void", patch=_refund_at_once
    ),
    "an order renewed before its payment doubts the payment": Guard(
        "holds", patch=_changed("reserve_before_payment", _without_doubt)
    ),
    "refund a charge made after the end": Guard(
        "slow charges, with a gateway that cannot void",
        patch=_without_method(OrderFulfilment, "_give_money_back_if_ended"),
    ),
    "an old answer does not settle a refund": Guard(
        "slow charges, with a gateway that cannot void", patch=_believe_an_old_refusal
    ),
    "an unanswered refund is tried again": Guard("cancels", patch=_refund_is_taken_for_made),
    # ------------------------------------------------------- crashes and rest
    "a placed order has a time": Guard("dead letters", patch=_never_ask_again),
    "an order that is tried again has a time": Guard(
        "a request that comes again", patch=_changed("try_again", _without_due)
    ),
    "an order that reserves has a time": Guard("calls", patch=_changed("start_reserving", _without_due)),
    "an order that pays has a time": Guard("calls", patch=_changed("reserve_stock", _without_due)),
}

SECOND_LINES: dict[str, Guard] = {
    "the order service's inbox, behind the reservation's id": Guard("a second reservation", _rows(inbox=False)),
    "refund a charge made after the end, behind the fence": Guard(
        "slow charges", patch=_without_method(OrderFulfilment, "_give_money_back_if_ended")
    ),
    "an old answer does not settle a refund, behind the fence": Guard("slow charges", patch=_believe_an_old_refusal),
    "only an order that touched nothing is tried again, behind the tombstone": Guard(
        "a request that comes again", patch=_try_any_refusal_again
    ),
    "the version of a case": Guard("operators", _rows(cases_are_versioned=False)),
    "a claim raises the version": Guard("slow runs", _rows(claims_raise_the_version=False)),
}
"""Guards that the model shows to be second lines: without one of them the others still keep every invariant."""
