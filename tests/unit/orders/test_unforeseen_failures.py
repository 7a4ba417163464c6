"""A step of an order that raises something unforeseen: counted, tried again later, in the end a person's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.orders import lifecycle
from services.domain.orders.changes import CALLED_OFF
from services.domain.orders.model import OrderStatus
from services.domain.reviews import STEPPING, allowed_actions
from services.orders.sweeper import BATCH_SIZE
from services.unit_of_work import note_failure
from state import conservation
from tests.support.fakes import CAPTURE, FIND_PAYMENT, REFUND, Fault

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"
STEP_FAILED = "STEP_FAILED"


class Unforeseen(Exception):
    """Nobody has written a handler for this."""


def break_down(shop, operation, *, of=None):
    """Every call of the operation raises, for one order or for all."""
    side = shop.payments if operation in (CAPTURE, FIND_PAYMENT, REFUND) else shop.inventory
    side.hooks.break_down(operation, Unforeseen("nobody thought\nof this \0"), of=of)


def mend(shop):
    shop.payments.hooks.mend()
    shop.inventory.hooks.mend()


async def place(shop, order_id="mine", **given):
    """Place an order whose request ends in an error that nobody foresaw."""
    with pytest.raises(Unforeseen):
        await shop.place(order_id=order_id, **given)
    return await shop.order(order_id)


async def until_a_person_is_asked(shop, order_id="mine"):
    """Sweep as often as it takes, which is bounded."""
    for _ in range(lifecycle.TRIES):
        if STEP_FAILED in await shop.open_reasons(order_id):
            break
        await shop.sweep_when_due(order_id)
    return await shop.open_case(order_id, STEP_FAILED)


async def failures(shop):
    return [entry for entry in await shop.timeline("mine") if entry.title == "A step failed unexpectedly"]


async def in_the_check(shop):
    break_down(shop, CHECK)
    await place(shop)
    # Carried on, it reserves at once: there it fails as well.
    break_down(shop, RESERVE)


async def in_the_reservation(shop):
    break_down(shop, RESERVE)
    await place(shop)


async def in_the_payment(shop):
    break_down(shop, CAPTURE)
    await place(shop)


async def in_asking_for_the_payment(shop):
    break_down(shop, CAPTURE)
    break_down(shop, FIND_PAYMENT)
    await place(shop)


async def in_the_refund(shop):
    order = await shop.place(order_id="mine")
    await shop.cancel(order.order_id)
    break_down(shop, REFUND)
    await shop.sweep()


async def in_a_delayed_retry(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.place(order_id="mine")
    break_down(shop, RESERVE)


PLACES = [
    in_the_check,
    in_the_reservation,
    in_the_payment,
    in_asking_for_the_payment,
    in_the_refund,
    in_a_delayed_retry,
]


@pytest.mark.parametrize("breaks", PLACES)
async def test_a_person_gets_the_order_after_a_few_tries_with_the_reason(shop, breaks):
    await breaks(shop)
    case = await until_a_person_is_asked(shop)
    assert (
        case.detail
        == f"{lifecycle.TRIES} steps in a row failed unexpectedly. Unforeseen: nobody thought of this \ufffd"
    )
    order = await shop.order("mine")
    assert (order.step_failures, order.step_error) == (lifecycle.TRIES, "Unforeseen: nobody thought of this \ufffd")
    assert [recorded.opened for recorded in shop.recorded].count((STEP_FAILED,)) == 1
    assert [entry.details["failures"] for entry in await failures(shop)] == list(range(1, lifecycle.TRIES + 1))


@pytest.mark.parametrize("breaks", PLACES)
async def test_an_order_gets_on_by_itself_and_its_case_closes(shop, breaks):
    await breaks(shop)
    await until_a_person_is_asked(shop)
    mend(shop)
    await shop.quiesce()
    order = await shop.order("mine")
    assert (order.step_failures, order.step_error) == (0, None)
    assert order.status == ("CANCELLED" if breaks is in_the_refund else "CONFIRMED")
    assert order.payment_status == ("REFUNDED" if breaks is in_the_refund else "CAPTURED")
    assert await shop.open_reasons("mine") == []
    assert shop.payments.count(CAPTURE) <= lifecycle.TRIES + 1
    assert len(shop.inventory.reservations) == 1


@pytest.mark.parametrize("breaks", PLACES)
async def test_the_tries_are_ever_rarer_and_go_on_without_growing_the_timeline(shop, breaks):
    await breaks(shop)
    await until_a_person_is_asked(shop)
    length = len(await failures(shop))
    waits = []
    for _ in range(8):
        order = await shop.sweep_when_due("mine")
        waits.append(order.due_at - shop.clock())
    assert waits == sorted(waits)
    assert waits[-1] == lifecycle.LONGEST_STEP_DELAY
    assert len(await failures(shop)) == length
    assert (await shop.open_case("mine", STEP_FAILED)).detail.startswith(f"{lifecycle.TRIES + 8} steps")


async def test_a_retry_brings_the_order_on_at_once(shop):
    await in_the_payment(shop)
    case = await until_a_person_is_asked(shop)
    mend(shop)
    resolved = await shop.resolve(case, "RETRY_STEP", note="")
    assert (resolved.state, resolved.resolution) == ("RESOLVED", "RETRY_STEP")
    await shop.sweep()
    assert (await shop.order("mine")).status == "PLACED"
    assert await shop.open_reasons("mine") == []
    (entry,) = [entry for entry in await shop.audit() if entry.action == "RETRY_STEP"]
    assert (entry.actor, entry.result) == ("ada", "done")


async def test_a_retry_that_fails_again_opens_the_case_again_at_once(shop):
    await in_the_payment(shop)
    case = await until_a_person_is_asked(shop)
    await shop.resolve(case, "RETRY_STEP", note="")
    await shop.sweep()
    again = await shop.open_case("mine", STEP_FAILED)
    assert again.review_id != case.review_id


@pytest.mark.parametrize("breaks", [in_the_check, in_the_reservation, in_a_delayed_retry])
async def test_an_order_that_was_not_charged_can_be_cancelled_and_gives_back_what_it_may_have_reserved(shop, breaks):
    await breaks(shop)
    await shop.resolve(await until_a_person_is_asked(shop), "CANCEL_ORDER")
    mend(shop)
    await shop.quiesce()
    order = await shop.order("mine")
    assert (order.status, order.inventory_status, order.step_failures) == ("CANCELLED", "RELEASED", 0)
    assert shop.payments.states == {}


@pytest.mark.parametrize("breaks", [in_the_payment, in_asking_for_the_payment])
async def test_while_paying_a_cancel_waits_until_the_gateway_has_been_asked(shop, breaks):
    await breaks(shop)
    break_down(shop, FIND_PAYMENT)
    await shop.resolve(await until_a_person_is_asked(shop), "CANCEL_ORDER")
    order = await shop.order("mine")
    assert (order.status, order.cancel_reason) == ("PAYING", "seen")
    # Money may have been taken meanwhile, which only the gateway knows.
    shop.payments.states["mine"] = "CAPTURED"
    await shop.sweep()
    assert (await shop.order("mine")).status == "PAYING"
    await shop.open_case("mine", STEP_FAILED)
    mend(shop)
    await shop.quiesce()
    assert (await shop.order("mine")).status == "CANCELLED"
    assert shop.payments.states == {"mine": "REFUNDED"}
    assert shop.inventory.reserved("mine") == []
    assert await shop.open_reasons("mine") == []


async def test_an_order_whose_reservation_is_renewed_at_every_try_comes_to_a_person_too(shop):
    await in_the_payment(shop)
    # So long after its beginning an order reserves anew before each charge.
    shop.clock.advance(3600)
    await until_a_person_is_asked(shop)


async def test_orders_that_fail_do_not_keep_others_from_going_on(shop):
    broken = [f"broken-{number}" for number in range(2 * BATCH_SIZE)]
    break_down(shop, RESERVE)
    for order_id in broken:
        await place(shop, order_id)
    mend(shop)
    for order_id in broken:
        break_down(shop, RESERVE, of=order_id)
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.place(order_id="sound")
    shop.clock.advance(61)
    for _ in range(3):
        await shop.sweep()
    assert (await shop.order("sound")).status == "PLACED"


async def test_what_an_order_at_rest_raised_is_not_counted(shop):
    """Somebody else has carried it on while the step was failing."""
    order = await shop.place_confirmed(order_id="mine")
    await note_failure(shop.context, order.order_id, Unforeseen())
    assert await shop.order("mine") == order


async def test_without_a_database_the_failure_is_the_one_of_the_step(shop):
    async def lose_database() -> None:
        shop.database.refuse(OSError("the disk is gone"))
        raise Unforeseen

    shop.inventory.hooks.before(CHECK, lose_database)
    await place(shop)
    shop.database.survive()
    mend(shop)
    shop.clock.advance(61)
    await shop.quiesce()
    assert (await shop.order("mine")).status == "CONFIRMED"


@pytest.mark.parametrize("status", list(OrderStatus))
def test_a_failed_step_can_be_tried_again_and_cancelled_as_long_as_there_is_one(status):
    actions = allowed_actions(STEP_FAILED, status)
    assert ("RETRY_STEP" in actions) == (status in STEPPING | CALLED_OFF)
    assert ("CANCEL_ORDER" in actions) == (status in STEPPING)


def test_the_first_tries_come_soon_and_the_last_ones_no_later_than_a_quarter_of_an_hour():
    delays = [lifecycle.step_delay(failures) for failures in range(1, 200)]
    assert delays[:4] == [timedelta(seconds=seconds) for seconds in (5, 15, 45, 135)]
    assert delays == sorted(delays)
    assert delays[-1] == lifecycle.LONGEST_STEP_DELAY


async def test_a_release_that_fails_unexpectedly_is_counted_and_comes_to_a_person(shop):
    order = await shop.place(order_id="mine")
    await shop.place(order_id="other")
    break_down(shop, RELEASE, of="mine")
    await shop.cancel(order.order_id)
    await shop.cancel("other")
    await shop.quiesce()
    job = await shop.release("mine")
    assert (job.state, job.attempts) == ("FAILED", 8)
    assert "Unforeseen: nobody thought" in job.last_error
    assert await shop.open_reasons("mine") == ["RELEASE_FAILED"]
    assert (await shop.release("other")).state == "DONE"


async def test_an_order_that_cannot_be_compared_keeps_no_other_one_from_it(shop):
    for name in ("mine", "other"):
        await shop.place_confirmed(order_id=name)
    break_down(shop, FIND_PAYMENT, of="mine")
    shop.payments.states["other"] = "ABSENT"
    shop.clock.advance(61)
    await shop.conservation.compare_next()
    rows = await shop.real_database.read(conservation.page)
    assert [difference.order_id for difference in rows] == ["other"]


async def test_an_order_whose_metadata_cannot_be_read_is_not_charged(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.place(order_id="mine", metadata={"total": 5})
    await shop.real_database.write(lambda c: c.exec_driver_sql("UPDATE orders SET metadata = '[5'"))
    case = await until_a_person_is_asked(shop)
    assert "cannot be read" in case.detail
    assert shop.payments.count(CAPTURE) == 0
