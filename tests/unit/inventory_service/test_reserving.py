"""Reserving: all lines or none, once per order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from services.domain.orders.model import Line
from services.sandbox.inventory_service.stock import InsufficientStock, RefusalReason, ReservationRefused
from tests.support.inventory_shop import Shop, mugs, pens


def test_a_reservation_reserves_every_line(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(2), pens(1))
    assert reservation.state == "ACTIVE"
    assert (reservation.expires_at - shop.now).total_seconds() == 1800
    assert shop.columns(mugs(0)) == (10, 2)
    assert shop.columns(pens(0)) == (5, 1)
    assert shop.kinds("o-1") == ["HOLD", "HOLD"]


def test_a_repeated_request_returns_the_same_reservation_and_expiry(shop: Shop) -> None:
    first = shop.reserve("o-1", mugs(2), pens(1))
    shop.wait(60)
    assert shop.reserve("o-1", pens(1), mugs(1), mugs(1)) == first
    assert shop.columns(mugs(0)) == (10, 2)
    assert shop.kinds("o-1") == ["HOLD", "HOLD"]


@pytest.mark.parametrize("lines", [(mugs(3),), (mugs(2), pens(1)), (pens(2),)])
def test_the_same_order_with_other_lines_is_refused(shop: Shop, lines: tuple[Line, ...]) -> None:
    shop.reserve("o-1", mugs(2))
    with pytest.raises(ReservationRefused) as refused:
        shop.reserve("o-1", *lines)
    assert refused.value.reason == RefusalReason.OTHER_LINES
    assert shop.columns(mugs(0)) == (10, 2)
    assert shop.columns(pens(0)) == (5, 0)


def test_lines_of_one_product_are_summed_before_reserving(shop: Shop) -> None:
    with pytest.raises(InsufficientStock) as short:
        shop.reserve("o-1", mugs(6), mugs(6))
    assert short.value.short == ((mugs(12), 10),)


def test_a_shortage_names_every_short_line_and_reserves_none(shop: Shop) -> None:
    unknown = Line("p-none", "v-none", 1)
    with pytest.raises(InsufficientStock) as short:
        shop.reserve("o-1", mugs(11), unknown, pens(6))
    assert set(short.value.short) == {(mugs(11), 10), (pens(6), 5), (unknown, 0)}
    assert shop.columns(mugs(0)) == (10, 0)
    assert shop.kinds("o-1") == []
    assert shop.published() == []


def test_an_available_line_is_not_reserved_when_another_is_short(shop: Shop) -> None:
    with pytest.raises(InsufficientStock) as short:
        shop.reserve("o-1", mugs(2), pens(6))
    assert short.value.short == ((pens(6), 5),)
    assert shop.columns(mugs(0)) == (10, 0)
    assert shop.imbalances() == []


def test_an_expired_order_makes_a_fresh_attempt(shop: Shop) -> None:
    first = shop.reserve("o-1", mugs(2), seconds=60)
    shop.wait(60)
    second = shop.reserve("o-1", mugs(3))
    assert second.reservation_id != first.reservation_id
    assert shop.columns(mugs(0)) == (10, 3)
    assert shop.kinds("o-1") == ["HOLD", "EXPIRE", "HOLD"]


def test_a_confirmed_order_gets_the_same_answer(shop: Shop) -> None:
    first = shop.reserve("o-1", mugs(2))
    shop.confirm(first)
    again = shop.reserve("o-1", mugs(2))
    assert (again.reservation_id, again.expires_at) == (first.reservation_id, first.expires_at)
    assert shop.columns(mugs(0)) == (8, 0)


def test_a_confirmed_order_does_not_become_another_one(shop: Shop) -> None:
    shop.confirm(shop.reserve("o-1", mugs(2)))
    with pytest.raises(ReservationRefused):
        shop.reserve("o-1", mugs(3))


@pytest.mark.parametrize("end", ["release", "cancel"])
def test_an_ended_order_never_reserves_again(shop: Shop, end: str) -> None:
    shop.reserve("o-1", mugs(2))
    getattr(shop, end)("o-1")
    with pytest.raises(ReservationRefused) as refused:
        shop.reserve("o-1", mugs(2))
    assert refused.value.reason == RefusalReason.RELEASED
    assert shop.columns(mugs(0)) == (10, 0)


@pytest.mark.parametrize("end", ["release", "cancel"])
def test_a_late_reserve_of_an_order_that_ended_before_it_was_known_is_refused(shop: Shop, end: str) -> None:
    getattr(shop, end)("o-late")
    with pytest.raises(ReservationRefused):
        shop.reserve("o-late", mugs(1))
    assert shop.columns(mugs(0)) == (10, 0)


def test_an_overdue_reservation_blocks_no_other_order(shop: Shop) -> None:
    shop.reserve("o-1", mugs(10), seconds=60)
    shop.wait(59.999)
    with pytest.raises(InsufficientStock):
        shop.reserve("o-2", mugs(1))
    shop.wait(0.001)
    assert shop.available(mugs(1)) == 10
    shop.reserve("o-2", mugs(10))
    assert shop.kinds("o-1") == ["HOLD", "EXPIRE"]
    assert shop.imbalances() == []


def test_concurrent_orders_never_reserve_more_than_available(shop: Shop) -> None:
    def attempt(number: int) -> bool:
        try:
            shop.reserve(f"o-{number}", mugs(1), pens(1))
        except InsufficientStock:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(attempt, range(40))) == 5
    assert shop.columns(pens(0)) == (5, 5)
    assert shop.columns(mugs(0)) == (10, 5)
    assert shop.imbalances() == []
