"""What a case is about, what is at stake, what must be explained, and how often an action has held."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.calls import FailureClass, failure_of, stated_code
from services.domain.errors import (
    CircuitOpen,
    InsufficientInventory,
    InventoryRefusesUs,
    InventoryThrottled,
    InventoryTimeout,
    InventoryUnavailable,
    ReleaseFailed,
    ReservationFailed,
    ValidationFailed,
)
from services.domain.orders.model import Line, Order, OrderStatus, ReviewReason, order_value
from services.domain.reviews import (
    BY_ITSELF,
    REASONS,
    UNDO_FOR,
    PastResolution,
    ReleaseActionKind,
    ResolutionReason,
    ReviewAction,
    allowed_actions,
    called_by,
    check_reason,
    outcome_of,
    summarise,
)
from services.domain.reviews import (
    ResolutionOutcome as Outcome,
)
from state.tables.base import Word

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
A, R, S = ReviewAction, ReviewReason, OrderStatus
ORDER = Order("o", "u", "standard", (Line("chair", "oak", 2), Line("lamp", "brass", 1)), NOON, NOON)


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (CircuitOpen("inventoryServiceReserver", 3.0), "BREAKER_OPEN"),
        (InventoryThrottled("x", was_sent=False, retry_after_seconds=1.0), "INVENTORY_THROTTLED"),
        (InventoryRefusesUs("x", {"status": 401}), "INVENTORY_REFUSES_CALLER:401"),
        (InventoryTimeout("x"), "INVENTORY_TIMEOUT"),
        (InventoryUnavailable("x", {"status": 503}), "INVENTORY_UNAVAILABLE:503"),
        (InventoryUnavailable("x"), "INVENTORY_UNAVAILABLE"),
        (ReleaseFailed("x", {"status": 422}), "RELEASE_REFUSED:422"),
        (ReservationFailed("x"), "RESERVATION_FAILED"),
        (InsufficientInventory("x"), "INSUFFICIENT_INVENTORY"),
        (KeyError("x"), "UNEXPECTED_ERROR"),
    ],
)
def test_the_type_and_status_of_an_error_decide_its_failure(error: Exception, key: str) -> None:
    assert failure_of(error).key == key


def test_every_failure_class_fits_its_column() -> None:
    assert all(len(one) <= Word.length for one in FailureClass)


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("RESERVATION_EXPIRED", "RESERVATION_EXPIRED"),
        ("RELEASED", "RELEASED"),
        ("It has expired", ""),
        ("", ""),
        ("A" * 41, ""),
    ],
)
def test_only_a_code_of_another_service_groups_cases(stated: str, code: str) -> None:
    assert stated_code(stated) == code


@pytest.mark.parametrize(
    ("metadata", "amount", "currency"),
    [
        (None, None, None),
        ({"total": 129.9, "currency": "EUR"}, Decimal("129.9"), "EUR"),
        ({"total": {"amount": "129.90", "currency": "EUR"}}, Decimal("129.90"), "EUR"),
        ({"total": 5}, Decimal(5), None),
        ({"total": 5, "currency": 7}, Decimal(5), None),
        ({"total": True}, None, None),
        ({"total": "much"}, None, None),
        ({"total": "NaN"}, None, None),
        ({"total": -1}, None, None),
        ({"total": 10**13}, None, None),
        ({"total": [1]}, None, None),
        ({"total": {}}, None, None),
    ],
)
def test_an_order_has_a_value_only_where_the_shop_has_given_an_amount(
    metadata: dict[str, Any] | None, amount: Decimal | None, currency: str | None
) -> None:
    found = order_value(replace(ORDER, metadata=metadata))
    assert (found.units, found.amount, found.currency) == (3, amount, currency)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda part: st.dictionaries(st.text(), part)))
def test_any_metadata_leads_to_an_order_value(total: Any) -> None:
    assert order_value(replace(ORDER, metadata={"total": total})).units == 3


@pytest.mark.parametrize(
    ("total", "currency", "text"),
    [
        (1234.5, "EUR", "1,234.50"),
        (129, "JPY", "129"),
        (129.5, "JPY", "129.5"),
        ("1.5", "KWD", "1.500"),
        ("1.2345", "KWD", "1.2345"),
        (0.1 + 0.2, "EUR", "0.30"),
        (10**12, "JPY", "1,000,000,000,000"),
        (5, None, "5.00"),
        ("-0", "EUR", "0.00"),
        ("0E+999999", "EUR", "0.00"),
        ("1E-999999", "JPY", "0"),
        ("1E+999999", "EUR", None),
        pytest.param(10**5000, "EUR", None, id="5 000 digits"),
        ("NaN", "JPY", None),
        ("sNaN", "JPY", None),
        ("-Infinity", "KWD", None),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(total: Any, currency: str | None, text: str | None) -> None:
    assert order_value(replace(ORDER, metadata={"total": total, "currency": currency})).amount_text == text


# ----------------------------------------------------------------- explanations


@pytest.mark.parametrize(
    ("case_reason", "action"),
    [
        *((reason, A.CANCEL_ORDER) for reason in R),
        (R.RELEASE_FAILED, A.MARK_RELEASED),
        (R.PAYMENT_UNKNOWN, A.APPROVE),
        (R.CONSERVATION_DIFFERENCE, A.APPROVE),
    ],
)
def test_an_important_action_needs_a_note_or_a_sufficient_reason(case_reason: str, action: ReviewAction) -> None:
    for reason in (None, ResolutionReason.OTHER):
        with pytest.raises(ValidationFailed) as caught:
            check_reason(case_reason, action, reason, "  ")
        (problem,) = caught.value.details["problems"]
        assert (problem["field"], problem["value"]) == ("note", "  ")
        assert "1 character or more" in problem["allowed"]
        check_reason(case_reason, action, reason, "seen")
    check_reason(case_reason, action, REASONS[action][0], "")


@pytest.mark.parametrize("action", [A.RETRY_RESERVATION, A.RECONFIRM])
def test_trying_again_needs_no_explanation_and_takes_no_reason(action: ReviewAction) -> None:
    check_reason(R.PENDING_INVENTORY, action, None, "")
    with pytest.raises(ValidationFailed) as caught:
        check_reason(R.PENDING_INVENTORY, action, "OTHER", "x")
    assert caught.value.details["problems"][0]["field"] == "resolutionReason"


def test_a_reason_of_another_action_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ValidationFailed) as caught:
        check_reason(R.RELEASE_FAILED, A.MARK_RELEASED, "OUT_OF_STOCK", "x")
    (problem,) = caught.value.details["problems"]
    assert problem == {
        "field": "resolutionReason",
        "value": "OUT_OF_STOCK",
        "allowed": "one of SEEN_RELEASED, NEVER_HELD, OTHER",
    }


def test_actions_that_need_a_reason_are_delayed_for_an_undo() -> None:
    assert set(UNDO_FOR) == set(REASONS) == {A.CANCEL_ORDER, A.APPROVE, A.MARK_RELEASED}


# ------------------------------------------------------------------ cause memory


@pytest.mark.parametrize("action", [A.RETRY_RESERVATION, A.RECONFIRM, A.APPROVE, BY_ITSELF])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (S.CONFIRMED, Outcome.LASTED),
        (S.RETURNED, Outcome.LASTED),
        (S.CANCELLED, Outcome.FAILED),
        (S.REJECTED, Outcome.FAILED),
        (S.PLACED, Outcome.UNDECIDED),
    ],
)
def test_going_on_has_lasted_when_the_goods_went_out(action: str, status: str, expected: str) -> None:
    assert outcome_of(action, status, came_again=False) == expected


def test_cancelling_has_lasted_when_the_order_is_cancelled() -> None:
    assert outcome_of(A.CANCEL_ORDER, S.CANCELLED, came_again=False) == Outcome.LASTED
    assert outcome_of(A.CANCEL_ORDER, S.PAYING, came_again=False) == Outcome.UNDECIDED


@pytest.mark.parametrize("status", list(S))
def test_marking_released_lasts_until_a_case_comes_again(status: str) -> None:
    assert outcome_of(A.MARK_RELEASED, status, came_again=False) == Outcome.LASTED


@pytest.mark.parametrize("action", [*A, BY_ITSELF])
@pytest.mark.parametrize("status", list(S))
def test_nothing_has_lasted_when_a_case_came_again(action: str, status: str) -> None:
    assert outcome_of(action, status, came_again=True) == Outcome.FAILED


def test_moves_are_remembered_by_frequency_with_the_last_one_of_each() -> None:
    past = [
        PastResolution(A.RECONFIRM, "ben", NOON, Outcome.LASTED, why="recounted"),
        PastResolution(A.CANCEL_ORDER, "olga", NOON, Outcome.LASTED),
        PastResolution(A.RECONFIRM, "eve", NOON, Outcome.UNDECIDED),
        PastResolution(A.RECONFIRM, "eve", NOON, Outcome.FAILED),
    ]
    again, cancel = summarise(past)
    assert (again.action, again.times, again.lasted, again.failed, again.undecided) == (A.RECONFIRM, 3, 1, 1, 1)
    assert (again.last.by, again.last.why) == ("ben", "recounted")
    assert (cancel.action, cancel.times, cancel.lasted) == (A.CANCEL_ORDER, 1, 1)
    assert summarise([]) == ()


actions = st.sampled_from([*A, BY_ITSELF, *ReleaseActionKind])
pasts = st.builds(
    PastResolution,
    actions,
    st.just("x"),
    st.just(NOON),
    st.sampled_from([Outcome.LASTED, Outcome.FAILED, Outcome.UNDECIDED]),
)


@given(st.lists(pasts, max_size=60))
def test_every_case_counts_once(past: list[PastResolution]) -> None:
    found = summarise(past)
    assert sum(one.times for one in found) == len(past)
    assert all(min(one.lasted, one.failed, one.undecided) >= 0 for one in found)
    assert len({one.action for one in found}) == len(found)


def test_an_action_calls_where_something_is_reserved_anew_and_nowhere_else() -> None:
    calling = {
        (reason, action)
        for reason in R
        for status in S
        for action in allowed_actions(reason, status)
        if called_by(action, [reason])
    }
    assert calling == {(R.PENDING_INVENTORY, A.RETRY_RESERVATION), (R.INVENTORY_CONFIRMATION_FAILED, A.RECONFIRM)}
    assert called_by(A.RECONFIRM, [R.CONFIRMATION_TIMEOUT, R.INVENTORY_CONFIRMATION_FAILED]) == "reserve"
    assert called_by(None, list(R)) is None
