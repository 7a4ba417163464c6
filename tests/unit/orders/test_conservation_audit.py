"""The audit that compares orders, stock and money, and the compensations that it offers."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from services.clients.payments import PaymentState
from services.conservation.audit import ConservationAudit
from services.domain.errors import InvalidState, NotFound, ValidationFailed
from services.domain.reconciliation import CANNOT_ANSWER, LookupResult
from state import conservation
from state.tables import reviews
from tests.support.fakes import FIND_PAYMENT, Fault, InMemoryInventoryLookup, PaymentFault


@pytest.fixture
def lookup(shop):
    return InMemoryInventoryLookup(shop.inventory)


@pytest.fixture
def audit(shop, lookup):
    return ConservationAudit(shop.context, lookup, shop.payments)


async def compare(shop, audit):
    """Let everything rest, compare it all, and return what does not add up."""
    shop.clock.advance(61)
    while await audit.compare_next():
        pass
    found = shop.real_database.read_now(conservation.page)
    return [(difference.order_id, difference.kind, difference.state) for difference in found]


async def test_orders_that_ended_well_have_no_differences(shop, audit):
    await shop.place_confirmed()
    cancelled = await shop.place_confirmed()
    await shop.cancel(cancelled.order_id)
    await shop.quiesce()

    assert await compare(shop, audit) == []
    assert shop.real_database.read_now(conservation.progress)[1] >= 2


async def test_an_order_that_changed_a_moment_ago_is_not_judged_yet(shop, audit):
    order = await shop.place_confirmed()
    shop.payments.states[order.order_id] = PaymentState.DECLINED

    await audit.compare_next()

    assert shop.real_database.read_now(conservation.page) == []


async def test_a_leaked_reservation_is_listed_and_released_by_its_compensation(shop, audit):
    order = await shop.place_confirmed()
    await shop.cancel(order.order_id)
    await shop.quiesce()
    shop.inventory.tombstones.clear()
    await shop.inventory.reserve(order.order_id, order.lines, order.user_id)
    assert await compare(shop, audit) == [(order.order_id, "HOLD_LEAKED", "OPEN")]

    await audit.compensate(order.order_id, "HOLD_LEAKED", actor="olga", reason="seen")
    await shop.quiesce()

    assert shop.inventory.reserved(order.order_id) == []
    assert await compare(shop, audit) == []
    assert (await shop.order(order.order_id)).inventory_status == "RELEASED"
    assert [(entry.actor, entry.action) for entry in await shop.audit()][-1] == ("olga", "COMPENSATE")


async def test_kept_money_is_refunded_by_its_compensation(shop, audit):
    order = await shop.place_confirmed()
    await shop.cancel(order.order_id)
    await shop.quiesce()
    shop.payments.states[order.order_id] = PaymentState.CAPTURED
    assert await compare(shop, audit) == [(order.order_id, "MONEY_KEPT", "OPEN")]

    await audit.compensate(order.order_id, "MONEY_KEPT", actor="olga", reason="seen")
    await shop.quiesce()

    assert shop.payments.states[order.order_id] == PaymentState.REFUNDED
    assert await compare(shop, audit) == []


async def test_a_deduction_that_was_kept_is_called_off_again(shop, audit):
    order = await shop.place_confirmed()
    shop.inventory.receive = lambda *_: []  # the event of the cancel never takes effect
    await shop.cancel(order.order_id)
    await shop.quiesce()
    del shop.inventory.receive
    assert await compare(shop, audit) == [(order.order_id, "DEDUCTION_KEPT", "OPEN")]

    await audit.compensate(order.order_id, "DEDUCTION_KEPT", actor="olga", reason="seen")
    await shop.quiesce()

    assert await compare(shop, audit) == []
    assert len(shop.inventory.restocked) == 1


@pytest.mark.parametrize("kind", ["NOT_DEDUCTED", "NOT_PAID"])
async def test_goods_that_left_without_deduction_or_payment_go_to_a_person(shop, audit, kind):
    order = await shop.place_confirmed()
    if kind == "NOT_PAID":
        shop.payments.states[order.order_id] = PaymentState.DECLINED
    else:
        shop.inventory.reservations.clear()
    assert await compare(shop, audit) == [(order.order_id, kind, "OPEN")]

    await audit.compensate(order.order_id, kind, actor="olga", reason="seen")

    assert len(await shop.open_reasons(order.order_id)) == 1
    assert await compare(shop, audit) == [(order.order_id, kind, "COMPENSATING")]


@pytest.mark.parametrize("opened_by", ["us", "0.1.0"])
@pytest.mark.parametrize("kind", ["NOT_DEDUCTED", "NOT_PAID"])
async def test_a_person_closes_the_case_with_a_note_and_the_difference_is_accepted_until_both_sides_agree(
    shop, audit, kind, opened_by
):
    order = await shop.place_confirmed()
    holds = list(shop.inventory.reservations)
    if kind == "NOT_PAID":
        shop.payments.states[order.order_id] = PaymentState.DECLINED
    else:
        shop.inventory.reservations.clear()
    await compare(shop, audit)
    await audit.compensate(order.order_id, kind, actor="olga", reason="seen")
    case = await shop.open_case(order.order_id)
    assert (case.reason, case.detail) == ("CONSERVATION_DIFFERENCE", f"Conservation audit: {kind}")
    if opened_by == "0.1.0":
        reason = "INVENTORY_CONFIRMATION_FAILED"
        await shop.real_database.write(lambda c: c.execute(update(reviews).values(reason=reason)))

    with pytest.raises(ValidationFailed):
        await shop.resolve(case, "APPROVE", note="")
    await shop.resolve(case, "APPROVE", note="billed by hand")

    assert await shop.open_reasons(order.order_id) == []
    # It is compared again after the note on its timeline, and does not come back.
    assert await compare(shop, audit) == []
    known = shop.real_database.read_now(lambda c: conservation.get(c, order.order_id, kind))
    assert known.state == "ACCEPTED"
    assert shop.real_database.read_now(conservation.count_unsettled) == 0
    assert (await shop.order(order.order_id)).status == "CONFIRMED"

    shop.payments.states[order.order_id] = PaymentState.CAPTURED
    shop.inventory.reservations[:] = holds
    await shop.take_back(order.order_id, order.lines[0])
    await compare(shop, audit)
    known = shop.real_database.read_now(lambda c: conservation.get(c, order.order_id, kind))
    assert known.state == "SETTLED"


async def test_a_difference_is_compensated_once(shop, audit):
    order = await shop.place_confirmed()
    shop.payments.states[order.order_id] = PaymentState.DECLINED
    await compare(shop, audit)
    await audit.compensate(order.order_id, "NOT_PAID", actor="olga", reason="seen")

    with pytest.raises(InvalidState):
        await audit.compensate(order.order_id, "NOT_PAID", actor="piet", reason="me too")
    with pytest.raises(NotFound):
        await audit.compensate(order.order_id, "HOLD_LEAKED", actor="piet", reason="never seen")

    assert len([entry for entry in await shop.audit() if entry.action == "COMPENSATE"]) == 1


async def test_a_release_that_is_still_being_tried_is_no_difference(shop, audit):
    order = await shop.place()
    shop.inventory.fail("release", *[Fault.UNAVAILABLE] * 20)
    await shop.cancel(order.order_id)
    await shop.releases.run_due()

    assert await compare(shop, audit) == []


async def test_while_the_other_side_is_away_the_audit_waits_at_the_order_it_could_not_ask_about(shop, lookup):
    audit = ConservationAudit(shop.context, lookup, None)
    order = await shop.place_confirmed()
    shop.inventory.reservations.clear()
    lookup.is_away = True
    assert await compare(shop, audit) == []
    assert shop.real_database.read_now(conservation.progress)[1] == 0

    lookup.is_away = False
    assert await compare(shop, audit) == [(order.order_id, "NOT_DEDUCTED", "OPEN")]


async def test_a_difference_that_comes_back_is_open_again(shop, audit):
    order = await shop.place_confirmed()
    holds = list(shop.inventory.reservations)
    shop.inventory.reservations.clear()
    await compare(shop, audit)
    shop.inventory.reservations.extend(holds)
    assert await compare(shop, audit) == []

    # Any later change of the order has it compared anew.
    shop.inventory.reservations.clear()
    await shop.take_back(order.order_id, order.lines[0])

    assert (order.order_id, "NOT_DEDUCTED", "OPEN") in await compare(shop, audit)


async def test_a_compensation_asked_for_on_the_console_runs_once(shop, audit):
    order = await shop.place_confirmed()
    shop.payments.states[order.order_id] = PaymentState.DECLINED
    await compare(shop, audit)
    asked = {"orderId": order.order_id, "kind": "NOT_PAID", "reason": "seen"}

    for _ in range(2):
        await shop.command("compensate", f"{order.order_id}/NOT_PAID", "click-1", **asked)
        await shop.commands.run_waiting()

    assert len([entry for entry in await shop.audit() if entry.action == "COMPENSATE"]) == 1


async def with_leaked_reservation_and_kept_money(shop):
    order = await shop.place_confirmed()
    await shop.cancel(order.order_id)
    await shop.quiesce()
    shop.inventory.tombstones.clear()
    await shop.inventory.reserve(order.order_id, order.lines, order.user_id)
    shop.payments.states[order.order_id] = PaymentState.CAPTURED
    return order.order_id


@pytest.mark.parametrize("away", ["inventory", "gateway"])
async def test_a_side_that_is_away_settles_nothing_of_its_own(shop, audit, lookup, away):
    order_id = await with_leaked_reservation_and_kept_money(shop)
    both = [(order_id, "HOLD_LEAKED", "OPEN"), (order_id, "MONEY_KEPT", "OPEN")]
    assert sorted(await compare(shop, audit)) == both

    # What the side that answers says agrees again; the other one says nothing.
    if away == "inventory":
        lookup.is_away = True
        shop.payments.states[order_id] = PaymentState.REFUNDED
    else:
        shop.payments.fail(FIND_PAYMENT, *[PaymentFault.LOST_BEFORE] * 20)
        await shop.inventory.release(order_id)

    still = both[0] if away == "inventory" else both[1]
    assert await compare(shop, audit) == [still]


@pytest.mark.parametrize("away", ["inventory", "gateway"])
async def test_an_order_of_which_one_side_said_nothing_is_compared_when_that_side_is_back(shop, audit, lookup, away):
    await with_leaked_reservation_and_kept_money(shop)
    lookup.is_away = away == "inventory"
    if away == "gateway":
        shop.payments.fail(FIND_PAYMENT, PaymentFault.LOST_BEFORE)
    shop.clock.advance(61)
    await audit.compare_next()
    # What one side said counts at once, but the audit waits for the other one.
    assert len(shop.real_database.read_now(conservation.page)) == 1
    assert shop.real_database.read_now(conservation.progress)[1] == 0

    lookup.is_away = False
    assert len(await compare(shop, audit)) == 2
    assert shop.real_database.read_now(conservation.progress)[1] == 1


async def test_a_service_without_the_question_does_not_keep_the_money_from_being_compared(shop, audit, lookup):
    order_id = await with_leaked_reservation_and_kept_money(shop)
    lookup.problem = CANNOT_ANSWER
    lookup.is_away = True

    assert await compare(shop, audit) == [(order_id, "MONEY_KEPT", "OPEN")]
    assert shop.real_database.read_now(conservation.progress)[1] == 1


async def test_a_word_that_is_not_known_here_is_no_difference_and_keeps_nobody_waiting(shop, lookup, monkeypatch):
    order = await shop.place_confirmed()
    shop.inventory.reservations.clear()
    audit = ConservationAudit(shop.context, lookup, None)
    assert await compare(shop, audit) == [(order.order_id, "NOT_DEDUCTED", "OPEN")]

    async def ask(_: str) -> LookupResult:
        return LookupResult(None, "ON_HOLD", problem=CANNOT_ANSWER)

    monkeypatch.setattr(lookup, "find", ask)
    await shop.place_confirmed()

    assert await compare(shop, audit) == [(order.order_id, "NOT_DEDUCTED", "OPEN")]
    assert shop.real_database.read_now(conservation.progress)[1] == 2


async def test_after_the_clock_was_set_back_the_audit_does_not_wait_for_the_old_time(shop, audit):
    shop.clock.advance(6 * 3600)
    before = await shop.place_confirmed()
    shop.payments.states[before.order_id] = PaymentState.DECLINED
    shop.clock.advance(-6 * 3600)
    after = await shop.place_confirmed()
    shop.payments.states[after.order_id] = PaymentState.DECLINED

    found = await compare(shop, audit)

    assert sorted(found) == [(before.order_id, "NOT_PAID", "OPEN"), (after.order_id, "NOT_PAID", "OPEN")]
