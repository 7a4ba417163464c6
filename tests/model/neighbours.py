"""The other two services as small values: what the Inventory Service holds, what the gateway charged.

The rules of stock are those of services/sandbox/inventory_service/stock.py for one product
and one order with one unit; test_the_models_are_true compares the two on random sequences. Time is
a number of phases: at an even phase holds are fresh, at an odd one they are about to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

ACTIVE, EXPIRED, CONFIRMED, RELEASED, RESTOCKED = "ACTIVE", "EXPIRED", "CONFIRMED", "RELEASED", "RESTOCKED"
LIVING = (ACTIVE, CONFIRMED)

HELD, SHORT, REFUSED = "held", "short", "refused"
GONE, DONE = "nothing was held", "done"
DEDUCTED, NOT_DEDUCTED = "confirmed", "failed"
DUPLICATE = "duplicate"


@dataclass(frozen=True)
class StockRules:
    """Which rules of stock are in force; without_* in the guards' tests switch single ones off."""

    reserve_is_idempotent: bool = True
    reserves_only_what_is_available: bool = True
    tombstones: bool = True
    confirms_only_active: bool = True
    confirms_only_unexpired: bool = True
    deducts_once: bool = True
    cancel_restocks: bool = True
    restocks_once: bool = True
    returns_once: bool = True
    returns_are_capped: bool = True
    inbox: bool = True


class StockReservation(NamedTuple):
    """One reservation of one unit, and what became of it."""

    state: str
    ends: int
    """The phase at which it is over."""
    deductions: int = 0
    restocks: int = 0
    returned: int = 0
    late: bool = False
    """Deducted after its end."""


class Shop(NamedTuple):
    """The stock of one product and everything one order did to it."""

    on_hand: int
    reservations: tuple[StockReservation, ...] = ()
    is_buried: bool = False
    return_seen: bool = False
    rival: int = 0
    """Units that a competitor bought."""

    @property
    def reserved(self) -> int:
        return sum(reservation.state == ACTIVE for reservation in self.reservations)

    @property
    def living(self) -> int | None:
        """The newest reservation that holds stock or has deducted it."""
        numbers = [number for number, reservation in enumerate(self.reservations) if reservation.state in LIVING]
        return numbers[-1] if numbers else None

    def with_reservation(self, number: int, on_hand: int = 0, **changes: object) -> Shop:
        """One reservation changed, and so many units put on the shelf."""
        reservations = list(self.reservations)
        reservations[number] = reservations[number]._replace(**changes)
        return self._replace(reservations=tuple(reservations), on_hand=self.on_hand + on_hand)


Effect = tuple[Shop, str, int]
"""The shop afterwards, the answer, and the reservation it speaks of (-1: none)."""


def is_available(shop: Shop, now: int) -> bool:
    return shop.on_hand > sum(
        reservation.state == ACTIVE and reservation.ends > now for reservation in shop.reservations
    )


def reserve(rules: StockRules, shop: Shop, now: int) -> Effect:
    if shop.is_buried:
        return shop, REFUSED, -1
    shop = _end_overdue(shop, now)
    living = shop.living
    if living is not None and rules.reserve_is_idempotent:
        return shop, HELD, living
    if rules.reserves_only_what_is_available and shop.on_hand <= shop.reserved:
        return shop, SHORT, -1
    ends = (now + 1) // 2 * 2 + 2
    return (
        shop._replace(reservations=(*shop.reservations, StockReservation(ACTIVE, ends))),
        HELD,
        len(shop.reservations),
    )


def confirm(rules: StockRules, shop: Shop, number: int, now: int) -> Effect:
    reservation = shop.reservations[number]
    if reservation.state == CONFIRMED and rules.deducts_once:
        return shop, DEDUCTED, number
    is_over = reservation.state == ACTIVE and reservation.ends <= now
    if is_over and rules.confirms_only_unexpired:
        return shop.with_reservation(number, state=EXPIRED), NOT_DEDUCTED, number
    if reservation.state in (EXPIRED, RELEASED, RESTOCKED) and rules.confirms_only_active:
        return shop, NOT_DEDUCTED, number
    changed = shop.with_reservation(number, -1, state=CONFIRMED, deductions=reservation.deductions + 1, late=is_over)
    return changed, DEDUCTED, number


def release(rules: StockRules, shop: Shop, now: int) -> Effect:
    shop = _end_overdue(shop, now)
    living = shop.living
    if living is not None and shop.reservations[living].state == CONFIRMED:
        return shop, GONE, living
    shop = shop._replace(is_buried=rules.tombstones)
    if living is None:
        return shop, DONE, -1
    return shop.with_reservation(living, state=RELEASED), DONE, living


def cancel(rules: StockRules, shop: Shop, now: int) -> Shop:
    """What order.cancelled does."""
    shop = _end_overdue(shop, now)._replace(is_buried=rules.tombstones)
    living = shop.living
    if living is None and not rules.restocks_once:
        restocked = [number for number, reservation in enumerate(shop.reservations) if reservation.state == RESTOCKED]
        living = restocked[-1] if restocked else None
    if living is None:
        return shop
    reservation = shop.reservations[living]
    if reservation.state == ACTIVE:
        return shop.with_reservation(living, state=RELEASED)
    if not rules.cancel_restocks:
        return shop
    return shop.with_reservation(living, 1 - reservation.returned, state=RESTOCKED, restocks=reservation.restocks + 1)


def take_back(rules: StockRules, shop: Shop, now: int) -> Shop:
    """What order.returned does, for the one return that there can be."""
    shop = _end_overdue(shop, now)
    living = shop.living
    if living is None or shop.reservations[living].state != CONFIRMED or (shop.return_seen and rules.returns_once):
        return shop
    shop = shop._replace(return_seen=True)
    reservation = shop.reservations[living]
    if reservation.returned and rules.returns_are_capped:
        return shop
    return shop.with_reservation(living, 1, returned=reservation.returned + 1)


def expire(shop: Shop, now: int) -> Shop:
    """What the sweeper cleans up."""
    return _end_overdue(shop, now)


def sell_to_rival(shop: Shop, now: int) -> Shop | None:
    """A competitor buys a unit; None: there is none for them."""
    if not is_available(shop, now):
        return None
    shop = _end_overdue(shop, now)
    return shop._replace(on_hand=shop.on_hand - 1, rival=shop.rival + 1)


def take_back_from_rival(shop: Shop) -> Shop | None:
    """What a competitor bought comes back; None: they have bought nothing."""
    return shop._replace(on_hand=shop.on_hand + 1, rival=shop.rival - 1) if shop.rival else None


def _end_overdue(shop: Shop, now: int) -> Shop:
    """All reservations are the order's own, so that there is no difference between its own and all."""
    reservations = tuple(
        reservation._replace(state=EXPIRED) if reservation.state == ACTIVE and reservation.ends <= now else reservation
        for reservation in shop.reservations
    )
    return shop if reservations == shop.reservations else shop._replace(reservations=reservations)


NOTHING, CAPTURED, DECLINED, REFUNDED, VOIDED = "ABSENT", "CAPTURED", "DECLINED", "REFUNDED", "VOIDED"


class Till(NamedTuple):
    """What the payment gateway knows of the order."""

    state: str = NOTHING
    charges: int = 0


def charge(till: Till, *, declines: bool = False, knows_the_key: bool = True) -> tuple[Till, str]:
    """Capture or decline, once per order."""
    if till.state == VOIDED or (till.state != NOTHING and knows_the_key):
        return till, till.state
    state = DECLINED if declines else CAPTURED
    return Till(state, till.charges + (not declines)), state


def refund(till: Till) -> tuple[Till, str]:
    if till.state == CAPTURED:
        till = till._replace(state=REFUNDED)
    return till, till.state


def void(till: Till, *, can: bool) -> tuple[Till, str]:
    """Refuse what is still to come, if the gateway can and nothing was faster."""
    if till.state == NOTHING and can:
        till = till._replace(state=VOIDED)
    return till, till.state
