"""Customers send goods back: once per return, never more than was bought. Source: requirements 2.2; contract 3."""

from __future__ import annotations

import asyncio

import pytest

from services.domain.errors import IdempotencyKeyReused, InvalidState, NotFound
from services.domain.orders.model import Line

CHAIR, LAMP = ("chair", "oak"), ("lamp", "brass")


@pytest.fixture
async def confirmed(shop):
    """Two chairs and a lamp, deducted from the shelves."""
    return await shop.place_confirmed()


def chairs(quantity: int) -> Line:
    return Line(*CHAIR, quantity)


async def test_everything_that_comes_back_returns_the_order(shop, confirmed):
    order, return_id = await shop.take_back(confirmed.order_id, return_id="r-1")
    assert (order.status, order.inventory_status, return_id) == ("RETURNED", "RESTOCK_REQUESTED", "r-1")
    assert [line.returned for line in order.lines] == [2, 1]
    assert order.payment_status == "CAPTURED"


async def test_a_return_is_announced_with_what_came_back_and_why(shop, confirmed):
    await shop.take_back(confirmed.order_id, chairs(1), return_id="r-1", reason="DAMAGED", restockable=False)
    sent = (await shop.sent(confirmed.order_id))[-1]
    assert sent.data == {
        "eventType": "order.returned",
        "orderId": confirmed.order_id,
        "userId": "user-1",
        "returnId": "r-1",
        "items": [{"productId": "chair", "variantId": "oak", "quantity": 1}],
        "reason": "DAMAGED",
        "restockable": False,
        "timestamp": "2026-03-01T12:00:00.000Z",
    }


async def test_a_part_that_comes_back_leaves_the_order_partially_returned(shop, confirmed):
    order, _ = await shop.take_back(confirmed.order_id, chairs(1))
    assert (order.status, [line.returned for line in order.lines]) == ("PARTIALLY_RETURNED", [1, 0])


async def test_parts_add_up_to_the_whole(shop, confirmed):
    for line, status in ((chairs(1), "PARTIALLY_RETURNED"), (Line(*LAMP, 1), "PARTIALLY_RETURNED")):
        order, _ = await shop.take_back(confirmed.order_id, line)
        assert order.status == status
    order, _ = await shop.take_back(confirmed.order_id, chairs(1))
    assert order.status == "RETURNED"
    await shop.pump()
    assert (shop.inventory.on_hand[CHAIR], shop.inventory.on_hand[LAMP]) == (100, 100)
    assert len(shop.inventory.restocked) == 3


async def test_goods_that_cannot_be_sold_again_are_not_restocked(shop, confirmed):
    order, _ = await shop.take_back(confirmed.order_id, restockable=False)
    assert order.inventory_status == "INVENTORY_CONFIRMED"
    await shop.pump()
    assert shop.inventory.on_hand[CHAIR] == 98


async def test_the_same_return_twice_takes_effect_once(shop, confirmed):
    first, _ = await shop.take_back(confirmed.order_id, chairs(1), return_id="r-1")
    before, told = await shop.everything(), len(shop.recorded)
    again, return_id = await shop.take_back(confirmed.order_id, chairs(1), return_id="r-1")
    assert (again, return_id) == (first, "r-1")
    assert (await shop.everything(), len(shop.recorded)) == (before, told)


async def test_a_repeated_return_that_completed_the_order_is_answered_again(shop, confirmed):
    first, _ = await shop.take_back(confirmed.order_id, return_id="r-1")
    again, _ = await shop.take_back(confirmed.order_id, return_id="r-1")
    assert again == first


async def test_the_same_return_many_times_at_once_takes_effect_once(shop, confirmed):
    answers = await asyncio.gather(*(shop.take_back(confirmed.order_id, chairs(1), return_id="r-1") for _ in range(10)))
    assert {order.lines[0].returned for order, _ in answers} == {1}
    assert (await shop.sent_types()).count("order.returned") == 1


@pytest.mark.parametrize("lines", [(chairs(2),), (Line(*LAMP, 1),)], ids=["other quantity", "other goods"])
async def test_a_return_id_with_other_goods_is_refused_and_nothing_is_written(shop, confirmed, lines):
    await shop.take_back(confirmed.order_id, chairs(1), return_id="r-1")
    before = await shop.everything()
    with pytest.raises(IdempotencyKeyReused) as caught:
        await shop.take_back(confirmed.order_id, *lines, return_id="r-1")
    assert caught.value.details == {"returnId": "r-1"}
    assert await shop.everything() == before


async def test_a_return_id_is_that_of_its_order_only(shop, confirmed):
    other = await shop.place_confirmed()
    await shop.take_back(confirmed.order_id, chairs(1), return_id="r-1")
    order, return_id = await shop.take_back(other.order_id, chairs(1), return_id="r-1")
    assert (order.order_id, return_id) == (other.order_id, "r-1")
    assert sum(line.returned for line in order.lines) == 1
    again, _ = await shop.take_back(other.order_id, chairs(1), return_id="r-1")
    assert again == order


async def test_a_return_id_that_is_a_uuid_is_the_same_in_any_case(shop, confirmed):
    name = "0b5fa06d-29a4-4c1a-9f0e-1ab27b0d4c11"
    await shop.take_back(confirmed.order_id, chairs(1), return_id=name)
    order, return_id = await shop.take_back(confirmed.order_id, chairs(1), return_id=name.upper())
    assert (sum(line.returned for line in order.lines), return_id) == (1, name)


@pytest.mark.parametrize(
    ("lines", "excess"),
    [
        ((chairs(3),), [("chair", 3, 2)]),
        ((chairs(2), chairs(1)), [("chair", 3, 2)]),
        ((Line(*LAMP, 2), chairs(9)), [("lamp", 2, 1), ("chair", 9, 2)]),
        ((Line("sofa", "red", 1),), [("sofa", 1, 0)]),
    ],
    ids=["one line", "split lines", "two lines", "never bought"],
)
async def test_more_than_was_bought_is_refused_with_every_such_line_and_nothing_is_written(
    shop, confirmed, lines, excess
):
    before, told = await shop.everything(), len(shop.recorded)
    with pytest.raises(InvalidState) as caught:
        await shop.take_back(confirmed.order_id, *lines)
    named = [(i["productId"], i["quantity"], i["returnableQuantity"]) for i in caught.value.details["items"]]
    assert named == excess
    assert (await shop.everything(), len(shop.recorded)) == (before, told)


async def test_several_returns_together_cannot_exceed_what_was_bought(shop, confirmed):
    await shop.take_back(confirmed.order_id, chairs(2))
    with pytest.raises(InvalidState) as caught:
        await shop.take_back(confirmed.order_id, chairs(1))
    assert caught.value.details["items"][0]["returnableQuantity"] == 0


async def test_concurrent_returns_never_exceed_what_was_bought(shop, confirmed):
    answers = await asyncio.gather(
        *(shop.take_back(confirmed.order_id, chairs(1)) for _ in range(6)), return_exceptions=True
    )
    assert sum(1 for answer in answers if isinstance(answer, InvalidState)) == 4
    assert (await shop.order(confirmed.order_id)).lines[0].returned == 2


async def test_an_order_that_was_never_confirmed_cannot_be_returned(shop):
    order = await shop.place()
    before = await shop.everything()
    with pytest.raises(InvalidState) as caught:
        await shop.take_back(order.order_id)
    assert caught.value.details == {"orderId": order.order_id, "status": "PLACED"}
    assert await shop.everything() == before


async def test_an_unknown_order_cannot_be_returned(shop):
    with pytest.raises(NotFound):
        await shop.take_back("nobody")
