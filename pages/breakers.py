"""The Breakers page: state, next trial, rolling window and denied calls of each breaker, overrides, and history."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts import access, actions, charts, frame, incidents, labels, overrides, tiles
from pages.parts.widgets import clock, empty
from services.breakers.overview import OPERATIONS, Breaker, ReplicaBreaker
from services.console.cache import Reading
from services.console.facade import console
from services.metrics.trends import OperationTrend
from state.breakers import BreakerOverride
from state.commands import Command


def breakers() -> None:
    """One panel per breaker with one line per replica."""
    reading, trends = console().status.live(), console().status.trends()
    if (live := empty.value_of(reading)) is None:
        return
    if not live.breakers:
        empty.no_data_yet("No worker reports its breakers.")
        return
    frame.as_of(reading, f"latencies of the last {clock.span(trends.value.window)}" if trends.value else "")
    operations = trends.value.operations if trends.value else {}
    asked = console().status.breaker_commands(tuple(breaker.name for breaker in live.breakers)).value or {}
    overrides = console().status.overrides().value or {}
    for breaker in live.breakers:
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
            actions.draw(asked)


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
    is_starting = asked is not None and asked.kind == "set_override"
    if access.button(
        "Override",
        f"override_{breaker.name}",
        icon="front_hand",
        refused=actions.if_waiting(asked, "A command on this breaker is under way.") if is_starting else None,
        hint=access.write_note() or "Open or closed, for a while, with a reason.",
    ):
        overrides.open_dialog(breaker.name)


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
        ("Calls denied", f"{breaker.denied:,}", f"{served.get(('denied', operation), 0):,} within the last hour"),
        ("Fallbacks served", f"{served.get(('fallback', operation), 0):,}", "within the last hour"),
        ("Latency p95", tiles.milliseconds(latency.get(0.95)), tiles.quantiles(latency.get(0.5), latency.get(0.99))),
    ]
    with st.grid(4, min_column_width=130):
        for label, value, note in facts:
            st.metric(label, frame.shade(value, reading), delta=None, delta_description=note)


def _replicas(breaker: Breaker, *, grey: bool) -> None:
    is_open = any(replica.state == "open" for replica in breaker.replicas)
    rows = [_replica(replica, grey=grey, is_open=is_open) for replica in breaker.replicas]
    st.table(rows, border="horizontal", hide_index=True, alt=f"{breaker.name} on each replica")


def _replica(replica: ReplicaBreaker, *, grey: bool, is_open: bool) -> dict[str, str]:
    """The table row of one replica.

    ``is_open`` is True if the breaker is open on at least one replica; each row then has a column for the next trial.
    """
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
    """Draw the rolling window of the worst replica, and the windows of the other replicas in an expander."""
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


def everything() -> None:
    incidents.panel()
    breakers()
    incidents.breaker_history()


frame.page("Breakers", everything)
