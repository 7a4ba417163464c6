"""Execution of commands in the worker: the dispatch table, and one handler per kind.

The id of the command is the idempotency key of the action, so a handler that runs twice has one effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from services.alerting.state_machine import matchers_of
from services.domain import commands
from services.domain.commands import QUEUED, CommandKind, Outcome
from services.domain.conservation import StockState
from services.domain.errors import CircuitOpen, ReleaseQueued, ReviewConflict, ValidationFailed
from services.domain.orders.events import timestamp
from services.domain.orders.model import Line, OrderStatus
from services.domain.reviews import ReviewState
from services.domain.roles import ADMIN
from services.orders.cancellation import ReturnItems
from services.releases.mark_released import MarkReleased
from services.reviews.cases import ResolveReview
from services.reviews.comparison import in_words, many_in_words
from services.unit_of_work import SYSTEM
from services.use_cases import Drills, UseCases
from state.commands import Command

Handler = Callable[[UseCases, Command, Any], Awaitable[Outcome]]
"""Runs one command with its typed arguments. Raises ApiError for a refused and Postponed for a delayed command."""


class Postponed(Exception):
    """An open circuit breaker delays the command, which runs again in ``seconds`` with ``arguments``."""

    def __init__(self, seconds: float, arguments: Mapping[str, Any]) -> None:
        super().__init__("postponed")
        self.seconds, self.arguments = seconds, dict(arguments)


class Signature(TypedDict):
    """The arguments of a use case that name the actor and the idempotency key of the action."""

    actor: str
    action_id: str


def _signed(command: Command) -> Signature:
    return {"actor": command.actor, "action_id": command.command_id}


# -- orders ---------------------------------------------------------------------------------------


async def _cancel_order(use: UseCases, command: Command, given: commands.CancelOrder) -> Outcome:
    order = await use.cancellation.cancel(command.target_id, given.reason, actor=command.actor, by_person=True)
    is_done = order.status == OrderStatus.CANCELLED
    return Outcome("Cancelled" if is_done else "Cancel recorded, payment is being settled")


async def _return_items(use: UseCases, command: Command, given: commands.ReturnItems) -> Outcome:
    lines = tuple(Line(line.product_id, line.variant_id, line.quantity) for line in given.items)
    wanted = ReturnItems(
        order_id=command.target_id,
        lines=lines,
        reason=given.reason,
        restockable=given.restockable,
        return_id=command.command_id,
    )
    order, _ = await use.returns.take_back(wanted, actor=command.actor, by_person=True)
    units = sum(line.quantity for line in lines)
    return Outcome(f"Return of {units} recorded", f"the order is {order.status}")


async def _compensate(use: UseCases, command: Command, given: commands.Compensate) -> Outcome:
    await use.conservation.compensate(given.order_id, given.kind, reason=given.reason, **_signed(command))
    return Outcome("Compensation started", "Settled once order and inventory status agree again")


# -- reviews --------------------------------------------------------------------------------------


async def _resolve_review(use: UseCases, command: Command, given: commands.ResolveReviewCase) -> Outcome:
    gate = use.gate_of(await use.reviews.called_by(command.target_id, given.action))
    if gate.budget == 0:
        raise Postponed(gate.retry_in_seconds, command.arguments)
    wanted = ResolveReview(
        review_id=command.target_id,
        action=given.action,
        note=given.note,
        version=given.version,
        actor=command.actor,
        action_id=f"{command.command_id}/{given.turn}" if given.turn else command.command_id,
        reason=given.reason or None,
        by_admin=command.role == ADMIN,
    )
    try:
        case = await use.reviews.resolve(wanted)
    except CircuitOpen as error:
        raise _interrupted(command, given, error.retry_after_seconds) from None
    except ReviewConflict as error:
        if not command.was_queued or error.details.get("by") != SYSTEM:
            raise
        # The automatic retry waited for the same breaker and resolved the case first.
        return Outcome("Settled by itself while it was queued")
    if case.state == ReviewState.OPEN:
        if not case.last_attempt_sent:
            raise _interrupted(command, given)
        return Outcome("Tried without success, the case stays open", case.detail)
    return Outcome("Case resolved")


def _interrupted(
    command: Command, given: commands.ResolveReviewCase, retry_in_seconds: float | None = None
) -> Postponed:
    """The exception after the breaker opened during the action; the repetition expects the next version of the case."""
    again = {"version": given.version + 1, "turn": given.turn + 1}
    return Postponed(retry_in_seconds or 1.0, command.arguments | again)


async def _claim_review(use: UseCases, command: Command, given: commands.ClaimReview) -> Outcome:
    take_over = given.take_over and command.role == ADMIN
    case = await use.claims.claim(command.target_id, actor=command.actor, take_over=take_over)
    return Outcome("Case claimed", f"until {timestamp(case.claimed_until)}" if case.claimed_until else None)


async def _release_claim(use: UseCases, command: Command, _: commands.NoArguments) -> Outcome:
    await use.claims.release(command.target_id, actor=command.actor, take_over=command.role == ADMIN)
    return Outcome("Case handed back")


async def _look_up_inventory(use: UseCases, command: Command, given: commands.LookUpInventory) -> Outcome:
    if given.review_id:
        await use.claims.renew(given.review_id, actor=command.actor)
    answer = await use.reconciliation.look_up(command.target_id, asked_by=command.actor)
    return Outcome(in_words(answer.result))


async def _look_up_inventory_many(use: UseCases, command: Command, given: commands.LookUpInventoryMany) -> Outcome:
    return Outcome(*many_in_words(await use.reconciliation.look_up_many(given.order_ids, asked_by=command.actor)))


# -- releases and bulk jobs -----------------------------------------------------------------------


async def _retry_release(use: UseCases, command: Command, _: commands.NoArguments) -> Outcome:
    try:
        await use.releases.retry_now(command.target_id, **_signed(command))
    except ReleaseQueued:
        return Outcome("Queued until the breaker closes", "Nothing was sent yet; the job runs by itself then.", QUEUED)
    return Outcome("Release confirmed by the Inventory Service")


async def _mark_released(use: UseCases, command: Command, given: commands.MarkReleasedWithProof) -> Outcome:
    wanted = MarkReleased(
        command.target_id, given.version, given.proof, command.actor, command.command_id, by_admin=command.role == ADMIN
    )
    stock = await use.proofs.mark_released(wanted)
    if stock == StockState.FREE:
        return Outcome("Marked released", "The Inventory Service holds nothing for it.")
    return Outcome("Marked released on the proof alone", "The Inventory Service could not be asked.")


async def _control_bulk_job(use: UseCases, command: Command, given: commands.ControlBulkJob) -> Outcome:
    job = await use.bulk_control.apply_control(command.target_id, given.control, **_signed(command))
    return Outcome(f"Bulk job {job.state.lower()}")


# -- events ---------------------------------------------------------------------------------------


async def _replay_dead_letter(use: UseCases, command: Command, _: commands.NoArguments) -> Outcome:
    handled = await use.dead_letters.handle_again(command.target_id, **_signed(command))
    return Outcome("Replayed", f"handler: {handled}")


async def _discard_dead_letter(use: UseCases, command: Command, given: commands.RequiredNote) -> Outcome:
    await use.dead_letters.discard(command.target_id, note=given.note, **_signed(command))
    return Outcome("Discarded")


async def _retry_outgoing_event(use: UseCases, command: Command, given: commands.Note) -> Outcome:
    if not await use.undeliverable.is_done(command.command_id):
        await use.undeliverable.retry(command.target_id, reason=given.note.strip() or None, **_signed(command))
    return Outcome("Waits to be published")


async def _discard_outgoing_event(use: UseCases, command: Command, given: commands.RequiredNote) -> Outcome:
    if not await use.undeliverable.is_done(command.command_id):
        await use.undeliverable.discard(command.target_id, reason=given.note, **_signed(command))
    return Outcome("Given up")


# -- breakers and alerts --------------------------------------------------------------------------


async def _start_override(use: UseCases, command: Command, given: commands.StartOverride) -> Outcome:
    expires_in = timedelta(milliseconds=given.expires_in)
    await use.overrides.start(
        command.target_id,
        given.state,
        reason=given.reason,
        expires_in=expires_in,
        asked_at=command.created_at,
        **_signed(command),
    )
    state = given.state.replace("_", " ").capitalize()
    return Outcome(f"{state} until {command.created_at + expires_in:%H:%M:%S} UTC")


async def _end_override(use: UseCases, command: Command, _: commands.NoArguments) -> Outcome:
    was_active = await use.overrides.end(command.target_id, **_signed(command))
    return Outcome("The override has ended" if was_active else "No override was active any more")


async def _acknowledge_alert(use: UseCases, command: Command, given: commands.Note) -> Outcome:
    alert = await use.alerts.acknowledge(command.target_id, note=given.note, **_signed(command))
    return Outcome("Acknowledged", alert.name)


async def _silence_alert(use: UseCases, command: Command, given: commands.SilenceAlert) -> Outcome:
    try:
        matchers, ends_in = matchers_of(given.matchers), timedelta(milliseconds=given.expires_in)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValidationFailed(f"The command could not be understood: {error}") from error
    silence = await use.alerts.silence(matchers, ends_in=ends_in, reason=given.reason, **_signed(command))
    return Outcome("Silenced", ", ".join(map(str, matchers_of(silence.matchers))))


async def _end_silence(use: UseCases, command: Command, _: commands.NoArguments) -> Outcome:
    await use.alerts.end_silence(command.target_id, **_signed(command))
    return Outcome("Silence ended")


def _drills(use: UseCases) -> Drills:
    if use.drills is None:
        raise ValidationFailed("Drills are for the sandbox; a real Inventory Service is in use.")
    return use.drills


async def _start_drill(use: UseCases, command: Command, given: commands.StartDrill) -> Outcome:
    drill = await _drills(use).start(
        command.target_id,
        seconds=given.seconds,
        level=given.level,
        reason=given.reason,
        actor=command.actor,
        drill_id=command.command_id,
    )
    return Outcome("Drill started", f"faults last {drill.seconds} s")


async def _stop_drill(use: UseCases, command: Command, _: commands.NoArguments) -> Outcome:
    await _drills(use).stop(command.target_id, actor=command.actor)
    return Outcome("The faults end now")


async def _set_traffic(use: UseCases, command: Command, given: commands.SetTraffic) -> Outcome:
    await _drills(use).set_traffic(given.orders_per_second, actor=command.actor)
    return Outcome(f"{given.orders_per_second:g} orders a second requested")


HANDLERS: Mapping[str, Handler] = {
    CommandKind.CANCEL_ORDER: _cancel_order,
    CommandKind.RETURN_ITEMS: _return_items,
    CommandKind.LOOK_UP_INVENTORY: _look_up_inventory,
    CommandKind.LOOK_UP_INVENTORY_MANY: _look_up_inventory_many,
    CommandKind.RESOLVE_REVIEW: _resolve_review,
    CommandKind.CLAIM_REVIEW: _claim_review,
    CommandKind.RELEASE_CLAIM: _release_claim,
    CommandKind.RETRY_RELEASE: _retry_release,
    CommandKind.MARK_RELEASED: _mark_released,
    CommandKind.COMPENSATE: _compensate,
    CommandKind.CONTROL_BULK_JOB: _control_bulk_job,
    CommandKind.REPLAY_DEAD_LETTER: _replay_dead_letter,
    CommandKind.DISCARD_DEAD_LETTER: _discard_dead_letter,
    CommandKind.RETRY_OUTGOING_EVENT: _retry_outgoing_event,
    CommandKind.DISCARD_OUTGOING_EVENT: _discard_outgoing_event,
    CommandKind.START_OVERRIDE: _start_override,
    CommandKind.END_OVERRIDE: _end_override,
    CommandKind.ACKNOWLEDGE_ALERT: _acknowledge_alert,
    CommandKind.SILENCE_ALERT: _silence_alert,
    CommandKind.END_SILENCE: _end_silence,
    CommandKind.START_DRILL: _start_drill,
    CommandKind.STOP_DRILL: _stop_drill,
    CommandKind.SET_TRAFFIC: _set_traffic,
}
"""The dispatch table: one handler for every CommandKind."""
