"""The error budget of reservations and how fast it burns."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metrics.objective import PACES, PERIOD, WINDOWS, Calls, burn_rate, evaluate

FAST, SLOW = PACES


def everywhere(calls: Calls) -> dict[timedelta, Calls]:
    return dict.fromkeys(WINDOWS, calls)


def test_a_month_without_failures_leaves_the_budget_untouched() -> None:
    budget = evaluate(0.95, everywhere(Calls(1000, 1000)))
    assert (budget.left, budget.calls.success_rate, budget.is_used_up) == (1.0, 1.0, False)
    assert [burn.is_too_fast for burn in budget.burns] == [False, False]


def test_failing_exactly_as_often_as_allowed_uses_the_budget_up() -> None:
    budget = evaluate(0.95, everywhere(Calls(950, 1000)))
    assert budget.left == pytest.approx(0)
    assert burn_rate(0.95, Calls(950, 1000)) == pytest.approx(1)


def test_failing_twice_as_often_overdraws_it() -> None:
    budget = evaluate(0.95, everywhere(Calls(900, 1000)))
    assert budget.left == pytest.approx(-1)
    assert budget.is_used_up


def test_without_calls_nothing_is_known() -> None:
    budget = evaluate(0.95, {})
    assert (budget.left, budget.calls.success_rate, budget.burns[0].long) == (None, None, None)
    assert not budget.burns[0].is_too_fast
    assert not budget.is_used_up


def test_a_target_of_everything_allows_no_failure() -> None:
    assert burn_rate(1.0, Calls(10, 10)) == 0
    assert burn_rate(1.0, Calls(9, 10)) == math.inf


def test_a_burn_is_too_fast_only_while_it_lasts() -> None:
    failing, fine = Calls(10, 100), Calls(100, 100)
    failing_hour = {FAST.long: failing, FAST.short: fine, SLOW.long: failing, SLOW.short: failing, PERIOD: fine}
    fast, slow = evaluate(0.95, failing_hour).burns
    assert (fast.is_too_fast, slow.is_too_fast) == (False, True)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0.01, 0.999))
def test_more_failures_never_burn_slower(total: int, failed: int, target: float) -> None:
    failed = min(failed, total)
    calm = burn_rate(target, Calls(total - failed, total))
    worse = burn_rate(target, Calls(max(0, total - failed - 1), total))
    assert calm is not None
    assert worse is not None
    assert worse >= calm >= 0
