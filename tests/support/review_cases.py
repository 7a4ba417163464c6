"""Review cases in every situation that a person can resolve."""

from __future__ import annotations

from tests.support.fakes import CAPTURE, FIND_PAYMENT, Fault, PaymentFault

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"


async def unverified(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    return await shop.place_high()


async def waiting(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    return await shop.place()


async def unconfirmed(shop):
    order = await shop.place()
    await shop.deliver("inventory.confirmation_failed", order, reason="RESERVATION_EXPIRED")
    shop.clock.advance(2000)
    return await shop.order(order.order_id)


async def unanswered(shop):
    order = await shop.place()
    for _ in range(3):
        order = await shop.sweep_when_due(order.order_id)
    return order


async def unsettled(shop, fault=PaymentFault.LOST_AFTER):
    shop.payments.fail(CAPTURE, fault)
    shop.payments.fail(FIND_PAYMENT, *[PaymentFault.LOST_BEFORE] * 7)
    order = await shop.place()
    while order.due_at is not None:
        order = await shop.sweep_when_due(order.order_id)
    return order


async def unreleased(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    # The last attempt had its effect, only its answer was lost.
    shop.inventory.fail(RELEASE, *[Fault.UNAVAILABLE] * 7, Fault.UNAVAILABLE_AFTER)
    order = await shop.place()
    await shop.quiesce()
    return await shop.order(order.order_id)


SITUATIONS = {
    "AVAILABILITY_UNVERIFIED": unverified,
    "PENDING_INVENTORY": waiting,
    "INVENTORY_CONFIRMATION_FAILED": unconfirmed,
    "CONFIRMATION_TIMEOUT": unanswered,
    "PAYMENT_UNKNOWN": unsettled,
    "RELEASE_FAILED": unreleased,
}


ALLOWED = {
    "AVAILABILITY_UNVERIFIED": ["APPROVE", "CANCEL_ORDER"],
    "PENDING_INVENTORY": ["RETRY_RESERVATION", "CANCEL_ORDER"],
    "INVENTORY_CONFIRMATION_FAILED": ["RECONFIRM", "CANCEL_ORDER"],
    "CONFIRMATION_TIMEOUT": ["RECONFIRM", "CANCEL_ORDER"],
    "PAYMENT_UNKNOWN": ["APPROVE", "CANCEL_ORDER"],
    "RELEASE_FAILED": ["MARK_RELEASED"],
}


USUAL = {reason: actions[0] for reason, actions in ALLOWED.items()}


async def a_case(shop):
    order = await unverified(shop)
    return await shop.open_case(order.order_id)
