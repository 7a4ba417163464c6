"""Control of a bulk job: pause, resume, cancel."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from services.domain.bulk import CONTROLS, BulkItemState, BulkJobState, ControlAction
from services.domain.errors import InvalidState, ValidationFailed, existing
from services.unit_of_work import OrdersContext
from state import audit, bulk_jobs
from state.audit import AuditEntry
from state.bulk_jobs import BulkJob

_BECOMES = {
    ControlAction.PAUSE: BulkJobState.PAUSED,
    ControlAction.RESUME: BulkJobState.RUNNING,
    ControlAction.CANCEL: BulkJobState.CANCELLED,
}


class BulkControl:
    """Controls bulk jobs. Items that were sent before a pause or a cancel are still completed."""

    def __init__(self, context: OrdersContext) -> None:
        self._context = context

    async def apply_control(self, job_id: str, control: str, *, actor: str, action_id: str) -> BulkJob:
        """Apply a control once per ``action_id``, and return the changed job.

        Raises NotFound, ValidationFailed, and InvalidState when the job's state does not allow the control.
        """
        if control not in tuple(ControlAction):
            problem = {"field": "move", "value": control, "allowed": ", ".join(ControlAction)}
            raise ValidationFailed("Not valid: move.", {"problems": [problem]})

        def transaction(connection: Connection) -> BulkJob:
            before = existing(bulk_jobs.get(connection, job_id), "operation", job_id)
            if audit.find_action(connection, action_id) is not None:
                return before
            if control not in CONTROLS.get(before.state, ()):
                raise _refused(before.state, job_id, control)
            self._apply(connection, before, ControlAction(control))
            entry = AuditEntry(
                self._context.clock(),
                actor,
                f"OPERATION_{control.upper()}",
                f"operation:{job_id}",
                before={"state": before.state, "note": before.note},
                after={"state": _BECOMES[ControlAction(control)]},
                action_id=action_id,
            )
            audit.add(connection, entry)
            return bulk_jobs.get(connection, job_id) or before

        return await self._context.database.write(transaction)

    def _apply(self, connection: Connection, before: BulkJob, control: ControlAction) -> None:
        at = self._context.clock()
        values: dict[str, Any] = {"state": _BECOMES[control], "note": None, "waits_until": None}
        if control == ControlAction.RESUME:
            # Begin with the first stage again, because the cause of the stop may persist.
            values |= {"stage": 0, "batch": before.batch + 1}
        # Lock the job before its items, as the runner does, to avoid a deadlock.
        if not bulk_jobs.change(connection, before.job_id, only_from=(before.state,), **values):
            now = bulk_jobs.get(connection, before.job_id) or before
            raise _refused(now.state, before.job_id, control)
        if control == ControlAction.CANCEL:
            bulk_jobs.withdraw(connection, before.job_id, BulkItemState.NOT_SENT, at)


def _refused(state: str, job_id: str, control: str) -> InvalidState:
    return InvalidState(f"The bulk job is {state}.", {"operationId": job_id, "move": control})
