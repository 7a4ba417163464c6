"""increase() and histogram_quantile() as Prometheus has them; beside it, promtool compares whole rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metrics.expressions import Increase, MaxGauge, Quantile, Ratio, increase, quantile
from services.metrics.sample import MetricWindow, Series

INF = float("inf")


def every_second(*values: float, start: int = 0) -> list[tuple[int, float]]:
    return [(start + 1000 * number, value) for number, value in enumerate(values)]


def test_one_point_implies_nothing_about_growth():
    assert increase([], 0, 1000) is None
    assert increase([(500, 3.0)], 0, 1000) is None


def test_a_window_that_is_covered_is_counted_as_it_is():
    assert increase(every_second(10, 12, 15), 0, 2000) == 5


def test_both_edges_of_the_window_belong_to_it():
    points = every_second(0, 1, 2, 3, start=1000)
    assert increase(points, 1000, 4000) == 3
    assert increase(points, 1001, 3999) == pytest.approx(1 * 2.998, rel=0.01)


def test_a_gap_smaller_than_usual_is_extrapolated_over_and_a_larger_one_half_a_step():
    assert increase([(500, 100), (1500, 101)], 0, 2000) == pytest.approx(2.0)
    assert increase([(5000, 100), (6000, 101)], 0, 10_000) == pytest.approx(2.0)


def test_a_counter_is_not_extrapolated_below_zero():
    assert increase([(1000, 1), (2000, 3)], 0, 2000) == pytest.approx(2 * 1.5)


def test_a_counter_that_falls_was_restarted():
    assert increase(every_second(7, 9, 1, 4), 0, 3000) == 2 + 1 + 3


@given(st.lists(st.integers(0, 50), min_size=2, max_size=30))
def test_growth_is_never_less_than_what_was_counted(steps):
    total, points = 0, []
    for number, evaluate_rules in enumerate(steps):
        total += evaluate_rules
        points.append((1000 * number, float(total)))
    grown = increase(points, -500, 1000 * len(steps))
    assert grown is not None
    assert grown >= total - steps[0]


def test_a_quantile_lies_within_its_bucket():
    assert quantile(0.5, {1.0: 0, 2.0: 10, INF: 10}) == 1.5
    assert quantile(0.95, {1.0: 100, 2.0: 100, INF: 100}) == pytest.approx(0.95)


def test_beyond_the_last_bound_the_bound_is_reported():
    assert quantile(0.95, {1.0: 1, 2.0: 2, INF: 100}) == 2.0


def test_an_empty_histogram_has_no_quantile():
    assert quantile(0.95, {}) is None
    assert quantile(0.95, {1.0: 0, INF: 0}) is None


def test_rounding_does_not_make_a_larger_bucket_smaller():
    assert quantile(0.5, {1.0: 5.0, 2.0: 4.999, INF: 5.0}) == pytest.approx(0.5)


REQUESTS = "inventory_requests_total"


def view(**counts: list[float]) -> MetricWindow:
    made = [Series({"outcome": outcome}, every_second(*values)) for outcome, values in counts.items()]
    return MetricWindow(
        2000, 2000, {REQUESTS: made}, {"depth": [({"b": "x"}, 1.0), ({"b": "x"}, 4.0), ({"b": "y"}, 2.0)]}
    )


def test_an_increase_adds_the_replicas_and_keeps_to_its_labels():
    assert Increase(REQUESTS, {"outcome": ("success",)}).evaluate(view(success=[0, 1, 4], timeout=[0, 9, 9])) == {(): 4}
    assert Increase(REQUESTS).evaluate(view(success=[0, 1, 4], timeout=[0, 9, 9])) == {(): 13}
    assert Increase(REQUESTS).evaluate(view()) == {}


def test_a_share_of_nothing_is_nothing():
    share = Ratio(Increase(REQUESTS, {"outcome": ("success",)}), Increase(REQUESTS))
    assert share.evaluate(view(success=[0, 0, 0], timeout=[0, 0, 0])) == {}
    assert share.evaluate(view(success=[0, 1, 3], timeout=[0, 0, 1])) == {(): 0.75}


def test_the_highest_of_all_replicas_counts():
    assert MaxGauge("depth").evaluate(view()) == {(): 4.0}
    assert MaxGauge("depth", ("b",)).evaluate(view()) == {(("b", "x"),): 4.0, (("b", "y"),): 2.0}
    assert MaxGauge("depth", (), {"b": ("y",)}).evaluate(view()) == {(): 2.0}


def test_expressions_write_themselves_in_promql():
    one = {"operation": ("reserve",)}
    assert Increase("m", one).promql("10s") == 'sum(increase(m{operation="reserve"}[10s]))'
    assert MaxGauge("m", ("breaker",), {"state": ("a", "b")}).promql("1s") == 'max by (breaker) (m{state=~"a|b"})'
    expected = 'histogram_quantile(0.95, sum by (le) (increase(m_bucket{operation="reserve"}[5s])))'
    assert Quantile(0.95, "m", one).promql("5s") == expected
    labelled = Ratio(Increase("m", by=("operation", "status")), Increase("n", by=("operation",)))
    parts = "sum by (operation, status) (increase(m[5s]))"
    assert labelled.promql("5s") == f"{parts} / on (operation) group_left () sum by (operation) (increase(n[5s]))"
    assert MaxGauge("m", is_over_window=True).promql("5s") == "max(max_over_time(m[5s]))"
