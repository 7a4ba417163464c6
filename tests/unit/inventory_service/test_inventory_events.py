"""What the service hears and says: answers, edges of stock, and nothing twice."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from services.messaging.envelope import decode
from services.sandbox.inventory_service import outbox, stock, tables
from state import outbox as stored
from tests.support.inventory_shop import Shop, mugs, pens

CONFIRM = "inventory.confirm_requested"


def test_a_confirmed_reservation_is_answered_in_the_envelope_of_the_seed(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(1))
    assert shop.handle(CONFIRM, orderId="o-1", reservationId=reservation.reservation_id) == "confirmed"
    (event,) = shop.published()
    assert event.pop("id")
    assert event == {
        "type": "inventory.confirmed",
        "source": "inventory-service",
        "dataVersion": "1.0",
        "timestamp": "2026-11-21T15:27:30.123Z",
        "correlationId": "o-1",
        "data": {
            "orderId": "o-1",
            "reservationId": reservation.reservation_id,
            "confirmedAt": "2026-11-21T15:27:30.123Z",
        },
    }


def test_what_is_published_can_be_read_by_the_order_service(shop: Shop) -> None:
    shop.handle(CONFIRM, orderId="o-1", reservationId="r-none")
    shop.reserve("o-2", mugs(8))
    shop.reserve("o-3", mugs(2))
    shop.release("o-3")
    shop.handle(CONFIRM, orderId="o-2", reservationId=shop.reserve("o-2", mugs(8)).reservation_id)
    rows = shop.read(lambda c: c.execute(select(tables.outbox.c.subject, tables.outbox.c.payload)).all())
    read = [decode(payload, subject=subject, headers=None, fallback_id="none") for subject, payload in rows]
    assert [event.type for event in read] == [
        "inventory.confirmation_failed",
        "inventory.low_stock",
        "inventory.out_of_stock",
        "inventory.back_in_stock",
        "inventory.confirmed",
    ]
    assert len({event.event_id for event in read}) == len(read)
    assert read[0].data["reason"] == "UNKNOWN"


def test_the_same_event_again_changes_and_answers_nothing(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(1))
    for _ in range(2):
        shop.handle(CONFIRM, "e-1", orderId="o-1", reservationId=reservation.reservation_id)
    assert shop.published_types() == ["inventory.confirmed"]
    assert shop.columns(mugs(0)) == (9, 0)


def test_one_id_of_two_senders_or_of_two_types_is_two_events(shop: Shop) -> None:
    first, second = shop.reserve("o-1", mugs(1)), shop.reserve("o-2", mugs(2))
    assert shop.handle(CONFIRM, "1", source="shop-a", orderId="o-1", reservationId=first.reservation_id) == "confirmed"
    assert shop.handle(CONFIRM, "1", source="shop-b", orderId="o-2", reservationId=second.reservation_id) == "confirmed"
    assert shop.handle("order.cancelled", "1", source="shop-a", orderId="o-1") != "duplicate"
    assert shop.handle("order.cancelled", "1", source="shop-a", orderId="o-1") == "duplicate"
    assert shop.columns(mugs(0)) == (8, 0)


def test_pruning_forgets_old_events_and_keeps_a_new_one_with_the_same_id(shop: Shop) -> None:
    shop.handle("order.cancelled", "1", source="shop-a", orderId="o-1")
    shop.wait(outbox.HANDLED_KEPT.total_seconds() + 1)
    shop.handle("order.cancelled", "1", source="shop-b", orderId="o-1")
    shop.write(outbox.prune)
    assert shop.handle("order.cancelled", "1", source="shop-b", orderId="o-1") == "duplicate"
    assert shop.handle("order.cancelled", "1", source="shop-a", orderId="o-1") != "duplicate"


def test_a_repeated_confirm_request_is_answered_with_one_deduction(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(1))
    shop.handle(CONFIRM, orderId="o-1", reservationId=reservation.reservation_id)
    shop.wait(300)
    shop.handle(CONFIRM, orderId="o-1", reservationId=reservation.reservation_id)
    first, second = shop.published()
    assert first["data"] == second["data"]
    assert first["id"] != second["id"]
    assert shop.columns(mugs(0)) == (9, 0)


def test_a_silent_confirmation_deducts_and_answers_a_repeated_request(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(1))
    shop.handle(CONFIRM, is_silent=True, orderId="o-1", reservationId=reservation.reservation_id)
    assert shop.published() == []
    assert shop.columns(mugs(0)) == (9, 0)
    shop.handle(CONFIRM, orderId="o-1", reservationId=reservation.reservation_id)
    assert shop.published_types() == ["inventory.confirmed"]


def test_a_created_order_is_validated_and_nothing_is_deducted(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(2))
    items = [mugs(1).wire(), mugs(1).wire()]
    outcome = shop.handle("order.created", orderId="o-1", reservationId=reservation.reservation_id, items=items)
    assert outcome == "valid"
    assert shop.published() == []
    assert shop.columns(mugs(0)) == (10, 2)


def test_a_created_order_with_other_items_fails_and_stays_failed(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(2))
    key = {"orderId": "o-1", "reservationId": reservation.reservation_id}
    assert shop.handle("order.created", **key, items=[pens(2).wire()]) == "mismatch"
    assert shop.handle(CONFIRM, **key) == "MISMATCH"
    assert [event["data"]["reason"] for event in shop.published()] == ["MISMATCH", "MISMATCH"]
    assert shop.columns(mugs(0)) == (10, 2)


def test_reserving_the_same_lines_again_clears_a_mismatch(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(2))
    key = {"orderId": "o-1", "reservationId": reservation.reservation_id}
    shop.handle("order.created", **key, items=[pens(2).wire()])
    assert shop.reserve("o-1", mugs(2)).reservation_id == reservation.reservation_id
    assert shop.handle(CONFIRM, **key) == "confirmed"


def test_created_and_confirm_requested_may_come_in_either_order(shop: Shop) -> None:
    for order_id, order in (("o-1", ("order.created", CONFIRM)), ("o-2", (CONFIRM, "order.created"))):
        reservation = shop.reserve(order_id, mugs(1))
        for event_type in order:
            data = {"orderId": order_id, "reservationId": reservation.reservation_id}
            shop.handle(event_type, **data, **({"items": [mugs(1).wire()]} if event_type != CONFIRM else {}))
    assert shop.published_types() == ["inventory.confirmed"] * 2
    assert shop.columns(mugs(0)) == (8, 0)


def test_a_created_order_without_a_reservation_is_left_to_its_confirmation(shop: Shop) -> None:
    assert shop.handle("order.created", orderId="o-1", reservationId="r-1", items=[mugs(1).wire()]) == "valid"
    assert shop.published() == []


def test_cancelled_and_returned_orders_act_on_stock(shop: Shop) -> None:
    for order_id in ("o-1", "o-2"):
        shop.confirm(shop.reserve(order_id, mugs(2)))
    shop.reserve("o-3", mugs(1))
    returned = {"returnId": "ret-1", "items": [mugs(1).wire()], "restockable": True}
    assert shop.handle("order.returned", orderId="o-1", **returned) == "accepted"
    assert shop.handle("order.returned", orderId="o-1", **returned) == "nothing to accept"
    assert shop.handle("order.cancelled", orderId="o-2") == "restocked"
    assert shop.handle("order.cancelled", orderId="o-3") == "released"
    assert shop.handle("order.cancelled", orderId="o-4") == "nothing"
    assert shop.columns(mugs(0)) == (9, 0)
    assert shop.imbalances() == []


def test_low_stock_is_announced_once_on_the_way_down(shop: Shop) -> None:
    shop.reserve("o-1", mugs(6))
    assert shop.published() == []
    shop.reserve("o-2", mugs(1))
    shop.reserve("o-3", mugs(1))
    (event,) = shop.published()
    assert event["type"] == "inventory.low_stock"
    assert event["data"] == {"productId": "p-mug", "variantId": "v-white", "availableQuantity": 3, "threshold": 3}


def test_low_stock_is_announced_again_after_the_way_up(shop: Shop) -> None:
    shop.reserve("o-1", mugs(8))
    shop.release("o-1")
    shop.reserve("o-2", mugs(7))
    assert shop.published_types() == ["inventory.low_stock"] * 2


def test_out_of_stock_and_back_in_stock_are_published_on_the_level_change(shop: Shop) -> None:
    shop.reserve("o-1", mugs(10))
    shop.adjust(mugs(0), 2)
    shop.adjust(mugs(0), 10)
    assert [(event["type"], event["data"].get("availableQuantity")) for event in shop.published()] == [
        ("inventory.out_of_stock", None),
        ("inventory.back_in_stock", 2),
    ]


def test_deducting_reserved_stock_changes_no_level(shop: Shop) -> None:
    reservation = shop.reserve("o-1", mugs(10))
    shop.confirm(reservation)
    assert shop.published_types() == ["inventory.out_of_stock"]


def test_the_sweeper_publishes_back_in_stock(shop: Shop) -> None:
    shop.reserve("o-1", mugs(10), seconds=60)
    shop.wait(60)
    shop.write(stock.expire)
    assert shop.published_types() == ["inventory.out_of_stock", "inventory.back_in_stock"]


def test_stock_released_and_reserved_in_one_transaction_publishes_nothing(shop: Shop) -> None:
    shop.reserve("o-1", mugs(10), seconds=60)
    shop.wait(60)
    shop.reserve("o-2", mugs(10))
    assert shop.published_types() == ["inventory.out_of_stock"]


def test_the_opening_stock_publishes_nothing(shop: Shop) -> None:
    assert shop.published() == []
    assert shop.imbalances() == []


def test_an_undeliverable_event_is_not_claimed_until_retried(shop: Shop) -> None:
    for order_id in ("o-1", "o-2"):
        shop.handle(CONFIRM, orderId=order_id, reservationId="r-none")
    first, second = claimed(shop)
    shop.write(
        stored.settle_and_claim,
        settled=[],
        failed=[(second.id, "no answer")],
        limit=0,
        undeliverable=[(first.id, "too large")],
    )
    shop.wait(3600)
    assert [row.id for row in claimed(shop)] == [second.id]
    assert (shop.read(stored.pending)[0], shop.read(stored.count_undeliverable)) == (1, 1)
    (event,) = shop.read(lambda c: stored.undeliverable(c, 10))
    assert (event.id, event.reason, event.attempts) == (first.id, "too large", 1)
    shop.database.write_now(lambda c: stored.retry(c, first.id))
    shop.database.write_now(lambda c: stored.discard(c, first.id))
    assert [row.id for row in claimed(shop, settled=[second.id])] == [first.id]


def claimed(shop: Shop, settled: Sequence[int] = ()) -> list[stored.Claimed]:
    return shop.write(stored.settle_and_claim, settled=settled, failed=[], limit=10)
