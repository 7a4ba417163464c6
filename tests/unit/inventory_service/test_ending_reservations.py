"""Confirming, releasing, cancelling, returning and expiring: each has its effect once."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError

from services.sandbox.inventory_service import stock, tables
from services.sandbox.inventory_service.stock import (
    AdjustmentRefused,
    AlreadyConfirmed,
    CancelOutcome,
    ConfirmationFailure,
)
from tests.support.inventory_shop import START, Shop, mugs, pens


def test_a_confirmation_deducts_and_stores_its_time(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(2), pens(1))
    assert shop.confirm(reservation) == START
    assert (shop.columns(mugs(0)), shop.columns(pens(0))) == ((8, 0), (4, 0))
    assert shop.kinds("o-1") == ["HOLD", "HOLD", "DEDUCT", "DEDUCT"]


def test_a_second_confirmation_deducts_nothing_and_gives_the_first_time(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(2))
    shop.confirm(reservation)
    shop.wait(3600)
    assert shop.confirm(reservation) == START
    assert shop.columns(mugs(0)) == (8, 0)


def test_a_reservation_is_confirmed_until_it_expires(shop: Shop) -> None:
    in_time, too_late = shop.reserve("o-1", mugs(1), seconds=60), shop.reserve("o-2", mugs(1), seconds=60)
    shop.wait(59.999)
    assert shop.confirm(in_time) == shop.now
    shop.wait(0.001)
    assert shop.confirm(too_late) == ConfirmationFailure.RESERVATION_EXPIRED
    assert shop.confirm(too_late) == ConfirmationFailure.RESERVATION_EXPIRED
    assert shop.columns(mugs(0)) == (9, 0)
    assert shop.kinds("o-2") == ["HOLD", "EXPIRE"]


def test_a_reservation_expired_by_the_sweeper_is_not_confirmed(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(1), seconds=60)
    shop.wait(60)
    assert shop.write(stock.expire) == 1
    assert shop.write(stock.expire) == 0
    assert shop.confirm(reservation) == ConfirmationFailure.RESERVATION_EXPIRED


@pytest.mark.parametrize("end", ["release", "cancel"])
def test_a_released_reservation_is_not_confirmed(shop: Shop, end: str) -> None:
    reservation = shop.reserve("o-1", mugs(1))
    getattr(shop, end)("o-1")
    assert shop.confirm(reservation) == ConfirmationFailure.RELEASED
    assert shop.columns(mugs(0)) == (10, 0)


def test_unknown_and_foreign_reservations_are_not_confirmed(shop: Shop) -> None:
    mine = shop.reserve("o-1", mugs(1))
    shop.reserve("o-2", mugs(1))
    shop.release("o-3")
    confirm = {
        order_id: shop.write(stock.confirm, order_id=order_id, reservation_id="r-none")
        for order_id in ("o-0", "o-2", "o-3")
    }
    assert confirm == {
        "o-0": ConfirmationFailure.UNKNOWN,
        "o-2": ConfirmationFailure.MISMATCH,
        "o-3": ConfirmationFailure.RELEASED,
    }
    assert shop.confirm(mine, order_id="o-2") == ConfirmationFailure.MISMATCH
    assert shop.columns(mugs(0)) == (10, 2)


def test_a_release_frees_the_stock_once(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(4))
    released = shop.release("o-1")
    assert released is not None
    assert released.reservation_id == reservation.reservation_id
    assert shop.release("o-1") is None
    assert shop.columns(mugs(0)) == (10, 0)
    assert shop.kinds("o-1") == ["HOLD", "RELEASE"]


def test_a_release_after_the_expiry_frees_nothing_twice(shop: Shop) -> None:
    shop.reserve("o-1", mugs(4), seconds=60)
    shop.wait(60)
    assert shop.release("o-1") is None
    assert shop.kinds("o-1") == ["HOLD", "EXPIRE"]
    assert shop.columns(mugs(0)) == (10, 0)


def test_a_release_of_confirmed_stock_is_refused_and_changes_nothing(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(4))
    shop.confirm(reservation)
    with pytest.raises(AlreadyConfirmed):
        shop.release("o-1")
    assert shop.columns(mugs(0)) == (6, 0)
    assert shop.confirm(reservation) == START


def test_a_cancel_restocks_what_was_deducted_once(shop: Shop) -> None:
    shop.confirm(shop.reserve("o-1", mugs(4), pens(1)))
    assert [shop.cancel("o-1"), shop.cancel("o-1")] == [CancelOutcome.RESTOCKED, CancelOutcome.NOTHING]
    assert (shop.columns(mugs(0)), shop.columns(pens(0))) == ((10, 0), (5, 0))
    assert shop.kinds("o-1")[-2:] == ["RESTOCK_CANCEL", "RESTOCK_CANCEL"]
    assert shop.release("o-1") is None


def test_a_cancel_does_not_restock_returned_goods(shop: Shop) -> None:
    shop.confirm(shop.reserve("o-1", mugs(4)))
    shop.take_back("o-1", "ret-1", mugs(1))
    shop.take_back("o-1", "ret-2", mugs(1), restockable=False)
    shop.cancel("o-1")
    assert shop.columns(mugs(0)) == (9, 0)


def test_a_fully_returned_line_is_not_restocked_again(shop: Shop) -> None:
    shop.confirm(shop.reserve("o-1", mugs(1), pens(1)))
    shop.take_back("o-1", "ret-1", mugs(1))
    assert shop.cancel("o-1") == CancelOutcome.RESTOCKED
    assert (shop.columns(mugs(0)), shop.columns(pens(0))) == ((10, 0), (5, 0))


def test_a_return_is_accepted_once_and_never_beyond_what_was_deducted(shop: Shop) -> None:
    shop.confirm(shop.reserve("o-1", mugs(3)))
    assert shop.take_back("o-1", "ret-1", mugs(1), mugs(1), pens(1)) == (mugs(2),)
    assert shop.take_back("o-1", "ret-1", mugs(1)) == ()
    assert shop.take_back("o-1", "ret-2", mugs(5)) == (mugs(1),)
    assert shop.take_back("o-1", "ret-3", mugs(1)) == ()
    assert shop.columns(mugs(0)) == (10, 0)
    assert shop.columns(pens(0)) == (5, 0)


def test_returns_of_two_orders_may_have_the_same_id(shop: Shop) -> None:
    for order_id in ("o-1", "o-2"):
        shop.confirm(shop.reserve(order_id, mugs(1)))
        assert shop.take_back(order_id, "ret-1", mugs(1)) == (mugs(1),)
    assert shop.columns(mugs(0)) == (10, 0)


def test_damaged_goods_are_counted_and_not_restocked(shop: Shop) -> None:
    shop.confirm(shop.reserve("o-1", mugs(3)))
    assert shop.take_back("o-1", "ret-1", mugs(2), restockable=False) == (mugs(2),)
    assert shop.take_back("o-1", "ret-2", mugs(3)) == (mugs(1),)
    assert shop.columns(mugs(0)) == (8, 0)


@pytest.mark.parametrize("end", ["nothing", "release", "cancel"])
def test_an_unconfirmed_order_accepts_no_return(shop: Shop, end: str) -> None:
    shop.reserve("o-1", mugs(3))
    getattr(shop, end, lambda _: None)("o-1")
    before = shop.columns(mugs(0))
    assert shop.take_back("o-1", "ret-1", mugs(1)) == ()
    assert shop.take_back("o-unknown", "ret-1", mugs(1)) == ()
    assert shop.columns(mugs(0)) == before


def test_reserved_stock_cannot_be_counted_out(shop: Shop) -> None:
    shop.reserve("o-1", mugs(4))
    with pytest.raises(AdjustmentRefused) as refused:
        shop.adjust(mugs(0), -7)
    assert (refused.value.on_hand, refused.value.reserved) == (10, 4)
    shop.adjust(mugs(0), -6)
    assert shop.columns(mugs(0)) == (4, 4)


def test_an_unknown_product_cannot_be_counted(shop: Shop) -> None:
    with pytest.raises(AdjustmentRefused) as refused:
        shop.write(stock.adjust, product_id="p-none", variant_id="v", delta=1, reason="count")
    assert refused.value.on_hand is None


def test_the_ledger_cannot_be_rewritten(shop: Shop) -> None:
    for statement in (update(tables.ledger).values(on_hand_delta=1), delete(tables.ledger)):
        with pytest.raises(IntegrityError, match="append-only"):
            shop.database.write_now(lambda connection, what=statement: connection.execute(what))
    assert shop.read(lambda c: c.scalar(select(func.count()).select_from(tables.ledger))) == 2


def test_a_column_that_differs_from_its_ledger_is_found(shop: Shop) -> None:
    shop.reserve("o-1", mugs(2))
    assert shop.imbalances() == []
    stray = update(tables.stock).where(tables.stock.c.product_id == "p-mug").values(on_hand=9, reserved=3)
    shop.database.write_now(lambda connection: connection.execute(stray))
    found = [(i.sku[0], i.column, i.stored, i.expected, i.of) for i in shop.imbalances()]
    assert found == [
        ("p-mug", "on_hand", 9, 10, "ledger"),
        ("p-mug", "reserved", 3, 2, "ledger"),
        ("p-mug", "reserved", 3, 2, "holds"),
    ]


@pytest.mark.parametrize("values", [{"on_hand": -1}, {"reserved": -1}, {"reserved": 11}, {"level": "PLENTY"}])
def test_the_database_itself_refuses_impossible_stock(shop: Shop, values: dict[str, object]) -> None:
    with pytest.raises(IntegrityError):
        shop.database.write_now(lambda connection: connection.execute(update(tables.stock).values(values)))
