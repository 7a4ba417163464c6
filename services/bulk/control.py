"""What a person may do about a bulk operation that has begun: pause it, let it go on, cancel what is left."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from services.domain.bulk import STEERABLE, ItemState, OperationState, Steer
from services.domain.errors import InvalidState, NotFound, ValidationFailed
from services.orders.context import OrdersContext
from state import audit, bulk_jobs
from state.audit import AuditEntry
from state.bulk_jobs import Operation

_BECOMES = {
    Steer.PAUSE: OperationState.PAUSED,
    Steer.RESUME: OperationState.RUNNING,
    Steer.CANCEL: OperationState.CANCELLED,
}


class OperationSteering:
    """The use case; what is on its way when an operation is paused or cancelled still gets its end."""

    def __init__(self, context: OrdersContext) -> None:
        self._context = context

    async def steer(self, operation_id: str, move: str, *, actor: str, action_id: str) -> Operation:
        """The operation after the move. Raises NotFound, ValidationFailed, InvalidState; once per action_id."""
        if move not in tuple(Steer):
            problem = {"field": "move", "value": move, "allowed": ", ".join(Steer)}
            raise ValidationFailed("Not valid: move.", {"problems": [problem]})

        def transaction(connection: Connection) -> Operation:
            before = bulk_jobs.get(connection, operation_id)
            if before is None:
                raise NotFound("operation", operation_id)
            if audit.find_action(connection, action_id) is not None:
                return before
            if move not in STEERABLE.get(before.state, ()):
                raise _refused(before.state, operation_id, move)
            self._apply(connection, before, Steer(move))
            audit.add(connection, self._entry(before, Steer(move), actor, action_id))
            return bulk_jobs.get(connection, operation_id) or before

        return await self._context.transact(transaction)

    def _apply(self, connection: Connection, before: Operation, move: Steer) -> None:
        at = self._context.clock()
        values: dict[str, Any] = {"state": _BECOMES[move], "note": None, "waits_until": None}
        if move == Steer.RESUME:
            # The ramp begins anew: what made it stop may still be there.
            values |= {"stage": 0, "batch": before.batch + 1}
        # First the operation and then its items, as its runner does, so that neither waits for the other for ever.
        if not bulk_jobs.change(connection, before.operation_id, only_from=(before.state,), **values):
            now = bulk_jobs.get(connection, before.operation_id) or before
            raise _refused(now.state, before.operation_id, move)
        if move == Steer.CANCEL:
            bulk_jobs.withdraw(connection, before.operation_id, ItemState.NOT_SENT, at)

    def _entry(self, before: Operation, move: Steer, actor: str, action_id: str) -> AuditEntry:
        return AuditEntry(
            at=self._context.clock(),
            actor=actor,
            action=f"OPERATION_{move.upper()}",
            target=f"operation:{before.operation_id}",
            order_id=None,
            reason=None,
            before={"state": before.state, "note": before.note},
            after={"state": _BECOMES[move]},
            result="done",
            action_id=action_id,
        )


def _refused(state: str, operation_id: str, move: str) -> InvalidState:
    return InvalidState(f"The operation is {state}.", {"operationId": operation_id, "move": move})
