"""Tiles: a breaker with its state, a number with its time series, and the numbers of the Overview page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import streamlit as st

from pages.parts import labels
from pages.parts.widgets import clock
from services.console.facade import console
from services.console.status import BIN, CHECK, RESERVE, Breaker, Live, OperationTrend, Trend, Trends

TWO_RATES = (
    "Technical rate: calls that were answered, a refusal being an answer. Beside it the business rate: answers that "
    "said yes."
)


def breaker(shown: Breaker, trend: OperationTrend | None, *, grey: bool) -> None:
    """Draw the name of a breaker, its state as a badge, and the facts that explain the state."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown(f"**{labels.breaker(shown.name)}**", width="content")
            st.markdown(labels.badge(labels.BREAKER, shown.state, grey=grey), width="content")
        st.caption(" · ".join([_latency(trend), failures(shown), standing(shown)]))


def _latency(trend: OperationTrend | None) -> str:
    if trend is None:
        return "latency unknown"
    p95 = trend.p95.now
    return "no calls" if p95 is None else f"p95 {milliseconds(p95)}"


def failures(shown: Breaker) -> str:
    """Failures and calls in the rolling window."""
    return f"{shown.failures} of {shown.calls} failed" if shown.calls else "idle window"


def standing(shown: Breaker) -> str:
    """The time for which the state has lasted; for an open breaker, the time until its next trial."""
    now = console().now()
    if shown.state == "open" and shown.retry_at:
        return f"trial in {clock.span(shown.retry_at - now)}" if shown.retry_at > now else "trial is due"
    since = shown.worst.since
    word = labels.text(labels.BREAKER, shown.state).lower()
    return f"{word} for {clock.span(now - since)}" if since else word


def milliseconds(seconds: float | None) -> str:
    return "n/a" if seconds is None else f"{seconds * 1000:,.0f} ms"


def percent(share: float | None) -> str:
    """A share as percentage; 99.96 % is not rounded up to 100 %."""
    if share is None:
        return "n/a"
    return "100 %" if share == 1 else f"{min(share * 100, 99.9):.1f} %"


def number(
    label: str,
    value: str,
    *,
    series: Sequence[float] = (),
    change: str | None = None,
    more_is_worse: bool = False,
    note: str = "",
    kind: Literal["line", "area"] = "line",
    grey: bool = False,
    chart: bool = True,
    help: str | None = None,  # noqa: A002 - Streamlit's word for it
) -> None:
    """A number with its change and time series, if it has one; grey when the reading is old."""
    chart = chart and len(series) > 1
    color: Literal["off", "inverse", "normal"] = "off" if grey else "inverse" if more_is_worse else "normal"
    st.metric(
        label,
        f":gray[{value}]" if grey else value,
        None if not chart else 0 if change is None or not any(sign in change for sign in "123456789") else change,
        delta_color=color,
        delta_description=note or None,
        chart_data=list(series) if chart else None,
        chart_type=kind,
        border=True,
        height="stretch",
        help=help,
    )


def points(change: float | None) -> str | None:
    """A change of a share in percentage points; None below half a point."""
    return f"{change * 100:+.1f} pp" if change is not None and abs(change) >= 0.005 else None


def slower(trend: Trend) -> str | None:
    """A change of a latency in milliseconds; None below a tenth of the previous latency."""
    change = trend.change
    if change is None or abs(change) < 0.1 * (trend.before or 0):
        return None
    return f"{change * 1000:+,.0f} ms"


def difference(
    series: Sequence[float], now: float, window: timedelta, step: timedelta, *, unit: str = ""
) -> str | None:
    """The change of a gauge since one window ago, as text; None if ``series`` is too short."""
    back = window // step
    return f"{now - series[-back]:+,.0f}{unit}" if 0 < back <= len(series) else None


def plain(label: str, value: str, note: str, *, grey: bool = False) -> None:
    """A number or a word with an explanation, without a time series."""
    with st.container(border=True, height="stretch", gap="xxsmall"):
        st.caption(label)
        st.markdown(f"### :gray[{value}]" if grey else f"### {value}", width="content")
        st.caption(note)


def rates(trends: Trends, *, grey: bool) -> None:
    """Success rates and latency of the calls that an order waits for."""
    reserve = trends.operations[RESERVE]
    check = trends.operations[CHECK]
    _rate("Reservation success", reserve, grey)
    _rate("Availability success", check, grey)
    number(
        "Availability latency p95",
        milliseconds(check.p95.now),
        series=[seconds * 1000 for seconds in check.p95.series],
        change=slower(check.p95),
        more_is_worse=True,
        note=f"p99 {milliseconds(check.latency_seconds.get(0.99))}",
        grey=grey,
        help="Time of one call to check availability. Half of the calls took at most "
        f"{milliseconds(check.latency_seconds.get(0.5))}.",
    )


def outbox(now: Live, trends: Trends, read_at: datetime, *, grey: bool) -> None:
    """Draw the age of the oldest unpublished event at ``read_at``, the time of the reading."""
    oldest = now.outbox_oldest_at
    age = (read_at - oldest).total_seconds() if oldest else 0.0
    series = (*trends.queues.get("outboxAge", ()), age)
    number(
        "Oldest unpublished event",
        f"{age:,.1f} s",
        series=series,
        change=difference(series, age, trends.window, BIN, unit=" s"),
        more_is_worse=True,
        note=f"{now.queues.get('outbox', 0):,} in the outbox",
        grey=grey,
    )


def _rate(label: str, trend: OperationTrend, grey: bool) -> None:
    number(
        label,
        percent(trend.technical.now),
        series=[share * 100 for share in trend.technical.series],
        change=points(trend.technical.change),
        note="no calls" if trend.business.now is None else f"{percent(trend.business.now)} yes",
        grey=grey,
        help=f"{TWO_RATES} Counted over {trend.calls:,} calls.",
    )


QUEUES = (
    ("Waiting for inventory", "reservation", "reservation", "to reserve again"),
    ("Releases pending", "release", "release", "{failed_releases} failed"),
    ("Flagged orders", "reviews", "reviews", "for a person"),
    ("Dead letters", "dead_letters", "deadLetters", "not handled"),
)


def queues(now: Live, trends: Trends, *, grey: bool) -> None:
    """One tile per queue."""
    for label, name, history, note in QUEUES:
        value = now.queues.get(name, 0)
        series = (*trends.queues.get(history, ()), float(value))
        number(
            label,
            f"{value:,}",
            series=series,
            change=difference(series, value, trends.window, BIN),
            more_is_worse=True,
            note=note.format(**now.queues),
            kind="area",
            grey=grey,
        )
