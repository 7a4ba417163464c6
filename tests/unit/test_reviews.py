"""Which actions a review case allows."""

from __future__ import annotations

import pytest

from services.domain.orders.changes import SOLD
from services.domain.orders.model import OrderStatus, ReviewReason
from services.domain.reviews import CANCELLABLE, ReviewAction, allowed_actions

A, S, R = ReviewAction, OrderStatus, ReviewReason


@pytest.mark.parametrize("status", sorted(CANCELLABLE))
def test_an_unverified_order_can_be_approved_or_cancelled_while_it_can_be_cancelled(status: str) -> None:
    assert allowed_actions(R.AVAILABILITY_UNVERIFIED, status) == (A.APPROVE, A.CANCEL_ORDER)


@pytest.mark.parametrize("status", sorted(set(S) - CANCELLABLE))
def test_an_unverified_order_that_has_ended_can_only_be_approved(status: str) -> None:
    assert allowed_actions(R.AVAILABILITY_UNVERIFIED, status) == (A.APPROVE,)


@pytest.mark.parametrize(
    ("reason", "status", "action"),
    [
        (R.PENDING_INVENTORY, S.PENDING_INVENTORY, A.RETRY_RESERVATION),
        (R.INVENTORY_CONFIRMATION_FAILED, S.CONFIRMATION_FAILED, A.RECONFIRM),
        (R.CONFIRMATION_TIMEOUT, S.PLACED, A.RECONFIRM),
        (R.PAYMENT_UNKNOWN, S.PAYING, A.APPROVE),
    ],
)
def test_a_case_allows_its_remedy_and_a_cancel_only_while_the_order_is_in_that_state(
    reason: str, status: str, action: str
) -> None:
    assert allowed_actions(reason, status) == (action, A.CANCEL_ORDER)
    for other in set(S) - {status}:
        is_about_money_of_an_ended_order = reason == R.PAYMENT_UNKNOWN and other in (S.CANCELLED, S.REJECTED)
        # Opened by the conservation audit of 0.1.0, which had no reason of its own for it.
        does_not_add_up = reason == R.INVENTORY_CONFIRMATION_FAILED and other in SOLD
        may_approve = is_about_money_of_an_ended_order or does_not_add_up
        assert allowed_actions(reason, other) == ((A.APPROVE,) if may_approve else ())


@pytest.mark.parametrize("status", list(S))
def test_a_failed_release_can_be_marked_released_whatever_the_order_is(status: str) -> None:
    assert allowed_actions(R.RELEASE_FAILED, status) == (A.MARK_RELEASED,)


@pytest.mark.parametrize("status", list(S))
def test_what_does_not_add_up_can_be_acknowledged_whatever_the_order_is(status: str) -> None:
    assert allowed_actions(R.CONSERVATION_DIFFERENCE, status) == (A.APPROVE,)


def test_an_unknown_reason_allows_nothing() -> None:
    assert allowed_actions("SOMETHING_ELSE", S.PLACED) == ()


def test_cancellable_is_every_status_from_which_the_life_cycle_leads_to_cancelled() -> None:
    assert set(CANCELLABLE) == {
        S.RECEIVED,
        S.RESERVING,
        S.PENDING_INVENTORY,
        S.PAYING,
        S.PLACED,
        S.CONFIRMED,
        S.CONFIRMATION_FAILED,
    }
