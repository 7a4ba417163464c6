"""The circuit breakers: state in words, time to the next trial, the window they judge by, and their history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import streamlit as st
from parts import charts, clock, empty, live, tiles, words

from services.console import (
    NAMES,
    OPERATIONS,
    Breaker,
    BreakerTransition,
    OperationTrend,
    Reading,
    ReplicaBreaker,
    console,
)

SPAN = timedelta(minutes=30)


def breakers() -> None:
    """One panel per breaker, and in it one line per replica."""
    reading, trends = console().live(), console().trends()
    if reading.value is None:
        empty.no_source(reading)
        return
    if not reading.value.breakers:
        empty.no_data_yet("No worker reports its breakers.")
        return
    live.as_of(reading, f"latencies of the last {clock.span(trends.value.window)}" if trends.value else "")
    operations = trends.value.operations if trends.value else {}
    for breaker in reading.value.breakers:
        _breaker(breaker, operations.get(OPERATIONS.get(breaker.name, "")), reading)


def _breaker(breaker: Breaker, trend: OperationTrend | None, reading: Reading[Any]) -> None:
    with st.container(border=True, key=f"breaker_{breaker.name}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{NAMES.get(breaker.name, words.plain(breaker.name))}**", width="content")
            st.markdown(words.badge(words.BREAKER, breaker.state, grey=bool(reading.problem)), width="content")
            st.caption(f"{words.plain(breaker.name)} · {_standing(breaker)}", width="content")
        facts, window = st.columns([3, 2])
        with facts:
            _facts(breaker, trend, reading)
            _replicas(breaker)
        with window:
            st.caption("Rolling window, oldest bucket first")
            charts.window(breaker.worst)


def _standing(breaker: Breaker) -> str:
    since = breaker.worst.since
    now = console().now()
    parts = [f"since {clock.both(since, now)}"] if since else []
    if breaker.state == "open":
        parts.append(tiles.standing(breaker).replace("trial", "half-open, one trial,"))
    return " · ".join(parts)


def _facts(breaker: Breaker, trend: OperationTrend | None, reading: Reading[Any]) -> None:
    worst = breaker.worst
    latency = trend.latency_seconds if trend else {}
    facts = [
        (
            "Failure rate",
            f"{tiles.percent(breaker.failure_rate)} of {breaker.calls:,}" if breaker.calls else "no calls",
            f"opens at {worst.threshold_percentage:g} % of at least {worst.volume_threshold}",
        ),
        ("Calls denied", f"{breaker.denied:,}", "refused without being sent"),
        ("Latency p95", tiles.milliseconds(latency.get(0.95)), _other_quantiles(latency)),
    ]
    with st.grid(3, min_column_width=150):
        for label, value, note in facts:
            st.metric(label, live.shade(value, reading), delta=None, delta_description=note)


def _other_quantiles(latency: object) -> str:
    values = latency if isinstance(latency, dict) else {}
    return f"p50 {tiles.milliseconds(values.get(0.5))} · p99 {tiles.milliseconds(values.get(0.99))}"


def _replicas(breaker: Breaker) -> None:
    rows = [_replica(replica) for replica in breaker.replicas]
    st.table(rows, border="horizontal", hide_index=True, alt=f"{breaker.name} on each replica")


def _replica(replica: ReplicaBreaker) -> dict[str, str]:
    now = console().now()
    opens = replica.retry_at - now if replica.retry_at else None
    return {
        "Replica": words.plain(replica.replica),
        "State": words.badge(words.BREAKER, replica.state),
        "Since": clock.both(replica.since, now) if replica.since else "unknown",
        "Failed": f"{replica.failures} of {replica.calls}",
        "Denied": f"{replica.denied:,}",
        "Half-open in": clock.span(opens) if opens is not None and replica.state == "open" else "",
    }


def history() -> None:
    """Bands of states, and the changes that made them, each with the orders of that time."""
    reading, changes = console().trends(), console().transitions()
    if reading.value is None:
        return
    with st.container(border=True):
        st.markdown("**States over the last half hour**")
        since = console().now() - SPAN
        bands = [band for band in reading.value.bands if band.end > since]
        if bands:
            charts.states(bands, since)
        else:
            empty.no_data_yet("No breaker has been reported yet.")
        live.as_of(reading)
    with st.container(border=True):
        st.markdown("**Openings in the last day**")
        _openings(changes.value or ())


def _openings(changes: tuple[BreakerTransition, ...]) -> None:
    """Each stretch from opening to closing, with a link to the orders created in it."""
    stretches = _stretches(changes)
    if not stretches:
        empty.nothing_wrong("No breaker has opened in the last day.")
    now = console().now()
    for opened, closed_at in stretches[:10]:
        length = clock.span((closed_at or now) - opened.at)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(
                f"{words.badge(words.BREAKER, 'open')} **{NAMES.get(opened.breaker, opened.breaker)}**", width=210
            )
            until = clock.at(closed_at, now) if closed_at else "now"
            st.markdown(f"{clock.at(opened.at, now)} to {until} · {length}", width="stretch")
            st.caption(words.plain(opened.replica), width="content")
            st.page_link(
                "orders.py",
                label="Orders of that time",
                icon=":material/receipt_long:",
                query_params={
                    "from": opened.at.isoformat(timespec="seconds"),
                    "to": ((closed_at or now) + timedelta(seconds=1)).isoformat(timespec="seconds"),
                },
            )


def _stretches(changes: tuple[BreakerTransition, ...]) -> list[tuple[BreakerTransition, datetime | None]]:
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
    return sorted(found, key=lambda stretch: stretch[0].at, reverse=True)


def everything() -> None:
    breakers()
    history()


live.body(live.header("Breakers"), everything)
