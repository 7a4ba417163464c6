"""Running bulk operations: a canary ramp over a frozen list, under a lease, with a ledger per item.

Every item is marked as sent before anything is sent, and is executed under an idempotent key, so that a
worker that dies in between leaves it to the next one without a second effect.
Source: console, "what none of them has" 2, 3 and 4.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from services.bulk.actions import ItemAction
from services.clients.breaker import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, AsyncBreaker, InventoryBreakers
from services.domain.bulk import (
    ENDED,
    IN_FLIGHT,
    MAX_IN_FLIGHT,
    THROTTLED,
    Ended,
    Gate,
    ItemState,
    Move,
    OperationState,
    count,
    next_step,
)
from services.domain.call_attempts import InventoryCall
from services.domain.orders.failed_steps import TRIES, reason_of
from services.orders.context import OrdersContext, raise_first
from state import bulk_jobs
from state.bulk_jobs import Item, Operation
from state.engine.correlation import correlated
from state.engine.failures import is_of_database

logger = logging.getLogger("holdfast.operations")

LEASE = timedelta(seconds=60)
"""A runner that is silent for longer is taken for dead, and another one carries its operation on."""

OPERATIONS_AT_ONCE = 5

REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 60.0
"""Before an operation that could not move is looked at again; twice as long after each round in a row that raised."""

MAX_NOTE = 300

GateOf = Callable[[str | None], Gate]
"""What the circuit breaker before a remote operation lets through now."""


def breaker_gate(breakers: InventoryBreakers) -> GateOf:
    """The gate of this replica's circuit breakers."""
    by_call: dict[str, AsyncBreaker] = {
        InventoryCall.CHECK_AVAILABILITY: breakers.checker,
        InventoryCall.RESERVE: breakers.reserver,
        InventoryCall.RELEASE: breakers.releaser,
    }
    states = {OPEN: OPEN, FORCED_OPEN: OPEN, HALF_OPEN: HALF_OPEN}

    def gate_of(remote: str | None) -> Gate:
        if remote is None:
            return Gate()
        snapshot = by_call[remote].snapshot()
        return Gate(states.get(snapshot.state, CLOSED), snapshot.retry_in_ms / 1000)

    return gate_of


def paced_gate(gate_of: GateOf, rest_seconds: Callable[[], float]) -> GateOf:
    """The gate, shut as well while the other service has asked for a rest of so many seconds."""

    def paced(remote: str | None) -> Gate:
        gate = gate_of(remote)
        seconds = rest_seconds() if remote is not None and gate.budget else 0.0
        return Gate(THROTTLED, seconds) if seconds > 0 else gate

    return paced


class OperationRunner:
    """Carries every running operation on by a few items a round; each replica has one, with a name of its own."""

    def __init__(
        self,
        context: OrdersContext,
        actions: Mapping[str, ItemAction],
        gate_of: GateOf,
        answer_within: timedelta,
        name: str,
        lease: timedelta = LEASE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``answer_within``: an accepted item that is not confirmed by then counts as never answered.

        ``lease``: longer than one step of any item may take.
        """
        self._context = context
        self._actions = actions
        self._gate_of = gate_of
        self._answer_within = answer_within
        self._name = name
        self._lease = lease
        self._monotonic = monotonic
        self._resting: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        """Rounds in a row that raised, per operation."""

    async def run_due(self) -> bool:
        """One round of a Loop; never asks for another one at once, which paces the operations."""
        now, passed = self._context.clock(), self._monotonic()
        ids = await self._context.database.read(lambda c: bulk_jobs.workable(c, self._name, now, OPERATIONS_AT_ONCE))
        due = [one for one in ids if self._resting.get(one, passed) <= passed]
        moved = await asyncio.gather(*map(self._carry_on, due), return_exceptions=True)
        still = {one: until for one, until in self._resting.items() if one in ids and one not in due}
        self._resting = still | {
            one: passed + self._rest_seconds(one) for one, has in zip(due, moved, strict=True) if has is False
        }
        raise_first(moved)
        return False

    async def _carry_on(self, operation_id: str) -> bool:
        """One round of one operation; False when there was nothing to do but wait."""
        with correlated(operation_id):
            try:
                has_moved = await self._round(operation_id)
            except Exception as error:
                # A boundary: an operation that hits a mistake of ours keeps no other one from going on.
                if is_of_database(error):
                    raise
                logger.warning("operation_round_failed", exc_info=error)
                self._context.failed("operations")
                await self._count_failure(operation_id, error)
                return False
            self._failures.pop(operation_id, None)
            return has_moved

    async def _count_failure(self, operation_id: str, error: Exception) -> None:
        """Stop an operation of which so many rounds in a row raised: a person decides how it goes on."""
        failures = self._failures[operation_id] = self._failures.get(operation_id, 0) + 1
        if failures < TRIES:
            return
        note = f"Stopped by itself: {failures} rounds in a row failed unexpectedly. {reason_of(error)}"
        values = {"state": OperationState.STOPPED, "note": note[:MAX_NOTE]}
        running = (OperationState.RUNNING,)
        await self._context.database.write(
            lambda c: bulk_jobs.change(c, operation_id, only_from=running, runner=self._name, **values)
        )

    def _rest_seconds(self, operation_id: str) -> float:
        return min(REST_SECONDS * 2.0 ** min(self._failures.get(operation_id, 0), 10), LONGEST_REST_SECONDS)

    async def _round(self, operation_id: str) -> bool:
        now = self._context.clock()

        def begin(connection: Connection) -> tuple[Operation, list[Item], int] | None:
            operation = bulk_jobs.claim(connection, operation_id, self._name, now, now + self._lease)
            if operation is None:
                return None
            ended = self._follow(connection, operation, now)
            stuck = bulk_jobs.items_in(connection, operation_id, (ItemState.SENT,), MAX_IN_FLIGHT)
            return operation, stuck, ended

        begun = await self._context.database.write(begin)
        if begun is None:
            return False
        operation, interrupted, ended = begun
        # Whoever sent these did not live to see the answer: the same keys are used again.
        await self._execute(operation, interrupted)
        sent = await self._context.database.write(lambda c: self._step(c, operation_id))
        if sent:
            await self._execute(operation, sent)
            await self._context.database.write(lambda c: self._count(c, operation_id))
        return bool(sent or interrupted or ended)

    # ------------------------------------------------------------ one round

    def _follow(self, connection: Connection, operation: Operation, now: datetime) -> int:
        """End the accepted items of which something has become, or nothing for too long; returns how many."""
        ended = 0
        accepted = bulk_jobs.items_in(connection, operation.operation_id, (ItemState.ACCEPTED,), bulk_jobs.MAX_PAGE)
        ends = self._followed(connection, operation, accepted) if accepted else {}
        for item in accepted:
            end = ends.get(item.item_id)
            if end is None and item.accepted_at is not None and now - item.accepted_at > self._answer_within:
                end = Ended(ItemState.UNANSWERED, "Accepted, and never confirmed.")
            if end is not None:
                _settle(connection, item, end, now, self._name)
                ended += 1
        return ended

    def _followed(self, connection: Connection, operation: Operation, accepted: list[Item]) -> dict[str, Ended]:
        """What became of accepted items; one of which that cannot be told keeps none of the others waiting."""
        try:
            return self._actions[operation.verb].follow(connection, operation, accepted)
        except DBAPIError:
            raise
        except Exception as error:
            if len(accepted) == 1:
                logger.warning("operation_item_failed", extra={"action_id": accepted[0].action_id}, exc_info=error)
                self._context.failed("operations")
                why = f"Accepted, and not known how it ended: {type(error).__name__}."
                return {accepted[0].item_id: Ended(ItemState.UNANSWERED, why)}
        return {key: end for item in accepted for key, end in self._followed(connection, operation, [item]).items()}

    def _step(self, connection: Connection, operation_id: str) -> list[Item]:
        """Take the next move; returns items that are now marked as sent and have to be sent."""
        operation = bulk_jobs.get(connection, operation_id)
        if operation is None or operation.claimed_by != self._name or operation.ended_at is not None:
            return []
        now = self._context.clock()
        if operation.state != OperationState.RUNNING:
            self._count(connection, operation_id)
            return []
        gate = self._gate_of(self._actions[operation.verb].guarded_by(operation))
        stage, batch = operation.stage, operation.batch
        while True:
            whole = bulk_jobs.tally(connection, operation_id)
            of_batch = bulk_jobs.tally(connection, operation_id, batch=batch)
            step = next_step(stage, whole.get(ItemState.ASKED, 0), count(whole, IN_FLIGHT), of_batch, gate)
            if step.move != Move.ADVANCE:
                break
            stage, batch = stage + 1, batch + 1
        values: dict[str, Any] = {"stage": stage, "batch": batch, "claimed_until": now + self._lease}
        values |= _state_after(step.move, step.reason, now) | _waiting(step.move, gate, now)
        if not bulk_jobs.change(
            connection, operation_id, only_from=(OperationState.RUNNING,), runner=self._name, **values
        ):
            return []
        sent = bulk_jobs.send(connection, operation_id, batch, step.send, now) if step.send else []
        self._count(connection, operation_id)
        return sent

    def _count(self, connection: Connection, operation_id: str) -> None:
        """Write the ledger's sums down, so that pages need not count; ends a cancelled operation."""
        operation = bulk_jobs.get(connection, operation_id)
        if operation is None:
            return
        if operation.state == OperationState.CANCELLED:
            # What an open breaker sent back has no second chance.
            bulk_jobs.withdraw(connection, operation_id, ItemState.NOT_SENT, self._context.clock())
        tally = bulk_jobs.tally(connection, operation_id)
        values: dict[str, Any] = {"tally": tally, "in_flight": count(tally, IN_FLIGHT)}
        if operation.causes:
            action = self._actions[operation.verb]
            values["new_failures"] = action.new_failures(connection, operation, operation.created_at)
        if operation.state == OperationState.CANCELLED and count(tally, ENDED) == operation.total:
            values["ended_at"] = self._context.clock()
        bulk_jobs.change(connection, operation_id, runner=self._name, **values)

    # ------------------------------------------------------------ the items

    async def _execute(self, operation: Operation, items: Sequence[Item]) -> None:
        raise_first(
            await asyncio.gather(*(self._execute_one(operation, item) for item in items), return_exceptions=True)
        )

    async def _execute_one(self, operation: Operation, item: Item) -> None:
        end = await self._outcome(operation, item)
        await self._context.database.write(lambda c: _settle(c, item, end, self._context.clock(), self._name))

    async def _outcome(self, operation: Operation, item: Item) -> Ended:
        try:
            return await self._actions[operation.verb].act(operation, item)
        except Exception as error:
            # A boundary: one item that hits a mistake of ours must not hold up the others, nor be tried for ever.
            logger.warning("operation_item_failed", extra={"action_id": item.action_id}, exc_info=error)
            self._context.failed("operations")
            return Ended(ItemState.UNANSWERED, f"Not known how it ended: {type(error).__name__}.")


def _settle(connection: Connection, item: Item, end: Ended, at: datetime, runner: str) -> None:
    values: dict[str, Any] = {"state": end.state, "detail": end.detail}
    if end.state == ItemState.ASKED:
        values |= {"batch": None, "sent_at": None, "version": end.version or item.version}
    elif end.state == ItemState.ACCEPTED:
        values["accepted_at"] = at
    else:
        values["settled_at"] = at
        if end.state in (ItemState.CONFIRMED, ItemState.RECORDED) and item.accepted_at is None:
            values["accepted_at"] = at
    bulk_jobs.settle(connection, item, IN_FLIGHT, runner=runner, **values)


def _state_after(move: Move, reason: str, now: datetime) -> dict[str, Any]:
    if move == Move.STOP:
        return {"state": OperationState.STOPPED, "note": f"Stopped by itself: {reason}."}
    if move == Move.END:
        return {"state": OperationState.DONE, "note": None, "ended_at": now}
    return {"note": None}


def _waiting(move: Move, gate: Gate, now: datetime) -> dict[str, Any]:
    if move == Move.WAIT and gate.budget == 0:
        until = now + timedelta(seconds=gate.retry_in_seconds)
        rests = gate.state == THROTTLED
        note = "Waits: the other service asked for a rest." if rests else "Waits for the circuit breaker to close."
        return {"waits_until": until, "note": note}
    return {"waits_until": None}
