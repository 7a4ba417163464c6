"""The Overview page: the health of the integration, firing alerts, breakers, key numbers and recent changes."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts import actions, frame, labels, tiles, time_series
from pages.parts import bulk_jobs as operations
from pages.parts.widgets import clock, empty
from services.breakers.overview import OPERATIONS
from services.console.alerts import title
from services.console.facade import console
from services.metrics.health import Finding, Health, Level
from services.metrics.trends import BIN

FIRING_SHOWN = 5

JUMPS = {
    "breakers": "Breakers",
    "orders": "Orders that wait",
    "releases": "Failed releases",
    "reviews": "Manual review",
    "conservation": "Differences",
    "events": "Dead letters",
}


def health() -> None:
    """The health in one sentence, with links to the pages that explain it."""
    reading, trends = console().status.live(), console().status.trends()
    if (live := empty.value_of(reading)) is None:
        return
    verdict = console().status.health(live, trends.value)
    if reading.problem:
        st.markdown(f":gray[Last known: {labels.plain(verdict.headline)}. {labels.plain(verdict.sentence)}]")
    else:
        _say(verdict)
    if since := live.silent_since:
        st.caption(f"Last heard of a worker {clock.both(since, console().now())}.")
    _jumps(verdict.findings)


def _say(verdict: Health) -> None:
    sentence = labels.plain(verdict.sentence)
    if verdict.level == Level.GOOD:
        st.markdown(f":green[:material/check_circle:] **{verdict.headline}.** {sentence}")
    elif verdict.level == Level.ATTENTION:
        st.warning(sentence, title=verdict.headline, icon=":material/visibility:")
    else:
        st.error(sentence, title=verdict.headline, icon=":material/error:")


def _jumps(findings: Sequence[Finding]) -> None:
    links = {(finding.page, finding.filters): finding for finding in findings if finding.page != "overview"}
    if not links:
        return
    with st.container(horizontal=True, gap="small"):
        for finding in links.values():
            query = labels.in_address(dict(finding.filters))
            st.page_link(
                f"{finding.page}.py", label=_jump(finding), icon=":material/arrow_forward:", query_params=query
            )


def _jump(finding: Finding) -> str:
    if finding.page == "orders" and ("status", "REJECTED") in finding.filters:
        return "Refused orders"
    return "Outgoing events" if finding.page == "events" and finding.filters else JUMPS[finding.page]


def firing() -> None:
    """One line per firing alert; draws nothing without one."""
    reading = console().alerts.firing()
    if not reading.value:
        return
    now = console().now()
    with st.container(border=True, gap="xxsmall", key="firing_alerts"):
        for alert in reading.value[:FIRING_SHOWN]:
            since = clock.ago(alert.fired_at or alert.active_at, now)
            badge = labels.badge(labels.SEVERITY, alert.severity, grey=bool(reading.problem))
            taken = f" · taken by {labels.plain(alert.acknowledged_by)}" if alert.acknowledged_by else ""
            summary = labels.plain(alert.annotations.get("summary", ""))
            name = labels.plain(title(alert))
            st.markdown(frame.shade(f"{badge} **{name}** {summary} :small[{since}{taken}]", reading))
        more = len(reading.value) - FIRING_SHOWN
        label = f"Alerts, {more} more firing" if more > 0 else "Alerts: what to do, acknowledge, silence"
        st.page_link("alerts.py", label=label, icon=":material/notifications_active:")


def breakers() -> None:
    """A tile per breaker."""
    reading, trends = console().status.live(), console().status.trends()
    if reading.value is None or not reading.value.breakers:
        return
    operations = trends.value.operations if trends.value else {}
    with st.grid(3, min_column_width=260):
        for breaker in reading.value.breakers:
            trend = operations.get(OPERATIONS.get(breaker.name, ""))
            tiles.breaker(breaker, trend, grey=bool(reading.problem))


def numbers() -> None:
    """The key numbers, each with its time series over half an hour."""
    reading, trends = console().status.live(), console().status.trends()
    if reading.value is None:
        return
    if trends.value is None:
        empty.no_source(trends)
        return
    grey = bool(reading.problem)
    sampled = trends.value.sampled_at
    note = f"rates and latencies of the last {clock.span(trends.value.window)}"
    frame.as_of(reading, f"{note}, sampled {clock.ago(sampled, console().now())}" if sampled else "no samples yet")
    with st.grid(4, min_column_width=155):
        tiles.rates(trends.value, grey=grey)
        tiles.queues(reading.value, trends.value, reading.as_of or console().now(), grey=grey)


def orders_per_minute() -> None:
    """Orders per minute by outcome, and the last changes."""
    reading = console().status.trends()
    if reading.value is None:
        return
    left, right = st.columns([2, 1])
    with left.container(border=True, height="stretch"):
        st.markdown("**Orders per minute by outcome**")
        if reading.value.orders_per_minute:
            time_series.draw(time_series.orders_per_minute.of(reading.value), height=290)
            frame.as_of(reading, f"each point is {clock.span(BIN)}")
        else:
            empty.no_data_yet("No samples yet; the worker writes one every few seconds.")
    with right.container(border=True, height="stretch"):
        st.markdown("**What changed last**")
        _changes()


def _changes() -> None:
    reading, now = console().status.changes(), console().now()
    changes = reading.value
    if _bulk_jobs() and not (changes and (changes.transitions or changes.commands)):
        return
    if changes is None:
        empty.no_source(reading)
        return
    if not (changes.transitions or changes.commands):
        st.markdown(":gray[:material/check: Nothing in the last day.]")
        return
    lines = [
        (
            change.at,
            (
                f"{labels.badge(labels.BREAKER, change.to_state, grey=bool(reading.problem))} "
                f"{labels.breaker(change.breaker)} breaker"
            ),
        )
        for change in changes.transitions
    ]
    lines += [(command.created_at, actions.summary(command, with_age=False)) for command in changes.commands]
    for at, text in sorted(lines, key=lambda line: line[0], reverse=True)[:6]:
        st.markdown(frame.shade(f"{text} :small[:gray[{clock.at(at, now)}]]", reading))


def _bulk_jobs() -> bool:
    """One line per unfinished bulk job; returns whether there is any."""
    reading = console().bulk.shown()
    unended = reading.value.unended if reading.value else ()
    for operation in unended[:3]:
        st.markdown(operations.line(operation, grey=bool(reading.problem)))
    return bool(unended)


def everything() -> None:
    health()
    firing()
    breakers()
    numbers()
    orders_per_minute()


frame.page("Overview", everything, says_worker=False)
