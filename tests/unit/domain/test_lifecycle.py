"""The life of an order: every step from every status, allowed or refused. Source: docs/adr/0002."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.domain.calls import Failure, FailureClass
from services.domain.errors import (
    CircuitOpen,
    InsufficientInventory,
    InvalidState,
    InventoryTimeout,
    InventoryUnavailable,
    PaymentDeclined,
)
from services.domain.orders import changes, ending, lifecycle
from services.domain.orders.changes import Change, ReviewRequest, TimelineEntry
from services.domain.orders.model import InventoryStatus, Line, Order, OrderStatus, PaymentStatus
from tests.support.fakes import START

S = OrderStatus
LATER = START + timedelta(minutes=5)
RESERVATION_ENDS = START + timedelta(minutes=30)
TIMEOUT = InventoryTimeout("too slow")
UNAVAILABLE = FailureClass.UNAVAILABLE
SHORT = InsufficientInventory("short", {"items": []})

ORDER = Order(
    order_id="o-1",
    user_id="u-1",
    customer_priority="standard",
    lines=(Line("p", "v", 2), Line("q", "w", 1)),
    created_at=START,
    updated_at=START,
    reservation_id="r-1",
    reservation_expires_at=RESERVATION_ENDS,
)


def order(status: str, **values: Any) -> Order:
    return replace(ORDER, status=status, **values)


def give_back(order: Order) -> Change:
    return ending.return_lines(order, (Line("p", "v", 1),), return_id="t", reason="x", restockable=True, at=START)


STEPS: dict[str, tuple[Callable[[Order], Change], dict[str, str]]] = {
    "start_reserving": (
        lambda o: lifecycle.start_reserving(o, START, LATER),
        dict.fromkeys((S.RECEIVED, S.PENDING_INVENTORY, S.PAYING), S.RESERVING),
    ),
    "reserve_stock": (
        lambda o: lifecycle.reserve_stock(o, "r-2", RESERVATION_ENDS, START, LATER),
        dict.fromkeys((S.RESERVING, S.PAYING), S.PAYING),
    ),
    "reject": (
        lambda o: lifecycle.reject(o, SHORT, START),
        dict.fromkeys((S.RECEIVED, S.RESERVING, S.PENDING_INVENTORY, S.PAYING), S.REJECTED),
    ),
    "wait_for_inventory": (
        lambda o: lifecycle.wait_for_inventory(o, TIMEOUT, START, LATER),
        {S.RESERVING: S.PENDING_INVENTORY},
    ),
    "resume_reserving": (
        lambda o: lifecycle.resume_reserving(o, START, LATER),
        dict.fromkeys((S.RECEIVED, S.PENDING_INVENTORY, S.PAYING), S.RESERVING),
    ),
    "reserve_before_payment": (
        lambda o: lifecycle.reserve_before_payment(o, START, LATER),
        dict.fromkeys((S.RECEIVED, S.PENDING_INVENTORY, S.PAYING), S.RESERVING),
    ),
    "place": (
        lambda o: lifecycle.place(o, START, LATER),
        dict.fromkeys((S.PAYING, S.PLACED, S.CONFIRMATION_FAILED), S.PLACED),
    ),
    "payment_unknown": (
        lambda o: lifecycle.payment_unknown(o, "lost", START, LATER),
        dict.fromkeys((S.RESERVING, S.PAYING), S.PAYING),
    ),
    "confirm": (lambda o: lifecycle.confirm(o, START, START), {S.PLACED: S.CONFIRMED}),
    "fail_confirmation": (
        lambda o: lifecycle.fail_confirmation(o, "RELEASED", START),
        {S.PLACED: S.CONFIRMATION_FAILED},
    ),
    "ask_confirmation_again": (
        lambda o: lifecycle.ask_confirmation_again(o, START, LATER),
        dict.fromkeys((S.PAYING, S.PLACED, S.CONFIRMATION_FAILED), S.PLACED),
    ),
    "reconfirm": (
        lambda o: lifecycle.reconfirm(o, "r-2", RESERVATION_ENDS, START, LATER),
        dict.fromkeys((S.PAYING, S.PLACED, S.CONFIRMATION_FAILED), S.PLACED),
    ),
    "cancel": (
        lambda o: ending.cancel(o, "CUSTOMER_CANCELLED", START),
        {
            **dict.fromkeys((S.RECEIVED, S.RESERVING, S.PENDING_INVENTORY), S.CANCELLED),
            **dict.fromkeys((S.PLACED, S.CONFIRMED, S.CONFIRMATION_FAILED), S.CANCELLED),
            S.PAYING: S.PAYING,
        },
    ),
    "return": (
        give_back,
        dict.fromkeys((S.CONFIRMED, S.PARTIALLY_RETURNED), S.PARTIALLY_RETURNED),
    ),
}
"""Per step, from which status it leads where; it is refused from every other one. Use cases guard it further."""

PAIRS = [(name, status, leads.get(status)) for name, (_, leads) in STEPS.items() for status in S]


@pytest.mark.parametrize(("name", "status", "becomes"), PAIRS)
def test_each_step_is_taken_or_refused_by_the_status_of_the_order(name, status, becomes):
    step = STEPS[name][0]
    if becomes is None:
        with pytest.raises(InvalidState) as caught:
            step(order(status))
        assert caught.value.code == "INVALID_STATE"
        assert caught.value.details["status"] == status
    else:
        assert step(order(status)).values["status"] == becomes


@pytest.mark.parametrize("status", sorted(changes.ENDED))
def test_nothing_follows_an_end_but_a_new_try_of_a_refused_order(status):
    assert changes.NEXT[status] == (frozenset({S.RECEIVED}) if status == S.REJECTED else frozenset())


@pytest.mark.parametrize(
    ("changed", "may"),
    [
        ({}, True),
        ({"failure": {"retryable": False}}, False),
        ({"failure": None}, False),
        ({"status": S.CANCELLED}, False),
        ({"inventory_status": "RELEASE_PENDING"}, False),
        ({"payment_status": "FAILED"}, False),
        ({"reservation_id": "r-1"}, False),
    ],
    ids=str,
)
def test_only_an_order_refused_for_a_passing_reason_and_never_touched_is_tried_again(changed, may):
    refused = replace(
        order(S.REJECTED),
        **{
            "failure": {"retryable": True},
            "inventory_status": "NONE",
            "payment_status": "NONE",
            "reservation_id": None,
            **changed,
        },
    )
    assert lifecycle.may_try_again(refused) is may


def test_the_table_names_every_status_and_no_other():
    assert set(changes.NEXT) == set(S)
    assert set().union(*changes.NEXT.values()) <= set(S)


def test_every_status_is_reached_from_another():
    assert {after for before, nexts in changes.NEXT.items() for after in nexts - {before}} == set(S)


# --------------------------------------------------------- what each step does


def test_starting_to_reserve_opens_a_case_only_when_the_check_could_not_be_made():
    checked = lifecycle.start_reserving(order(S.RECEIVED), START, LATER)
    assert (checked.opens, checked.values["due_at"]) == ((), LATER)
    unverified = lifecycle.start_reserving(order(S.RECEIVED), START, LATER, unverified=InventoryUnavailable("down"))
    assert unverified.opens == (
        ReviewRequest("AVAILABILITY_UNVERIFIED", "INVENTORY_UNAVAILABLE: down", UNAVAILABLE, UNAVAILABLE),
    )


def test_a_reservation_is_recorded_with_its_end():
    change = lifecycle.reserve_stock(order(S.RESERVING), "r-2", RESERVATION_ENDS, START, LATER)
    assert change.values == {
        "status": S.PAYING,
        "inventory_status": InventoryStatus.RESERVED,
        "reservation_id": "r-2",
        "reservation_expires_at": RESERVATION_ENDS,
        "due_at": LATER,
        "attempts": 0,
    }
    assert change.timeline[0].details == {
        "from": "RESERVING",
        "to": "PAYING",
        "reservationId": "r-2",
        "expiresAt": "2026-03-01T12:30:00.000Z",
    }


@pytest.mark.parametrize(("attempts", "closes"), [(0, ()), (3, ("PENDING_INVENTORY",))])
def test_a_reservation_settles_the_case_of_an_order_that_had_waited(attempts, closes):
    held = lifecycle.reserve_stock(order(S.RESERVING, attempts=attempts), "r", RESERVATION_ENDS, START, LATER)
    assert held.closes == closes


def test_a_rejection_keeps_its_error_and_releases_only_on_request():
    plain = lifecycle.reject(order(S.RESERVING), SHORT, START)
    assert (plain.values["failure"], plain.values["due_at"]) == (
        {"code": "INSUFFICIENT_INVENTORY", "message": "short", "details": {"items": []}, "retryable": False},
        None,
    )
    assert (plain.release_because, "inventory_status" in plain.values) == (None, False)
    releasing = lifecycle.reject(order(S.RESERVING), SHORT, START, release=True)
    assert releasing.release_because == "order rejected: INSUFFICIENT_INVENTORY"
    assert releasing.values["inventory_status"] == InventoryStatus.RELEASE_PENDING
    assert set(releasing.closes) == {"AVAILABILITY_UNVERIFIED", "PENDING_INVENTORY", "PAYMENT_UNKNOWN"}


@pytest.mark.parametrize(
    ("status", "before", "after", "due_at"),
    [
        (S.RESERVING, PaymentStatus.NONE, None, None),
        (S.PAYING, PaymentStatus.NONE, PaymentStatus.FAILED, None),
        (S.PAYING, PaymentStatus.UNKNOWN, PaymentStatus.FAILED, None),
        (S.RESERVING, PaymentStatus.UNKNOWN, PaymentStatus.REFUND_PENDING, START),
    ],
)
def test_a_rejection_gives_back_money_that_may_still_come(status, before, after, due_at):
    declined = PaymentDeclined("no")
    change = lifecycle.reject(order(status, payment_status=before), declined, START)
    assert (change.values.get("payment_status"), change.values["due_at"]) == (after, due_at)


def test_a_failure_states_when_to_come_back_if_that_is_known():
    change = lifecycle.reject(order(S.RECEIVED), CircuitOpen("checker", 11.2), START)
    assert change.values["failure"]["details"] == {"breaker": "checker", "retryAfterSeconds": 12}
    assert change.values["failure"]["retryable"] is True


@pytest.mark.parametrize(
    ("error", "made", "counted"),
    [
        (TIMEOUT, 0, 1),
        (TIMEOUT, 4, 5),
        (InventoryUnavailable("down", may_have_run=False), 4, 5),
        (CircuitOpen("reserver", 1.0), 0, 1),
        (CircuitOpen("reserver", 1.0), 4, 4),
    ],
)
def test_waiting_counts_the_attempts_that_were_sent(error, made, counted):
    change = lifecycle.wait_for_inventory(order(S.RESERVING, attempts=made), error, START, LATER)
    assert (change.values["attempts"], change.values["due_at"]) == (counted, LATER)
    assert change.opens == (ReviewRequest.after(error, "PENDING_INVENTORY"),)


def test_a_call_that_reached_the_service_before_its_breaker_opened_counts():
    error = CircuitOpen("reserver", 1.0)
    error.may_have_run = True
    assert lifecycle.reservation_attempts(order(S.RESERVING, attempts=4), error) == 5


def test_placing_asks_for_the_deduction_and_announces_the_order():
    change = lifecycle.place(order(S.PAYING), START, LATER)
    assert [event.type for event in change.events] == ["inventory.confirm_requested", "order.created"]
    assert (change.values["payment_status"], change.values["inventory_status"], change.values["due_at"]) == (
        "CAPTURED",
        "CONFIRM_REQUESTED",
        LATER,
    )
    assert change.closes == ()
    assert lifecycle.place(order(S.PAYING, payment_status="UNKNOWN"), START, LATER).closes == ("PAYMENT_UNKNOWN",)


def test_an_unknown_payment_becomes_a_case_when_nobody_asks_any_more():
    again = lifecycle.payment_unknown(order(S.PAYING, attempts=2), "lost", START, LATER)
    assert (again.opens, again.values["attempts"], again.values["payment_status"]) == ((), 3, "UNKNOWN")
    last = lifecycle.payment_unknown(order(S.PAYING), "lost", START, None)
    assert last.opens == (ReviewRequest("PAYMENT_UNKNOWN", "lost"),)


def test_asking_again_sends_the_same_question_and_counts():
    change = lifecycle.ask_confirmation_again(order(S.PLACED, attempts=1), START, LATER)
    assert [event.data for event in change.events] == [{"orderId": "o-1", "reservationId": "r-1"}]
    assert (change.values["attempts"], change.values["due_at"], change.timeline[0].details) == (
        2,
        LATER,
        {"requests": 3},
    )


def test_giving_up_on_a_confirmation_leaves_it_to_a_person():
    change = lifecycle.give_up_on_confirmation(order(S.PLACED, attempts=2), START)
    assert (change.values["due_at"], change.events) == (None, ())
    assert change.opens == (ReviewRequest("CONFIRMATION_TIMEOUT", "No answer to 3 requests for confirmation"),)


@pytest.mark.parametrize("status", [S.RECEIVED, S.RESERVING, S.PENDING_INVENTORY])
def test_a_cancel_before_payment_releases_also_when_no_answer_was_seen(status):
    change = ending.cancel(order(status, reservation_id=None), "X", START)
    assert (change.release_because, change.events) == ("order cancelled: X", ())
    assert (change.values["inventory_status"], "payment_status" in change.values) == ("RELEASE_PENDING", False)


def test_a_cancel_while_paying_waits_and_has_the_gateway_asked_if_nobody_was_going_to():
    waiting = ending.cancel(order(S.PAYING, due_at=LATER, attempts=2), "X", START)
    assert (waiting.values["due_at"], waiting.values["attempts"], waiting.values["cancel_reason"]) == (LATER, 2, "X")
    assert (waiting.release_because, waiting.events) == (None, ())
    assert ending.cancel(order(S.PAYING, due_at=None), "X", START).values["due_at"] == START


@pytest.mark.parametrize(
    ("status", "inventory_status", "releases"),
    [
        (S.PLACED, "RELEASE_PENDING", True),
        (S.CONFIRMATION_FAILED, "RELEASE_PENDING", True),
        (S.CONFIRMED, "RESTOCK_REQUESTED", False),
    ],
)
def test_a_cancel_after_payment_refunds_and_announces_and_releases_what_is_only_reserved(
    status, inventory_status, releases
):
    change = ending.cancel(order(status), "X", START)
    assert [event.type for event in change.events] == ["order.cancelled"]
    assert (change.values["payment_status"], change.values["inventory_status"], change.values["due_at"]) == (
        "REFUND_PENDING",
        inventory_status,
        START,
    )
    assert (change.release_because is not None) is releases


@pytest.mark.parametrize(
    ("money", "payment", "due_at"),
    [(False, "FAILED", None), (None, "REFUND_PENDING", START), (True, "REFUND_PENDING", START)],
)
def test_a_cancel_decided_after_the_payment_refunds_anything_but_a_decline(money, payment, due_at):
    change = ending.cancel_while_paying(order(S.PAYING), "X", START, money=money)
    assert any(map(ending.shows_capture, change.timeline)) == bool(money)
    assert (change.values["status"], change.values["payment_status"], change.values["due_at"]) == (
        "CANCELLED",
        payment,
        due_at,
    )
    assert change.release_because == "order cancelled: X"


def test_a_refund_that_was_not_answered_is_due_again():
    assert ending.refund_later(order(S.CANCELLED, attempts=3), LATER) == Change({"due_at": LATER, "attempts": 4})


@pytest.mark.parametrize(("was_charged", "status"), [(True, "REFUNDED"), (False, "FAILED")])
def test_a_refund_ends_with_what_the_gateway_said(was_charged, status):
    assert ending.refunded(START, was_charged=was_charged).values["payment_status"] == status


@pytest.mark.parametrize("waited_for", [True, False])
def test_a_release_changes_the_inventory_status_only_where_it_was_waited_for(waited_for):
    before = InventoryStatus.RELEASE_PENDING if waited_for else InventoryStatus.RESTOCK_REQUESTED
    ended = order(S.CANCELLED, inventory_status=before)
    assert ending.released(ended, START, "done").values == ({"inventory_status": "RELEASED"} if waited_for else {})
    failed = ending.release_failed(ended, Failure(UNAVAILABLE, 503), "down", 8, START)
    assert failed.values == ({"inventory_status": "RELEASE_FAILED"} if waited_for else {})
    assert failed.opens == (
        ReviewRequest("RELEASE_FAILED", "Release failed after 8 attempts: down", UNAVAILABLE, UNAVAILABLE),
    )


def test_a_complete_return_is_one_that_leaves_nothing_with_the_customer():
    everything = ending.return_lines(
        order(S.CONFIRMED), ORDER.lines, return_id="t", reason="x", restockable=False, at=START
    )
    assert everything.values["status"] == S.RETURNED
    assert "inventory_status" not in everything.values


@pytest.mark.parametrize(("seconds", "lasts"), [(119, True), (120, False), (121, False)])
def test_a_reservation_lasts_when_more_than_the_margin_is_left(seconds, lasts):
    at = RESERVATION_ENDS - timedelta(seconds=240) + timedelta(seconds=seconds)
    assert lifecycle.reservation_lasts(ORDER, at, timedelta(seconds=120)) is lasts


def test_an_order_without_a_reservation_has_none_that_lasts():
    assert not lifecycle.reservation_lasts(order(S.PAYING, reservation_expires_at=None), START, timedelta(0))


def test_two_changes_are_recorded_as_one_in_their_order():
    first = Change({"a": 1, "b": 1}, (TimelineEntry(START, "action", "one"),), closes=("X",), release_because="first")
    second = Change({"b": 2}, (TimelineEntry(START, "transition", "two"),), opens=(ReviewRequest("Y", "d"),))
    both = first.then(second)
    assert both.values == {"a": 1, "b": 2}
    assert [entry.title for entry in both.timeline] == ["one", "two"]
    assert (both.closes, both.opens, both.release_because) == (("X",), second.opens, "first")
