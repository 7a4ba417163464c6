"""Tiles: a breaker with its state, a number with its time series, and the numbers of the Overview page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Literal

import streamlit as st

from pages.parts import labels
from pages.parts.widgets import clock
from services.breakers.overview import Breaker
from services.console.facade import console
from services.console.status import Live
from services.metrics.trends import BIN, CHECK, RESERVE, OperationTrend, Trends

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
        p95 = trend.p95.now if trend else None
        latency = f"p95 {milliseconds(p95)}" if p95 is not None else "no calls" if trend else "latency unknown"
        failed = f"{shown.failures} of {shown.calls} failed" if shown.calls else "idle window"
        st.caption(" · ".join([latency, failed, standing(shown)]))


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


def quantiles(p50: float | None, p99: float | None) -> str:
    """The quantiles beside the 95th, as text."""
    return f"p50 {milliseconds(p50)} · p99 {milliseconds(p99)}"


def number(
    label: str,
    value: str,
    note: str = "",
    *,
    series: Sequence[float] = (),
    change: str | None = None,
    more_is_worse: bool = False,
    kind: Literal["line", "area"] = "line",
    grey: bool = False,
    help: str | None = None,  # noqa: A002 - Streamlit's word for it
) -> None:
    """A number with its change and time series, if it has one; grey when the reading is old."""
    has_chart = len(series) > 1
    color: Literal["off", "inverse", "normal"] = "off" if grey else "inverse" if more_is_worse else "normal"
    st.metric(
        label,
        f":gray[{value}]" if grey else value,
        None if not has_chart else 0 if change is None or not any(sign in change for sign in "123456789") else change,
        delta_color=color,
        delta_description=note or None,
        chart_data=list(series) if has_chart else None,
        chart_type=kind,
        border=True,
        height="stretch",
        help=help,
    )


def plain(label: str, value: str, note: str, *, grey: bool = False) -> None:
    """A number or a word with an explanation, without a time series."""
    with st.container(border=True, height="stretch", gap="xxsmall"):
        st.caption(label)
        st.markdown(f"### :gray[{value}]" if grey else f"### {value}", width="content")
        st.caption(note)


def rates(trends: Trends, *, grey: bool) -> None:
    """Success rates and latency of the calls that an order waits for."""
    reserve, check = trends.operations[RESERVE], trends.operations[CHECK]
    for label, trend in (("Reservation success", reserve), ("Availability success", check)):
        change = trend.technical.change
        number(
            label,
            percent(trend.technical.now),
            "no calls" if trend.business.now is None else f"{percent(trend.business.now)} yes",
            series=[share * 100 for share in trend.technical.series],
            # Half a percentage point is not worth an arrow.
            change=f"{change * 100:+.1f} pp" if change is not None and abs(change) >= 0.005 else None,
            grey=grey,
            help=f"{TWO_RATES} Counted over {trend.calls:,} calls.",
        )
    p95, latency = check.p95, check.latency_seconds
    is_notable = p95.change is not None and abs(p95.change) >= 0.1 * (p95.before or 0)
    number(
        "Availability latency p95",
        milliseconds(p95.now),
        f"p99 {milliseconds(latency.get(0.99))}",
        series=[seconds * 1000 for seconds in p95.series],
        change=f"{(p95.change or 0) * 1000:+,.0f} ms" if is_notable else None,
        more_is_worse=True,
        grey=grey,
        help="Time of one call to check availability. Half of the calls took at most "
        f"{milliseconds(latency.get(0.5))}.",
    )


QUEUES = (
    ("Waiting for inventory", "reservation", "reservation", "to reserve again"),
    ("Releases pending", "release", "release", "{failed_releases} failed"),
    ("Flagged orders", "reviews", "reviews", "for a person"),
    ("Dead letters", "dead_letters", "deadLetters", "not handled"),
)
"""Label, name in Live.queues, name in Trends.queues, and note of each queue."""


def queues(now: Live, trends: Trends, read_at: datetime, *, grey: bool) -> None:
    """One tile per queue, and the age of the oldest unpublished event at ``read_at``, the time of the reading."""
    oldest = now.outbox_oldest_at
    age = (read_at - oldest).total_seconds() if oldest else 0.0
    tile = partial(_gauge, trends=trends, grey=grey)
    waiting = f"{now.queues.get('outbox', 0):,} in the outbox"
    tile("Oldest unpublished event", age, "outboxAge", f"{age:,.1f} s", waiting, unit=" s", kind="line")
    for label, name, history, note in QUEUES:
        length = now.queues.get(name, 0)
        tile(label, length, history, f"{length:,}", note.format(**now.queues), unit="", kind="area")


def _gauge(
    label: str,
    now: float,
    history: str,
    value: str,
    note: str,
    *,
    trends: Trends,
    unit: str,
    kind: Literal["line", "area"],
    grey: bool,
) -> None:
    """A gauge with its change since one window ago; no change if its time series is shorter."""
    series = (*trends.queues.get(history, ()), float(now))
    back = trends.window // BIN
    change = f"{now - series[-back]:+,.0f}{unit}" if 0 < back <= len(series) else None
    number(label, value, note, series=series, change=change, more_is_worse=True, kind=kind, grey=grey)
