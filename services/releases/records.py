"""What is said of release jobs: in the audit log, and to a person who saw an earlier state of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.domain.errors import ReleaseConflict
from state.audit import AuditEntry
from state.releases import DONE, PENDING, Release


def refuse_changed(job: Release, version: int) -> None:
    """Raise ReleaseConflict unless the unfinished job is at that version."""
    if job.state == DONE or job.version != version:
        raise changed_since(job)


def changed_since(job: Release) -> ReleaseConflict:
    """The error for a job that is not what the person saw."""
    return ReleaseConflict(
        f"The job has changed since: it is {job.state} at version {job.version}.",
        {"orderId": job.order_id, "state": job.state, "version": job.version},
    )


def audit_release(
    action: str,
    before: Release,
    actor: str,
    at: datetime,
    reason: str | None = None,
    action_id: str | None = None,
    *,
    after: Mapping[str, object] | None = None,
    result: str = "started",
) -> AuditEntry:
    """The audit entry of an action on a release job."""
    return AuditEntry(
        at=at,
        actor=actor,
        action=action,
        target=f"release:{before.order_id}",
        order_id=before.order_id,
        reason=reason,
        before={"state": before.state, "attempts": before.attempts, "lastError": before.last_error},
        after=dict(after) if after is not None else {"state": PENDING, "attempts": before.attempts},
        result=result,
        action_id=action_id,
    )
