"""What must hold in every state of the model, and what must hold besides when nothing is under way."""

from __future__ import annotations

from services.domain.orders.changes import BEFORE_PAYMENT
from services.domain.orders.model import OrderStatus, PaymentStatus, ReviewReason
from services.domain.reviews import allowed_actions
from tests.model.neighbours import ACTIVE, CAPTURED, CONFIRMED, DECLINED, LIVING
from tests.model.rows import reservation_number
from tests.model.runs import CAPTURE
from tests.model.world import State

S = OrderStatus

WITHOUT_GOODS = (S.CANCELLED, S.REJECTED)
WITH_GOODS = (S.CONFIRMED, S.PARTIALLY_RETURNED, S.RETURNED)
PAID = (S.PLACED, S.CONFIRMED, S.CONFIRMATION_FAILED, S.PARTIALLY_RETURNED, S.RETURNED)
AT_REST = (*WITHOUT_GOODS, *WITH_GOODS)


def problem_in(state: State) -> str | None:
    """The first invariant that the state violates; None: it violates none."""
    return _problem_of_stock(state) or _problem_of_money(state) or (_problem_at_rest(state) if state.is_quiet else None)


def _problem_of_stock(state: State) -> str | None:
    shop = state.shop
    if shop.on_hand < shop.reserved or shop.on_hand < 0:
        return "stock is oversold"
    if any(reservation.deductions > 1 for reservation in shop.reservations):
        return "one reservation was deducted twice"
    if any(reservation.restocks + reservation.returned > reservation.deductions for reservation in shop.reservations):
        return "more was put back than was deducted"
    if any(reservation.late for reservation in shop.reservations):
        return "a hold was deducted after its end"
    return None


def _problem_of_money(state: State) -> str | None:
    order, till = state.order, state.till
    if till.charges > 1:
        return "the customer was charged twice"
    if order.payment_status == PaymentStatus.REFUNDED and till.state == CAPTURED:
        return "a refund is recorded that was not made"
    if any(run.waits_for == CAPTURE and _reservation_was_over(state, run.phase) for run in state.runs):
        return "a customer is charged for a hold that is known to be over"
    return None


def _reservation_was_over(state: State, phase: int) -> bool:
    """Whether the hold that the order relies on was over when a charge was asked for."""
    number = reservation_number(state.order.reservation_id)
    return state.order.status == S.PAYING and number >= 0 and state.shop.reservations[number].ends <= phase


def _problem_at_rest(state: State) -> str | None:
    return _problem_of_goods(state) or _problem_of_settlement(state) or _problem_of_attention(state)


def _problem_of_goods(state: State) -> str | None:
    order, shop = state.order, state.shop
    states = [reservation.state for reservation in shop.reservations]
    reasons = {case.reason for case in state.rows.cases}
    if order.status in WITHOUT_GOODS and ACTIVE in states and ReviewReason.RELEASE_FAILED not in reasons:
        return f"a {order.status} order holds stock"
    if order.status in WITHOUT_GOODS and CONFIRMED in states:
        return f"a {order.status} order has deducted stock"
    if order.status in WITH_GOODS and states.count(CONFIRMED) != 1:
        return f"a {order.status} order has not deducted its stock"
    is_unanswered = ReviewReason.CONFIRMATION_TIMEOUT in reasons
    if order.status not in WITH_GOODS and CONFIRMED in states and not is_unanswered:
        return f"stock was deducted for an order that is {order.status}"
    if sum(state in LIVING for state in states) > 1:
        return "an order holds stock twice"
    return None


def _problem_of_settlement(state: State) -> str | None:
    order, till = state.order, state.till
    if order.status in WITHOUT_GOODS and till.state == CAPTURED:
        return f"the money of a {order.status} order is kept"
    if order.status in PAID and till.state != CAPTURED:
        return f"a {order.status} order was not paid"
    is_being_settled = order.payment_status == PaymentStatus.UNKNOWN or order.status in PAID
    if till.state == CAPTURED and not is_being_settled:
        return f"a charge is not known to an order that is {order.status}"
    if order.status in BEFORE_PAYMENT and till.state == DECLINED:
        return "a declined order goes on"
    if order.cancel_reason and order.status != S.CANCELLED and not state.rows.cases:
        return "an accepted cancel was not carried out"
    return None


def _problem_of_attention(state: State) -> str | None:
    order, cases = state.order, state.rows.cases
    possible = [case for case in cases if allowed_actions(case.reason, order.status)]
    if order.status not in AT_REST and not possible:
        return f"nobody will ever look at an order that is {order.status}"
    if len(possible) < len(cases):
        return f"a case stays open that nobody can close: {[case.reason for case in cases if case not in possible]}"
    return None
