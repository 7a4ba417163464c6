"""The circuit breakers: state in words, time to the next trial, the window they judge by, and what they denied.

A breaker can be forced as an override, and from every stretch in which one was open it is one click to exactly the
affected orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from pages.parts import access, actions, charts, incident_impact, labels, live, override_dialog, tiles
from pages.parts.widgets import clock, empty
from services.console.access import Command
from services.console.cache import Reading
from services.console.facade import console
from services.console.incidents import Incident, IncidentInterval
from services.console.overrides import BreakerOverride
from services.console.status import OPERATIONS, Breaker, BreakerTransition, OperationTrend, ReplicaBreaker

SPAN = timedelta(minutes=30)
SHOWN_OPENINGS = 10
BANDS = "breaker_bands"
COUNTED = (("denied", "denied", "denied"), ("fallback", "fallback", "fallbacks"), ("flagged", "flagged", "flagged"))


def breakers() -> None:
    """One panel per breaker, and in it one line per replica."""
    reading, trends = console().status.live(), console().status.trends()
    if reading.value is None:
        empty.no_source(reading)
        return
    if not reading.value.breakers:
        empty.no_data_yet("No worker reports its breakers.")
        return
    live.as_of(reading, f"latencies of the last {clock.span(trends.value.window)}" if trends.value else "")
    operations = trends.value.operations if trends.value else {}
    asked = console().overrides.asked(tuple(breaker.name for breaker in reading.value.breakers)).value or {}
    overrides = console().overrides.running().value or {}
    for breaker in reading.value.breakers:
        trend = operations.get(OPERATIONS.get(breaker.name, ""))
        _breaker(breaker, trend, reading, overrides.get(breaker.name), asked.get(breaker.name))


def _breaker(
    breaker: Breaker,
    trend: OperationTrend | None,
    reading: Reading[Any],
    override: BreakerOverride | None,
    asked: Command | None,
) -> None:
    with st.container(border=True, key=f"breaker_{breaker.name}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{labels.breaker(breaker.name)}**", width="content")
            st.markdown(labels.badge(labels.BREAKER, breaker.state, grey=bool(reading.problem)), width="content")
            st.caption(f"{labels.plain(breaker.name)} · {_standing(breaker, override)}", width="stretch")
            _override_button(breaker, asked)
        facts, window = st.columns([3, 2])
        with facts:
            _facts(breaker, trend, reading)
            if len(breaker.replicas) > 1:
                _replicas(breaker, grey=bool(reading.problem))
        with window:
            _windows(breaker)
        if asked and asked.kind in ("set_override", "end_override"):
            st.markdown(f":small[{actions.summary_with_age(asked)}]")


def _standing(breaker: Breaker, override: BreakerOverride | None) -> str:
    since = breaker.worst.since
    now = console().now()
    parts = [f"since {clock.both(since, now)}"] if since else []
    if breaker.state == "open":
        parts.append(tiles.standing(breaker).replace("trial", "half-open, one trial,"))
    if override:
        parts.append(f"forced by {labels.plain(override.actor)} for another {clock.span(override.expires_at - now)}")
    if len(breaker.replicas) == 1:
        parts.append(f"on {labels.plain(breaker.worst.replica)}")
    return " · ".join(parts)


def _override_button(breaker: Breaker, asked: Command | None) -> None:
    reason = access.write_block()
    if asked and asked.kind == "set_override" and actions.is_waiting(asked):
        reason = "A command on this breaker is under way."
    if st.button(
        "Override",
        key=f"override_{breaker.name}",
        icon=":material/front_hand:",
        disabled=reason is not None,
        help=reason or access.write_note() or "Open or closed, for a while, with a reason.",
    ):
        override_dialog.breaker(breaker.name)


def _facts(breaker: Breaker, trend: OperationTrend | None, reading: Reading[Any]) -> None:
    worst = breaker.worst
    latency = trend.latency_seconds if trend else {}
    served = console().incidents.served().value or {}
    operation = OPERATIONS.get(breaker.name, "")
    facts = [
        (
            "Failure rate",
            f"{tiles.percent(breaker.failure_rate)} of {breaker.calls:,}" if breaker.calls else "no calls",
            f"opens at {worst.threshold_percentage:g} % of at least {worst.volume_threshold}",
        ),
        ("Calls denied", f"{breaker.denied:,}", f"{_hour(served, 'denied', operation)} within the last hour"),
        ("Fallbacks served", _hour(served, "fallback", operation), "within the last hour"),
        ("Latency p95", tiles.milliseconds(latency.get(0.95)), _other_quantiles(latency)),
    ]
    with st.grid(4, min_column_width=130):
        for label, value, note in facts:
            st.metric(label, live.shade(value, reading), delta=None, delta_description=note)


def _hour(served: Mapping[tuple[str, str], int], kind: str, operation: str) -> str:
    return f"{served.get((kind, operation), 0):,}"


def _other_quantiles(latency: Mapping[float, float | None]) -> str:
    return f"p50 {tiles.milliseconds(latency.get(0.5))} · p99 {tiles.milliseconds(latency.get(0.99))}"


def _replicas(breaker: Breaker, *, grey: bool) -> None:
    is_open = any(replica.state == "open" for replica in breaker.replicas)
    rows = [_replica(replica, grey=grey, is_open=is_open) for replica in breaker.replicas]
    st.table(rows, border="horizontal", hide_index=True, alt=f"{breaker.name} on each replica")


def _replica(replica: ReplicaBreaker, *, grey: bool, is_open: bool) -> dict[str, str]:
    """``is_open``: some replica is, so that there is a time to tell."""
    now = console().now()
    opens = replica.retry_at - now if replica.retry_at else None
    rate = f" · {tiles.percent(replica.failure_rate)}" if replica.calls else ""
    return {
        "Replica": labels.plain(replica.replica),
        "State": labels.badge(labels.BREAKER, replica.state, grey=grey),
        "Since": clock.both(replica.since, now) if replica.since else "unknown",
        "Failed": f"{replica.failures} of {replica.calls}{rate}",
        "Denied": f"{replica.denied:,}",
    } | (
        {"Half-open in": clock.span(opens) if opens is not None and replica.state == "open" else ""} if is_open else {}
    )


def _windows(breaker: Breaker) -> None:
    """The rolling window of the worst replica, and behind a fold those of the others."""
    several = len(breaker.replicas) > 1
    of = f" of {labels.plain(breaker.worst.replica)}" if several else ""
    st.caption(f"Rolling window{of}, oldest bucket first")
    charts.window(breaker.worst)
    if several:
        others = len(breaker.replicas) - 1
        with st.expander("Window of the other replica" if others == 1 else f"Windows of {others} other replicas"):
            for replica in breaker.replicas:
                if replica is not breaker.worst:
                    st.caption(labels.plain(replica.replica))
                    charts.window(replica)


def history() -> None:
    """Bands of states, and the stretches in which a breaker was open, each with its affected orders."""
    reading, changes = console().status.trends(), console().status.transitions()
    if reading.value is None:
        return
    with st.container(border=True):
        st.markdown("**States over the last half hour** :gray[:small[click an open band to see the affected orders]]")
        since = console().now() - SPAN
        bands = [band for band in reading.value.bands if band.end > since]
        if bands:
            charts.states(bands, since, key=BANDS, on_select=_pick_band)
        else:
            empty.no_data_yet("No breaker has been reported yet.")
        live.as_of(reading)
    with st.container(border=True):
        st.markdown("**Openings in the last day**")
        _openings(_open_intervals(changes.value or ())[:SHOWN_OPENINGS], grey=bool(changes.problem))


def _pick_band() -> None:
    chosen = st.session_state.get(BANDS, {}).get("selection", {}).get("picked") or []
    interval = IncidentInterval.parse(str(chosen[0].get("interval"))) if chosen else None
    if interval:
        incident_impact.pick(interval)


def _openings(openings: list[tuple[BreakerTransition, datetime | None]], *, grey: bool) -> None:
    """Each stretch from opening to closing, with the number of affected orders and a button to the orders."""
    if not openings:
        empty.nothing_wrong("No breaker has opened in the last day.")
    now = console().now()
    intervals = [IncidentInterval(opened.at, closed_at, opened.breaker) for opened, closed_at in openings]
    counted = console().incidents.counted(intervals).value or {}
    for number, ((opened, closed_at), interval) in enumerate(zip(openings, intervals, strict=True)):
        length = clock.span((closed_at or now) - opened.at)
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"opening_{number}"):
            badge = _opening(opened.to_state, is_over=closed_at is not None, grey=grey)
            st.markdown(f"{badge} **{labels.breaker(opened.breaker)}**", width=230)
            until = clock.at(closed_at, now) if closed_at else "now"
            st.markdown(f"{clock.at(opened.at, now)} to {until} · {length}", width=220)
            incident = counted.get(interval)
            st.caption(_affected(incident), width="stretch")
            st.caption(labels.plain(opened.replica), width="content")
            is_harmless = closed_at is not None and incident is not None and not incident.orders
            incident_impact.button(
                interval,
                "Affected orders",
                f"impact_{opened.replica}_{opened.breaker}_{opened.at.timestamp()}",
                why_not="No order was affected in this time." if is_harmless else None,
            )


def _opening(state: str, *, is_over: bool, grey: bool) -> str:
    """How a breaker is, or was: red is only what lasts."""
    if not is_over:
        return labels.badge(labels.BREAKER, state, grey=grey)
    return f":gray-badge[:material/history: Was {labels.text(labels.BREAKER, state).lower()}]"


def _affected(incident: Incident | None) -> str:
    if incident is None:
        return ""
    if not incident.orders:
        return "no order affected"
    parts = [f"{incident.orders:,} {'order' if incident.orders == 1 else 'orders'}"]
    parts += [
        f"{count:,} {one if count == 1 else many}" for kind, one, many in COUNTED if (count := incident.count(kind))
    ]
    return " · ".join(parts)


def _open_intervals(changes: tuple[BreakerTransition, ...]) -> list[tuple[BreakerTransition, datetime | None]]:
    """Openings newest first, each with the time at which the breaker closed again, if it has."""
    found: list[tuple[BreakerTransition, datetime | None]] = []
    openings: dict[tuple[str, str], BreakerTransition] = {}
    for change in sorted(changes, key=lambda change: change.at):
        key = (change.replica, change.breaker)
        if change.to_state in ("open", "forced_open"):
            openings.setdefault(key, change)
        elif change.to_state in ("closed", "forced_closed") and key in openings:
            found.append((openings.pop(key), change.at))
    found += [(opened, None) for opened in openings.values()]
    return sorted(found, key=lambda interval: interval[0].at, reverse=True)


def everything() -> None:
    actions.flash()
    incident_impact.panel()
    breakers()
    history()


live.body(live.header("Breakers"), everything)
