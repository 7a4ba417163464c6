"""Most kinds of fault, one after the other in the middle of traffic, leave books that agree."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from state.engine.source import read_only
from tests.chaos.faults import FAULTS
from tests.chaos.soak import BRISK, STEADY, Report, longest_unsettled_seconds, plan, soak
from tests.support.orders_harness import OrdersHarness

SEED = 1
SECONDS = 36.0
"""As planned; processes that take their time to come back make it about 40."""


@pytest.mark.parametrize("seed", range(50))
def test_forty_seconds_hold_at_least_eight_kinds_whatever_the_seed(seed: int) -> None:
    kinds = [step.fault.kind for step in plan(random.Random(seed), SECONDS, BRISK)]
    assert len(set(kinds)) >= 8


def test_ten_minutes_hold_every_kind_and_four_faults_a_minute() -> None:
    kinds = [step.fault.kind for step in plan(random.Random(SEED), 600.0, STEADY)]
    assert set(kinds) == {fault.kind for fault in FAULTS}
    assert len(FAULTS) >= 10
    assert len(kinds) >= 40


def test_the_same_seed_plans_the_same_faults() -> None:
    assert plan(random.Random(3), 60.0, STEADY) == plan(random.Random(3), 60.0, STEADY)
    assert plan(random.Random(3), 60.0, STEADY) != plan(random.Random(4), 60.0, STEADY)


CLEAN = Report(
    seconds=60.0,
    faults=Counter({"kill -9 worker": 2, "SIGSTOP payments": 3}),
    kills=2,
    drained_seconds=1.5,
    still_waiting="",
    acknowledged=Counter({"CONFIRMED": 7}),
    refused=Counter({"PAYMENT_DECLINED": 1}),
    for_people=Counter(),
    longest_unsettled_seconds=12.25,
    differences=(),
    broken_promises=(),
)


@pytest.mark.parametrize(
    "finding",
    [{"differences": ("DEDUCTED_TWICE",)}, {"broken_promises": ("order o-1 is lost",)}, {"still_waiting": "1 order"}],
)
def test_a_soak_is_clean_only_without_any_finding(finding: dict[str, Any]) -> None:
    assert CLEAN.is_clean
    found = replace(CLEAN, **finding)
    assert not found.is_clean
    (what,) = finding.values()
    assert (what if isinstance(what, str) else what[0]) in "\n".join(found.lines())


def test_a_report_counts_faults_by_kind_and_orders_by_outcome() -> None:
    lines = CLEAN.lines()
    assert "orders       8 placed: 7 acknowledged, 1 refused" in lines
    assert "faults       5 of 2 kinds, 5.0 a minute" in lines
    assert "  SIGSTOP payments               3" in lines


async def test_an_order_is_unsettled_from_its_acknowledgement_until_it_is_confirmed(
    shop: OrdersHarness, sqlite_url: str
) -> None:
    order = await shop.place()
    acknowledged_at = {order.order_id: shop.clock()}
    with read_only(sqlite_url) as books:
        assert longest_unsettled_seconds(books, acknowledged_at) == 0
    shop.clock.advance(7)
    await shop.pump()
    shop.clock.advance(5)
    await shop.take_back(order.order_id)
    with read_only(sqlite_url) as books:
        assert longest_unsettled_seconds(books, acknowledged_at) == 7


@pytest.mark.slow
async def test_a_short_soak_finds_nothing(tmp_path: Path) -> None:
    steps = plan(random.Random(SEED), SECONDS, BRISK)
    report = await soak(tmp_path, steps, seed=SEED, tell=print)
    print("\n".join(report.lines()))  # noqa: T201 - figures for people, shown by pytest -s
    assert report.differences == ()
    assert report.broken_promises == ()
    assert report.still_waiting == ""
    assert len(report.faults) >= 8
    assert report.acknowledged["CONFIRMED"] >= 50
