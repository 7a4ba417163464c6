"""The Metrics page: the five key metrics and further ones over any interval, and the error budget.

Source: requirements 9.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import streamlit as st

from pages.parts import frame, incidents, labels, metrics, tiles
from pages.parts.widgets import clock, empty
from services.console.cache import Reading
from services.console.facade import console
from services.console.metric_history import MetricHistory
from services.console.metric_span import Wanted
from services.metrics.trends import CHECK, RESERVE

EVERY = "5s"
NO_DATA, UNKNOWN = "no data", "n/a"


def filters() -> None:
    """The time range and the drawn quantile of latencies."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        metrics.range_picker()
        st.segmented_control(
            "Latency", list(metrics.QUANTILES), key="quantile", default="p95", required=True, bind="query-params"
        )


def everything() -> None:
    incidents.panel()
    _zoom()
    wanted = metrics.chosen_range()
    reading = console().metrics.history(wanted)
    history = reading.value
    if history is None and reading.problem is None:
        empty.no_data_yet("The history is being read.")
        return
    if history is None:
        empty.no_source(reading)
        return
    _source(history, reading)
    if history.is_empty:
        _nothing(wanted)
        return
    _tiles(history, grey=bool(reading.problem))
    metrics.charts_of(history, console().metrics.limits)
    metrics.objective(console().metrics.budget())


def _nothing(wanted: Wanted) -> None:
    if wanted == Wanted(metrics.DEFAULT):
        empty.no_data_yet("Nothing has been measured in the last hour; the worker measures every few seconds.")
    else:
        empty.nothing_matches("Nothing was recorded in this time.", metrics.last_hour, key="last_hour")


def _zoom() -> None:
    """A button that shows the picked interval and its surroundings."""
    if interval := incidents.picked():
        end = interval.end or console().now()
        around = (end - interval.start) / 4 + timedelta(seconds=30)
        st.button(
            "Zoom in",
            key="zoom_in",
            icon=":material/zoom_in:",
            on_click=metrics.show_range,
            args=(interval.start - around, min(end + around, console().now())),
        )


def _source(history: MetricHistory, reading: Reading[MetricHistory]) -> None:
    """The source of the numbers, their age, and a warning when it is not the configured one."""
    now = console().now()
    newest = history.measured.newest_at
    age = f"newest measurement {clock.ago(newest, now)}" if newest else "no measurement yet"
    ends = f"{clock.at(history.span.start, now)} to {clock.at(history.span.end, now)} {clock.zone_name()}"
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="stretch"):
            frame.as_of(
                reading, f"source: {history.source}, {age} · {ends} · each point is {clock.span(history.span.step)}"
            )
        st.download_button(
            "CSV",
            data=history.csv,
            file_name=f"holdfast-{history.span.start:%Y%m%dT%H%M}-{history.span.end:%Y%m%dT%H%M}.csv",
            mime="text/csv",
            key="csv",
            type="tertiary",
            icon=":material/download:",
            on_click="ignore",
            disabled=history.is_empty,
        )
    if history.measured.missing:
        st.warning(
            "It did not answer some questions in time; what it did not answer is shown as no data.",
            title=f"{history.source} is slow",
            icon=":material/hourglass_empty:",
        )
    if history.why_not_prometheus:
        st.warning(
            f"{history.why_not_prometheus} You see the local history instead; Prometheus is asked again in half a "
            "minute.",
            title="Prometheus is away",
            icon=":material/cloud_off:",
        )


def _tiles(history: MetricHistory, *, grey: bool) -> None:
    """The five key metrics over the whole interval."""
    p95, p50, p99 = (history.total(f"latency_p{number}").get(CHECK) for number in (95, 50, 99))
    technical, business, calls = (history.total(name) for name in ("success_rate", "business_rate", "calls"))
    failures = history.total("failures")
    within = _within(history)
    shut = sum((end - start for start, end in within), timedelta())
    times = "once" if len(within) == 1 else f"{len(within):,} times"
    with st.grid(5, min_column_width=150):
        tiles.number("Availability p95", tiles.milliseconds(p95), tiles.quantiles(p50, p99), grey=grey)
        for label, name in (("Availability success", CHECK), ("Reservation success", RESERVE)):
            note = _of_calls(calls.get(name), business.get(name))
            tiles.number(label, tiles.percent(technical.get(name)), note, grey=grey, help=tiles.TWO_RATES)
        tiles.number(
            "Breakers not closed",
            clock.span(shut) if shut else "never" if history.bands else UNKNOWN,
            times if shut else "all closed throughout" if history.bands else NO_DATA,
            grey=grey,
        )
        count = f"{round(sum(failures.values())):,}" if failures else UNKNOWN
        tiles.number("Failed orders", count, _worst(failures), grey=grey)


def _within(history: MetricHistory) -> list[tuple[datetime, datetime]]:
    span = history.span
    ends = ((max(start, span.start), min(end, span.end)) for start, end in history.interruptions)
    return [(start, end) for start, end in ends if end > start]


def _of_calls(calls: float | None, business: float | None) -> str:
    if calls is None:
        return NO_DATA
    said = "" if business is None else f" · {tiles.percent(business)} yes"
    return f"{round(calls):,} calls{said}"


def _worst(failures: Mapping[str, float]) -> str:
    if not failures:
        return NO_DATA
    if not any(failures.values()):
        return "none due to inventory"
    reason = max(failures, key=lambda name: failures[name])
    return f"most: {labels.plain(labels.named(labels.FAILURE, reason)).lower()}"


frame.page("Metrics", everything, fixed=filters, every=EVERY)
