"""Tiles: a breaker at a glance, a number with its course."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import streamlit as st

from pages.parts import labels
from pages.parts.widgets import clock
from services.console.facade import console
from services.console.status import Breaker, OperationTrend, Trend

TWO_RATES = (
    "Technical rate: calls that were answered, a refusal being an answer. Beside it the business rate: answers that "
    "said yes."
)


def breaker(shown: Breaker, trend: OperationTrend | None, *, grey: bool) -> None:
    """Name, state as a badge, and the facts that explain it."""
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
    """Failures with the size of the sample they are taken from."""
    return f"{shown.failures} of {shown.calls} failed" if shown.calls else "idle window"


def standing(shown: Breaker) -> str:
    """Since when the state lasts, or how long until a trial is let through."""
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
    """A number, its change and its course, if it has one; all grey when it may no longer be true."""
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
    """A change of a share in percentage points; less than half a point is none."""
    return f"{change * 100:+.1f} pp" if change is not None and abs(change) >= 0.005 else None


def slower(trend: Trend) -> str | None:
    """A change of a latency; less than a tenth of it is none."""
    change = trend.change
    if change is None or abs(change) < 0.1 * (trend.before or 0):
        return None
    return f"{change * 1000:+,.0f} ms"


def difference(
    series: Sequence[float], now: float, window: timedelta, step: timedelta, *, unit: str = ""
) -> str | None:
    """How much a gauge differs from its value one window ago."""
    back = window // step
    return f"{now - series[-back]:+,.0f}{unit}" if 0 < back <= len(series) else None


def plain(label: str, value: str, note: str, *, grey: bool = False) -> None:
    """A number or a word without a course, with what explains it."""
    with st.container(border=True, height="stretch", gap="xxsmall"):
        st.caption(label)
        st.markdown(f"### :gray[{value}]" if grey else f"### {value}", width="content")
        st.caption(note)
