"""Closing failed release jobs by hand, and the console's commands around releases and operations."""

from __future__ import annotations

import pytest

from services.domain.conservation import StockState
from services.domain.errors import ClaimedByOther, InvalidState, NotFound, ReleaseConflict, ValidationFailed
from services.releases.mark_released import MarkReleased
from state import commands, inventory_lookups, releases
from tests.support.bulk_jobs import begin, failed_release, look, run
from tests.support.fakes import CAPTURE, Fault, PaymentFault

RELEASE = "release"


@pytest.fixture
async def failed(shop):
    """A failed job whose hold the Inventory Service has given back by other means."""
    order = await failed_release(shop, "mine")
    await shop.inventory.release("mine")
    return await shop.release(order.order_id)


async def mark(shop, job, *, proof="ticket 77", version=None, action_id="a-1"):
    wanted = MarkReleased(job.order_id, version or job.version, proof, "ada", action_id)
    return await shop.proofs.mark_released(wanted)


async def test_a_marked_job_ends_with_its_case_its_proof_and_one_audit_entry(shop, failed):
    assert await mark(shop, failed) == StockState.FREE
    job = await shop.release("mine")
    assert (job.state, job.next_attempt_at) == ("DONE", None)
    assert (await shop.order("mine")).inventory_status == "RELEASED"
    (case,) = await shop.cases("mine")
    assert (case.state, case.resolution, case.resolved_by, case.note) == (
        "RESOLVED",
        "MARK_RELEASED",
        "ada",
        "ticket 77",
    )
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.target) == ("ada", "MARK_RELEASED", "release:mine")
    assert (entry.reason, entry.before["state"], entry.action_id) == ("ticket 77", "FAILED", "a-1")
    assert entry.after == {"state": "DONE", "theirs": "FREE"}
    assert "Marked released with proof" in await shop.titles("mine")


async def test_the_same_action_again_changes_nothing(shop, failed):
    await mark(shop, failed)
    before = await shop.everything()
    assert await mark(shop, failed) == StockState.FREE
    assert await shop.everything() == before


async def test_without_an_answer_from_the_other_side_the_proof_decides(shop, failed):
    shop.lookup.is_away = True
    assert await mark(shop, failed) is None
    assert (await shop.release("mine")).state == "DONE"


def apart_from_the_record(everything):
    """What is there besides the audit log and the answers of the other side."""
    return {name: rows for name, rows in everything.items() if name not in ("audit_log", "their_answers")}


async def test_reserved_stock_is_never_marked_released_and_the_refusal_is_audited(shop):
    await failed_release(shop, "held")
    job, before = await shop.release("held"), await shop.everything()
    with pytest.raises(InvalidState, match="still has stock reserved"):
        await mark(shop, job)
    assert apart_from_the_record(await shop.everything()) == apart_from_the_record(before)
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.target, entry.result) == (
        "ada",
        "MARK_RELEASED",
        "release:held",
        "refused: INVALID_STATE",
    )
    assert (entry.reason, entry.after["theirs"], entry.action_id) == ("ticket 77", "HELD", None)
    kept = await shop.real_database.read(lambda c: inventory_lookups.get(c, "held"))
    assert (kept.result.stock, kept.asked_by) == (StockState.RESERVED, "ada")


async def test_they_are_asked_at_the_moment_of_marking_however_fresh_the_last_answer_is(shop, failed):
    await shop.reconciliation.look_up("mine", asked_by="bob")
    await mark(shop, failed)
    assert shop.lookup.asked == 2


async def test_a_deducted_order_is_never_marked_released_without_exception(shop):
    order = await shop.place_confirmed(order_id="sold")

    def failed_job(connection):
        releases.start(connection, "sold", "a mistake", shop.clock())
        releases.settle(connection, releases.get(connection, "sold"), shop.clock(), state="FAILED")

    await shop.real_database.write(failed_job)
    job, before = await shop.release(order.order_id), await shop.everything()
    for is_away in (False, True):
        shop.lookup.is_away = is_away
        with pytest.raises(InvalidState, match="deducted"):
            await mark(shop, job)
    assert apart_from_the_record(await shop.everything()) == apart_from_the_record(before)


@pytest.mark.parametrize("proof", ["", "   "])
async def test_a_proof_is_needed(shop, failed, proof):
    with pytest.raises(ValidationFailed) as caught:
        await mark(shop, failed, proof=proof)
    assert caught.value.details["problems"][0]["field"] == "proof"


async def test_a_job_that_moved_on_or_is_still_tried_is_refused(shop, failed):
    with pytest.raises(ReleaseConflict):
        await mark(shop, failed, version=failed.version - 1)
    await shop.releases.retry(["mine"], actor="bob")
    with pytest.raises(InvalidState, match="still tried"):
        await mark(shop, await shop.release("mine"))
    with pytest.raises(NotFound):
        await shop.proofs.mark_released(MarkReleased("nobody", 1, "x", "ada", "a-2"))


async def test_a_case_that_another_person_works_on_is_not_closed_under_their_hands(shop, failed):
    case = await shop.open_case("mine")
    await shop.claims.claim(case.review_id, actor="bob")
    before = await shop.everything()
    with pytest.raises(ClaimedByOther, match="bob works on this case"):
        await mark(shop, failed)
    assert apart_from_the_record(await shop.everything()) == apart_from_the_record(before)
    # An admin decides over anybody's claim, as on the case itself.
    await shop.proofs.mark_released(MarkReleased("mine", failed.version, "ticket 77", "ada", "a-2", by_admin=True))
    assert [one.state for one in await shop.cases("mine")] == ["RESOLVED"]


async def test_a_job_that_is_started_again_at_that_moment_is_not_marked(shop, failed, monkeypatch):
    monkeypatch.setattr(releases, "settle", lambda *_given, **_values: False)
    before = await shop.everything()
    with pytest.raises(ReleaseConflict):
        await mark(shop, failed)
    assert apart_from_the_record(await shop.everything()) == apart_from_the_record(before)


async def test_several_are_marked_in_bulk_and_a_kept_reservation_stops_the_bulk_job(shop):
    free = [(await failed_release(shop, f"free-{number}")).order_id for number in range(2)]
    for one in free:
        await shop.inventory.release(one)
    held = (await failed_release(shop, "held")).order_id
    await begin(shop, [*free, held], bulk_action="mark_released")
    await run(shop)
    operation = await look(shop)
    assert operation.tally == {"CONFIRMED": 2, "FAILED": 1}
    assert len(shop.inventory.reserved(held)) == 1
    assert (await shop.release(held)).state == "FAILED"
    refused = [entry for entry in await shop.audit() if entry.target == f"release:{held}"]
    assert [(entry.action, entry.result) for entry in refused] == [("MARK_RELEASED", "refused: INVALID_STATE")]


# ------------------------------------------------------------------- commands


async def outcome(shop, command_id):
    command = await shop.real_database.read(lambda c: commands.get(c, command_id))
    return command.state, command.outcome.title


async def test_the_command_marks_one_job_under_its_own_id(shop, failed):
    command_id = await shop.command("mark_released", "mine", proof="ticket 77", version=failed.version)
    await shop.commands.run_waiting()
    assert await outcome(shop, command_id) == ("DONE", "Marked released")
    assert (await shop.audit())[-1].action_id == command_id


async def test_a_refused_command_is_on_record_once(shop):
    await failed_release(shop, "held")
    job = await shop.release("held")
    command_id = await shop.command("mark_released", "held", proof="ticket 77", version=job.version)
    await shop.commands.run_waiting()
    state, title = await outcome(shop, command_id)
    assert state == "REFUSED"
    assert "still has stock reserved" in title
    (entry,) = await shop.audit()
    assert (entry.result, entry.correlation_id) == ("refused: INVALID_STATE", command_id)


async def test_a_retry_while_the_breaker_is_open_is_queued_and_not_refused(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    await shop.place(order_id="mine")
    shop.inventory.fail(RELEASE, Fault.CIRCUIT_OPEN)
    command_id = await shop.command("retry_release", "mine")
    await shop.commands.run_waiting()
    assert await outcome(shop, command_id) == ("DONE", "Queued until the breaker closes")
    await shop.quiesce()
    assert (await shop.release("mine")).state == "DONE"


async def test_a_bulk_job_is_paused_by_a_command(shop):
    order = await failed_release(shop, "mine")
    await begin(shop, [order.order_id])
    command_id = await shop.command("steer_operation", "op-1", move="pause")
    await shop.commands.run_waiting()
    assert await outcome(shop, command_id) == ("DONE", "Bulk job paused")
    refused = await shop.command("steer_operation", "op-1", move="pause")
    await shop.commands.run_waiting()
    assert await outcome(shop, refused) == ("REFUSED", "The bulk job is PAUSED.")
