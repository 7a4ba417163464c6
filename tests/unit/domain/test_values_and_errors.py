"""The words of the domain are the contract's; errors carry the code, status and advice that callers see."""

from __future__ import annotations

import inspect
import re

import pytest

from services.domain import calls, errors
from services.domain.errors import ApiError
from services.domain.orders.model import (
    CustomerPriority,
    InventoryStatus,
    Line,
    OrderStatus,
    PaymentStatus,
    ReviewReason,
    aggregated,
)

WORDS = {
    OrderStatus: "RECEIVED RESERVING PENDING_INVENTORY PAYING PLACED CONFIRMED CONFIRMATION_FAILED CANCELLED "
    "REJECTED PARTIALLY_RETURNED RETURNED",
    InventoryStatus: "NONE RESERVED CONFIRM_REQUESTED INVENTORY_CONFIRMED INVENTORY_FAILED RELEASE_PENDING RELEASED "
    "RELEASE_FAILED RESTOCK_REQUESTED",
    PaymentStatus: "NONE UNKNOWN CAPTURED REFUND_PENDING REFUNDED FAILED",
    ReviewReason: "AVAILABILITY_UNVERIFIED PENDING_INVENTORY INVENTORY_CONFIRMATION_FAILED CONFIRMATION_TIMEOUT "
    "RELEASE_FAILED PAYMENT_UNKNOWN STEP_FAILED CONSERVATION_DIFFERENCE",
    CustomerPriority: "standard high",
}


@pytest.mark.parametrize(("kind", "words"), WORDS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_words_are_those_of_the_contract_and_our_own_reason_for_what_does_not_add_up(kind, words):
    assert [member.value for member in kind] == words.split()


def test_inventory_calls_and_outcomes_are_those_of_the_metrics():
    assert calls.INVENTORY_CALLS == ("check_availability", "reserve", "release")
    assert calls.OUTCOMES == (
        "success",
        "rejected",
        "timeout",
        "unavailable",
        "invalid",
        "short_circuited",
        "refused_us",
        "throttled",
    )


CODES = {
    errors.ValidationFailed: ("VALIDATION_ERROR", False),
    errors.PaymentDeclined: ("PAYMENT_DECLINED", False),
    errors.InventoryTimeout: ("INVENTORY_TIMEOUT", True),
    errors.InsufficientInventory: ("INSUFFICIENT_INVENTORY", False),
    errors.InvalidState: ("INVALID_STATE", False),
    errors.ReviewConflict: ("REVIEW_CONFLICT", False),
    errors.ReservationFailed: ("RESERVATION_FAILED", False),
    errors.IdempotencyKeyReused: ("IDEMPOTENCY_KEY_REUSED", False),
    errors.ReleaseFailed: ("RELEASE_FAILED", True),
    errors.InventoryUnavailable: ("INVENTORY_UNAVAILABLE", True),
    errors.PaymentOutcomeUnknown: ("PAYMENT_UNKNOWN", True),
}


@pytest.mark.parametrize(("kind", "shown"), CODES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_error_carries_its_code_and_advice(kind, shown):
    error = kind("told", {"a": 1})
    assert (error.code, error.retryable) == shown
    assert (str(error), error.message, error.details) == ("told", "told", {"a": 1})


@pytest.mark.parametrize(
    ("kind", "code", "details"),
    [
        ("order", "ORDER_NOT_FOUND", {"orderId": "x"}),
        ("review", "REVIEW_NOT_FOUND", {"reviewId": "x"}),
        ("dead-letter", "DEAD_LETTER_NOT_FOUND", {"deadLetterId": "x"}),
    ],
)
def test_what_is_not_found_is_named(kind, code, details):
    error = errors.NotFound(kind, "x")
    assert (error.code, error.details) == (code, details)
    assert "'x'" in error.message


def test_an_open_circuit_was_surely_not_sent_and_states_when_to_come_back():
    error = errors.CircuitOpen("reserver", 12.0)
    assert (error.may_have_run, error.retry_after_seconds, error.code) == (False, 12.0, "INVENTORY_UNAVAILABLE")


def test_a_dependency_that_failed_may_have_done_it():
    assert errors.InventoryTimeout("slow").may_have_run is True


def test_the_tree_in_the_docstring_names_every_error():
    named = errors.__doc__ or ""
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.HoldfastError) and kind is not ApiError:
            assert re.search(rf"\b{name}\b", named), name


def test_lines_of_one_variant_are_added_up_in_the_order_first_seen():
    lines = [Line("b", "1", 1), Line("a", "1", 2), Line("b", "1", 3), Line("b", "2", 1)]
    assert aggregated(lines) == (Line("b", "1", 4), Line("a", "1", 2), Line("b", "2", 1))


def test_a_line_on_the_wire_has_the_seeds_three_fields():
    assert Line("p", "v", 2, returned=1).wire() == {"productId": "p", "variantId": "v", "quantity": 2}
