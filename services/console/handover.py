"""Shift hand-over: open items, and changes since an actor last marked the hand-over as seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.alerting.evaluator import silence_matchers
from services.alerting.state_machine import matchers_of, silenced_by
from services.console.access import LIVE_TTL, Topic
from services.console.alerts import title, urgency
from services.console.cache import Reading
from services.domain.bulk import BulkAction
from services.domain.orders.events import timestamp
from services.domain.orders.model import ReleaseState
from services.metrics.health import NAMES
from state import alerts, audit, breakers, bulk_jobs, conservation, dead_letters, releases, reviews, sandbox
from state.audit import AuditEntry, AuditFilter
from state.breakers import BreakerTransition

MARK_AS_SEEN = "MARK_AS_SEEN"
SHOWN = 20
"""Items shown per section; further items are only counted."""
FIRST_LOOK = timedelta(hours=8)
"""Start of "what changed" for an actor without an earlier visit: one shift ago."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a section."""

    text: str
    page: str = ""
    """The page on which to act on it, and its parameters."""
    query: tuple[tuple[str, str], ...] = ()
    at: datetime | None = None
    until: datetime | None = None
    """The time at which the item ends by itself; None if it does not."""


@dataclass(frozen=True, slots=True)
class Section:
    """The open items of one kind."""

    title: str
    nothing: str
    """Text for an empty section."""
    items: tuple[Item, ...]
    count: int
    is_known: bool = True
    """False if an empty section means that nothing was checked yet."""
    is_grouped: bool = False
    """Whether one item counts several things, so that ``count`` is not the number of items."""


@dataclass(frozen=True, slots=True)
class HandoverPage:
    """The content of the Hand-over page."""

    sections: tuple[Section, ...]
    since: datetime
    """When the actor last marked the hand-over as seen."""
    is_first_look: bool
    actions: tuple[AuditEntry, ...]
    """Actions since then, newest first."""
    transitions: tuple[BreakerTransition, ...]
    """Changes of breaker states since then, newest first."""
    opened_cases: int
    """Cases opened since then that are still open."""


Make = Callable[[Connection, datetime], Section]


class Handover(Topic):
    """The topic of the Hand-over page."""

    def page(self, person: str, since: datetime | None = None) -> Reading[HandoverPage]:
        """The hand-over of an actor, with changes since their last visit or since the given time."""
        return self._access.read(
            ("handover", person, since), LIVE_TTL, lambda c: _page(c, self._access.now(), person, since)
        )

    def looked(self, person: str) -> None:
        """Record that the actor has seen everything up to now. Raises NotPermitted or SourceUnavailable."""
        now = self._access.now()
        self._access.write(person, lambda connection: _note_look(connection, person, now))


def _page(connection: Connection, now: datetime, person: str, since: datetime | None) -> HandoverPage:
    last = audit.last_visit(connection, person)
    start = since or last or now - FIRST_LOOK
    found = audit.listed(connection, AuditFilter(since=start)).page(connection, 50)
    entries = [AuditEntry(*tuple(row)[1:]) for row in found.rows]
    return HandoverPage(
        sections=tuple(make(connection, now) for make in SECTIONS),
        since=start,
        is_first_look=since is None and last is None,
        actions=tuple(entry for entry in entries if entry.action != MARK_AS_SEEN),
        transitions=tuple(breakers.transitions_since(connection, start, 50)),
        opened_cases=reviews.count_open_since(connection, start),
    )


def _note_look(connection: Connection, person: str, now: datetime) -> None:
    last = audit.last_visit(connection, person)
    audit.note_visit(connection, person, now)
    before = {"seenUpTo": timestamp(last) if last else None}
    audit.add(
        connection,
        AuditEntry(
            at=now, actor=person, action=MARK_AS_SEEN, target=f"handover:{person}", order_id=None, reason=None,
            before=before, after={"seenUpTo": timestamp(now)}, result="done", action_id=None,
        ),
    )  # fmt: skip


def _claims(connection: Connection, now: datetime) -> Section:
    claimed = reviews.claimed(connection, now, SHOWN + 1)
    items = [
        Item(
            f"{case.reason} of {case.order_id}, claimed by {case.owner}",
            "reviews",
            (("case", case.review_id),),
            None,
            case.claimed_until,
        )
        for case in claimed[:SHOWN]
    ]
    return Section("Open claims", "No case is claimed.", tuple(items), len(claimed))


def _open_cases(connection: Connection, _now: datetime) -> Section:
    counted = reviews.count_open_by_reason(connection)
    items = [Item(f"{count} x {reason}", "reviews", (("reason", reason),)) for reason, count in sorted(counted.items())]
    return Section("Cases for a person", "No case is open.", tuple(items), sum(counted.values()), is_grouped=True)


def _releases(connection: Connection, _now: datetime) -> Section:
    failed = releases.count_by_state(connection).get(ReleaseState.FAILED, 0)
    jobs = releases.page(connection, states=(ReleaseState.FAILED,), limit=SHOWN)
    items = [
        Item(f"{job.order_id}: {job.last_error or job.reason}", "order", (("order", job.order_id),), job.updated_at)
        for job in jobs
    ]
    return Section("Failed releases", "No release has failed.", tuple(items), failed)


def _overrides(connection: Connection, now: datetime) -> Section:
    active = breakers.active_overrides(connection, now)
    items = [
        Item(
            f"{NAMES.get(name, name)} {override.state.replace('_', ' ')} by {override.actor}: {override.reason}",
            "breakers",
            (),
            override.created_at,
            override.expires_at,
        )
        for name, override in sorted(active.items(), key=lambda item: item[1].expires_at)
    ]
    return Section("Breaker overrides", "No breaker is forced.", tuple(items), len(items))


def _firing(connection: Connection, now: datetime) -> Section:
    running = silence_matchers(connection, now)
    firing = sorted((alert for alert in alerts.standing(connection) if alert.state == alerts.FIRING), key=urgency)
    items = [
        Item(
            f"{alert.severity.capitalize()}: {title(alert)}: {alert.annotations.get('summary', '')}"
            + (f" Acknowledged by {alert.acknowledged_by}." if alert.acknowledged_by else "")
            + (" Silenced." if silenced_by(alert.labels, running) else ""),
            "alerts",
            (("alert", alert.alert_id),),
            alert.fired_at,
        )
        for alert in firing[:SHOWN]
    ]
    return Section("Firing alerts", "No alert is firing.", tuple(items), len(firing))


def _silences(connection: Connection, now: datetime) -> Section:
    running = sorted(alerts.running_silences(connection, now), key=lambda silence: silence.ends_at)
    items = [
        Item(
            f"{_silenced(silence.matchers)} silenced by {silence.actor}: {silence.reason}",
            "alerts",
            (("section", "Silences"),),
            silence.created_at,
            silence.ends_at,
        )
        for silence in running[:SHOWN]
    ]
    return Section("Silences", "No alert is silenced.", tuple(items), len(running))


def _silenced(matchers: Sequence[Mapping[str, Any]]) -> str:
    """The name of the silenced alert, with its other labels in brackets."""
    labels = {matcher.name: matcher.value for matcher in matchers_of(matchers)}
    name = labels.pop("alertname", "Every alert")
    others = ", ".join(f"{label} {value}" for label, value in labels.items())
    return f"{name} ({others})" if others else str(name)


_WORKED_ON: dict[str, str] = {
    BulkAction.RETRY_RELEASE: "releases",
    BulkAction.MARK_RELEASED: "releases",
    BulkAction.RESOLVE_REVIEW: "reviews",
    BulkAction.REPLAY_EVENT: "events",
    BulkAction.DISCARD_EVENT: "events",
}
"""The page on which a bulk job is followed and controlled."""


def _operations(connection: Connection, _now: datetime) -> Section:
    unended = bulk_jobs.unended(connection, SHOWN)
    items = [
        Item(
            f"{one.bulk_action.replace('_', ' ').capitalize()}, {one.total} {'item' if one.total == 1 else 'items'}, "
            f"by {one.actor}: {one.note or one.state.lower()}",
            _WORKED_ON.get(one.bulk_action, "releases"),
            (("operation", one.job_id),),
            one.created_at,
        )
        for one in unended
    ]
    return Section("Bulk jobs", "No bulk job is running.", tuple(items), len(items))


def _drills(connection: Connection, _now: datetime) -> Section:
    drill = sandbox.active(connection)
    items: tuple[Item, ...] = ()
    if drill is not None:
        text = f"{drill.kind.replace('_', ' ')} for {drill.seconds} s by {drill.actor}: {drill.phase.lower()}"
        items = (Item(text, "sandbox", (("drill", drill.drill_id),), drill.created_at),)
    return Section("Drills", "No drill is under way.", items, len(items))


def _dead_letters(connection: Connection, _now: datetime) -> Section:
    found = dead_letters.groups(connection, limit=SHOWN)
    items = [
        Item(f"{group.count} x {group.subject}: {group.example}", "events", (("view", "Dead letters"),), group.last_at)
        for group in found
    ]
    count = dead_letters.count_open(connection)
    return Section("Dead letters", "No event is waiting for a person.", tuple(items), count, is_grouped=True)


def _differences(connection: Connection, _now: datetime) -> Section:
    found = conservation.page(connection, limit=SHOWN)
    is_known = conservation.progress(connection)[1] > 0
    nothing = "Stock and money add up." if is_known else "Nothing has been compared yet."
    items = [
        Item(f"{one.kind} of {one.order_id}: {one.detail}", "conservation", (), one.first_seen_at) for one in found
    ]
    return Section("Differences", nothing, tuple(items), conservation.count_unsettled(connection), is_known)


SECTIONS: Sequence[Make] = (
    _firing,
    _open_cases,
    _claims,
    _releases,
    _operations,
    _overrides,
    _silences,
    _dead_letters,
    _differences,
    _drills,
)
"""In display order; a new topic adds its function here."""
