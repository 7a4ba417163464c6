"""Resolves review cases: one action of one person, recorded before it runs.

Source: requirements 8.2 (manual resolution queue); contract 3, POST /api/v1/reviews/{reviewId}/resolve.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.clients.inventory.port import InventoryGateway
from services.domain import incident_impact
from services.domain.calls import attempts_of
from services.domain.errors import ApiError, InvalidState, ReviewConflict, existing
from services.domain.orders import ending, lifecycle
from services.domain.orders.changes import CALLED_OFF, Change
from services.domain.orders.model import Order, OrderStatus, PaymentStatus, ReleaseState, ReviewReason
from services.domain.reconciliation import reconcile
from services.domain.reviews import (
    ReleaseActionKind,
    ResolutionOutcome,
    ReviewAction,
    ReviewState,
    allowed_actions,
    called_by,
    check_reason,
    is_about_a_difference,
)
from services.orders.fulfilment import OrderFulfilment
from services.reviews.cases import (
    LEASE,
    ResolveReview,
    audit_entry,
    claimed_by_other,
    conflict,
    stored_case,
    was_done_before,
)
from services.reviews.comparison import Reconciliation
from services.unit_of_work import OrdersContext, UnitOfWork, action_entry, after_calls, call_entries, counted
from state import audit, conservation, incident_impacts, orders, releases, reviews
from state.releases import Release
from state.reviews import Review


class _LostRace(Exception):
    """The case changed between read and write; nothing was written."""


@dataclass
class ReviewResolution:
    """Resolves cases; when two people act on one case, the second gets a ReviewConflict that names the first."""

    context: OrdersContext
    fulfilment: OrderFulfilment
    inventory: InventoryGateway
    confirmation_timeout: timedelta
    reconciliation: Reconciliation | None = None
    """None: no lookup is made, and the state of the order alone decides."""

    def __post_init__(self) -> None:
        self._actions: dict[str, Callable[[ResolveReview, Order, Review], Awaitable[None]]] = {
            ReviewAction.APPROVE: self._approve,
            ReviewAction.CANCEL_ORDER: self._cancel_order,
            ReviewAction.MARK_RELEASED: self._mark_released,
            ReviewAction.RETRY_RESERVATION: self._retry_reservation,
            ReviewAction.RECONFIRM: self._reconfirm,
            ReviewAction.RETRY_STEP: self._retry_step,
        }

    async def resolve(self, command: ResolveReview) -> Review:
        """Carry out the action and return the case; it is still OPEN when a retry failed again.

        Raises NotFound, ValidationFailed (an explanation is missing), ReviewConflict (wrong version, or the case is
        closed), ClaimedByOther, InvalidState (the order or the stock does not allow the action), or the error of the
        inventory call for RECONFIRM. The same action under a known action_id changes nothing and returns the case;
        another action under it raises IdempotencyKeyReused.
        """
        review = await stored_case(self.context, command.review_id)
        if await was_done_before(self.context, command):
            return review
        try:
            await self._act(command, review)
        except (ReviewConflict, InvalidState):
            # The same action may have been sent twice; then the first one has changed the case or the order.
            if not await was_done_before(self.context, command):
                raise
        return await stored_case(self.context, command.review_id)

    async def called_by(self, review_id: str, action: str) -> str | None:
        """The inventory call that the action on this case makes at once; None when it makes none.

        Raises NotFound.
        """
        return called_by(action, [(await stored_case(self.context, review_id)).reason])

    async def _act(self, command: ResolveReview, review: Review) -> None:
        if review.state != ReviewState.OPEN or review.version != command.version:
            raise await conflict(self.context, review, command)
        if not command.by_admin and (claimed := claimed_by_other(review, command.actor, self.context.clock())):
            raise claimed
        try:
            order = await self._order_if_allowed(command, review)
        except InvalidState:
            current = await stored_case(self.context, review.review_id)
            if (current.state, current.version) == (review.state, review.version):
                raise
            # Another actor has changed the order since the case was read.
            raise await conflict(self.context, review, command) from None
        try:
            with self.context.step("resolve review", order.order_id, order.traceparent):
                await self._actions[command.action](command, order, review)
        except IntegrityError:
            # A concurrent request executes the same action_id now.
            raise await conflict(self.context, review, command) from None

    async def _order_if_allowed(self, command: ResolveReview, review: Review) -> Order:
        """The order of the case. Raises InvalidState, ValidationFailed."""
        order = await self.context.get(review.order_id)
        allowed = allowed_actions(review.reason, order.status)
        if command.action not in allowed:
            raise InvalidState(
                f"{command.action} is not possible for this case.",
                {"action": command.action, "allowed": list(allowed), "orderStatus": order.status},
            )
        check_reason(review.reason, command.action, command.reason, command.note)
        await self._compare_sides(command, order, review)
        return order

    async def _compare_sides(self, command: ResolveReview, order: Order, review: Review) -> None:
        """Raise InvalidState when the inventory status makes the action wrong."""
        if self.reconciliation is None:
            return
        stock = await self.reconciliation.current_stock(order, asked_by=command.actor)
        found = reconcile(review.reason, order.status, stock)
        if command.action in found.refused:
            why = found.refused[ReviewAction(command.action)]
            again = replace(command, action_id=None)
            refused = f"refused: {InvalidState.code}"
            await self.context.database.write(lambda c: self._audit(c, again, review, order, order, refused))
            raise InvalidState(
                why,
                {"action": command.action, "allowed": list(found.allowed), "theirs": stock},
            )

    # ---------------------------------------------------------------- actions

    async def _approve(self, command: ResolveReview, order: Order, review: Review) -> None:
        def change(current: Order) -> Change | None:
            now = self.context.clock()
            if current.status in CALLED_OFF and current.payment_status == PaymentStatus.UNKNOWN:
                return ending.money_settled_by_hand(now)
            if current.status != OrderStatus.PAYING:
                return None
            # PAYMENT_UNKNOWN: the person has verified that the money was captured.
            if current.cancel_reason:
                return ending.cancel_while_paying(current, current.cancel_reason, now, money=True)
            return lifecycle.place(current, now, now + self.confirmation_timeout)

        def accept(connection: Connection) -> None:
            if is_about_a_difference(review.reason, order.status):
                conservation.accept(connection, order.order_id, self.context.clock())

        is_about_money = review.reason == ReviewReason.PAYMENT_UNKNOWN
        await self._resolve_with(command, order, review, change if is_about_money else None, accept)

    async def _cancel_order(self, command: ResolveReview, order: Order, review: Review) -> None:
        reason = command.note or command.reason or "OPERATOR_CANCELLED"

        def change(current: Order) -> Change:
            now = self.context.clock()
            if review.reason == ReviewReason.PAYMENT_UNKNOWN:
                return ending.cancel_while_paying(current, reason, now, money=None)
            change = ending.cancel(current, reason, now)
            # A cancel may have to wait for the outcome of the payment, so the payment is looked up at once.
            is_waiting = review.reason == ReviewReason.STEP_FAILED and current.status == OrderStatus.PAYING
            return change.then(lifecycle.retry_step(now)) if is_waiting else change

        await self._resolve_with(command, order, review, change)

    async def _mark_released(self, command: ResolveReview, order: Order, review: Review) -> None:
        def change(current: Order) -> Change:
            return ending.released(current, self.context.clock(), f"Marked released by {command.actor}")

        def settle_job(connection: Connection) -> None:
            job = releases.get(connection, order.order_id)
            # A job that was started again has another reservation to release, which the person has not seen.
            if job is not None and job.state == ReleaseState.FAILED:
                why = command.note or command.reason
                end_as_marked(connection, job, self.context.clock(), command.actor, why, in_bulk=command.in_bulk)

        await self._resolve_with(command, order, review, change, settle_job)

    async def _retry_reservation(self, command: ResolveReview, order: Order, review: Review) -> None:
        await self._begin(command, review, order)
        run = self.fulfilment.resume(order, actor=command.actor)
        moved = await counted(self.context, order.order_id, run)
        case = await stored_case(self.context, command.review_id)
        result = "done" if case.state != ReviewState.OPEN else f"failed: {case.cause or case.detail}"
        await self.context.database.write(
            lambda c: self._audit(c, replace(command, action_id=None), case, order, moved, result)
        )

    async def _retry_step(self, command: ResolveReview, order: Order, review: Review) -> None:
        """Make the order due, so that the sweeper retries it within a second; another failure opens the case again."""

        def change(current: Order) -> Change | None:
            return None if current.due_at is None else lifecycle.retry_step(self.context.clock())

        await self._resolve_with(command, order, review, change)

    async def _reconfirm(self, command: ResolveReview, order: Order, review: Review) -> None:
        if order.status == OrderStatus.PLACED:
            await self._resolve_with(command, order, review, self._ask_again)
            return
        review = await self._begin(command, review, order)
        try:
            held, attempts = await self.inventory.reserve(order.order_id, order.lines, order.user_id)
        except ApiError as error:
            await self._reconfirm_failed(command, review, order, error)
            raise

        def change(current: Order) -> Change:
            now = self.context.clock()
            due_at = now + self.confirmation_timeout
            change = lifecycle.reconfirm(current, held.reservation_id, held.expires_at, now, due_at)
            return after_calls(attempts, change)

        try:
            await self._resolve_with(replace(command, action_id=None), order, review, change)
        except ApiError:
            await self.fulfilment.give_back_if_ended(order.order_id)
            raise

    def _ask_again(self, order: Order) -> Change:
        now = self.context.clock()
        asked = lifecycle.ask_confirmation_again(order, now, now + self.confirmation_timeout)
        return asked.then(Change({"attempts": 0}))

    # ----------------------------------------------------------------- shared

    async def _resolve_with(
        self,
        command: ResolveReview,
        order: Order,
        review: Review,
        change: Callable[[Order], Change | None] | None,
        also: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """Close the case, change the order and write the audit entry in one transaction."""

        def work(unit: UnitOfWork) -> None:
            connection, at = unit.connection, self.context.clock()
            current = existing(orders.get(connection, order.order_id), "order", order.order_id)
            if not reviews.resolve(
                connection,
                review,
                by=command.actor,
                resolution=command.action,
                note=command.note,
                at=at,
                reason=command.reason,
                ignore_claim=command.by_admin,
            ):
                raise _LostRace
            also(connection)
            entry = action_entry(at, f"Review resolved: {command.action}", command.actor, command.note)
            decided = change(current) if change else None
            then = replace(current, **decided.values) if decided else current
            self._audit(connection, command, review, current, then, "done")
            if decided is None:
                orders.add_timeline(connection, current.order_id, [entry])
            else:
                unit.record(current, Change({}, (entry,)).then(decided), actor=command.actor)

        try:
            await self.context.unit_of_work(work)
        except _LostRace:
            raise await conflict(self.context, review, command) from None

    async def _begin(self, command: ResolveReview, review: Review, order: Order) -> Review:
        """Record that the action runs, before its first call; the case stays open until the action succeeds."""

        def transaction(connection: Connection) -> bool:
            at = self.context.clock()
            if not reviews.touch(connection, review, by=command.actor, at=at, ignore_claim=command.by_admin):
                return False
            reviews.renew_claim(connection, review.review_id, command.actor, at, at + LEASE)
            entry = action_entry(at, f"Review: {command.action}", command.actor, command.note)
            orders.add_timeline(connection, review.order_id, [entry])
            self._audit(connection, command, review, order, order, "started")
            return True

        if not await self.context.database.write(transaction):
            raise await conflict(self.context, review, command)
        return replace(review, version=review.version + 1)

    async def _reconfirm_failed(self, command: ResolveReview, review: Review, order: Order, error: ApiError) -> None:
        attempts = attempts_of(error)

        def transaction(connection: Connection) -> None:
            at = self.context.clock()
            title = f"Review: {command.action} failed: {error.code}"
            entries = [*call_entries(attempts), action_entry(at, title, command.actor, error.message)]
            orders.add_timeline(connection, review.order_id, entries)
            incident_impacts.add(connection, review.order_id, incident_impact.of_attempts(attempts))
            again = replace(command, action_id=None)
            self._audit(connection, again, review, order, order, f"failed: {error.code}")

        await self.context.database.write(transaction)

    def _audit(
        self, connection: Connection, command: ResolveReview, review: Review, before: Order, after: Order, result: str
    ) -> None:
        audit.add(connection, audit_entry(command, review, before, after, result, self.context.clock()))


def end_as_marked(
    connection: Connection, job: Release, at: datetime, actor: str, why: str | None, *, in_bulk: bool
) -> bool:
    """End a release job that a person marked as released; returns False when the job has changed since it was read."""
    if not releases.settle(connection, job, at, state=ReleaseState.DONE, next_attempt_at=None):
        return False
    kind = ReleaseActionKind.BULK_MARKED if in_bulk else ReleaseActionKind.MARKED
    lasted = ResolutionOutcome.LASTED
    releases.add_action(connection, job.order_id, job.cause, kind, actor, at, why=why, outcome=lasted)
    return True
