"""Which moves are legal for our side and stock, over every pair there is."""

from __future__ import annotations

from itertools import product

import pytest

from services.domain.bulk import BulkAction
from services.domain.conservation import StockState
from services.domain.orders.model import OrderStatus, ReviewReason
from services.domain.reconciliation import (
    advice,
    evidence,
    reconcile,
    refusal,
    what_a_retry_does,
    why_not_mark,
    why_not_retry,
)
from services.domain.reviews import ReviewAction, allowed_actions

A, R, S = ReviewAction, ReviewReason, OrderStatus
HELD, DEDUCTED, FREE = StockState.RESERVED, StockState.DEDUCTED, StockState.FREE

# What stock takes away from the moves of our side; every pair that is not listed takes away nothing.
REFUSED: dict[tuple[str, str, StockState], set[ReviewAction]] = {
    (R.PENDING_INVENTORY, S.PENDING_INVENTORY, DEDUCTED): {A.RETRY_RESERVATION},
    (R.INVENTORY_CONFIRMATION_FAILED, S.CONFIRMATION_FAILED, DEDUCTED): {A.RECONFIRM},
    (R.AVAILABILITY_UNVERIFIED, S.PAYING, FREE): {A.APPROVE},
    (R.AVAILABILITY_UNVERIFIED, S.PLACED, FREE): {A.APPROVE},
    (R.AVAILABILITY_UNVERIFIED, S.CONFIRMED, FREE): {A.APPROVE},
    (R.AVAILABILITY_UNVERIFIED, S.CONFIRMED, HELD): {A.APPROVE},
} | {(R.RELEASE_FAILED, status, HELD): {A.MARK_RELEASED} for status in S}

PAIRS = list(product(R, S, StockState))


@pytest.mark.parametrize(("reason", "status", "stock"), PAIRS)
def test_every_pair_offers_what_the_order_allows_and_the_inventory_status_does_not_refuse(
    reason: str, status: str, stock: StockState
) -> None:
    ours = allowed_actions(reason, status)
    refused = REFUSED.get((reason, status, stock), set()) & set(ours)
    found = reconcile(reason, status, stock)
    assert found.allowed == tuple(action for action in ours if action not in refused)
    assert set(found.refused) == refused
    assert all("The Inventory Service" in why for why in found.refused.values())


@pytest.mark.parametrize(("reason", "status"), list(product(R, S)))
def test_an_unknown_status_refuses_nothing(reason: str, status: str) -> None:
    found = reconcile(reason, status, None)
    assert (found.allowed, dict(found.refused)) == (allowed_actions(reason, status), {})


def test_no_pair_of_an_order_that_can_be_cancelled_is_a_dead_end() -> None:
    for reason, status, stock in PAIRS:
        if A.CANCEL_ORDER in allowed_actions(reason, status):
            assert A.CANCEL_ORDER in reconcile(reason, status, stock).allowed


@pytest.mark.parametrize(
    ("reason", "status", "stock", "words"),
    [
        (R.RELEASE_FAILED, S.CANCELLED, HELD, "retry the release"),
        (R.RELEASE_FAILED, S.CANCELLED, FREE, "marking it released is right"),
        (R.RELEASE_FAILED, S.CANCELLED, DEDUCTED, "conservation audit"),
        (R.PAYMENT_UNKNOWN, S.PAYING, FREE, "reserve anew"),
        (R.CONFIRMATION_TIMEOUT, S.PLACED, DEDUCTED, "confirming again settles it"),
        (R.CONFIRMATION_TIMEOUT, S.PLACED, FREE, "will be refused"),
    ],
)
def test_a_pair_that_is_not_what_one_expects_is_explained(
    reason: str, status: str, stock: StockState, words: str
) -> None:
    assert words in (advice(reason, status, stock) or "")
    assert advice(reason, status, None) is None


@pytest.mark.parametrize(
    ("stock", "may_mark", "may_retry", "retry_does", "supports"),
    [
        (HELD, False, True, "release the reservation", False),
        (FREE, True, True, "harmless", True),
        (DEDUCTED, False, False, "refuse the release again", False),
        (None, True, True, None, False),
    ],
)
def test_a_release_job_is_marked_or_retried_only_where_it_is_right(
    stock: StockState | None, may_mark: bool, may_retry: bool, retry_does: str | None, supports: bool
) -> None:
    assert (why_not_mark(stock) is None, why_not_retry(stock) is None) == (may_mark, may_retry)
    assert (retry_does or "") in (what_a_retry_does(stock) or "")
    assert (what_a_retry_does(stock) is None) == (stock is None)
    assert (evidence(stock) is not None) == supports
    assert (refusal(BulkAction.MARK_RELEASED, None, "x", "CANCELLED", stock) is None) == may_mark
    assert (refusal(BulkAction.RETRY_RELEASE, None, "x", "CANCELLED", stock) is None) == may_retry


@pytest.mark.parametrize(("reason", "status", "stock"), PAIRS)
def test_an_item_of_a_bulk_job_is_refused_where_the_single_case_is(reason: str, status: str, stock: StockState) -> None:
    for action in allowed_actions(reason, status):
        why = reconcile(reason, status, stock).refused.get(action)
        assert refusal(BulkAction.RESOLVE_REVIEW, action, reason, status, stock) == why
        assert refusal(BulkAction.RESOLVE_REVIEW, action, reason, status, None) is None
