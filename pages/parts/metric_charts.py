"""The charts of the Metrics page: one entry of CHARTS per metric, and the bands of the breakers.

A drag over a chart or a click on an open band picks an interval, whose affected orders are then listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import streamlit as st

from pages.parts import charts, incident_impact, labels, names, time_series
from pages.parts.time_series import Threshold, TimeSeries
from pages.parts.widgets import empty
from services.console.incidents import IncidentInterval
from services.console.metric_history import Limits, MetricHistory
from services.console.status import NAMES

QUANTILES = {"p50": "latency_p50", "p95": "latency_p95", "p99": "latency_p99"}
BANDS = "metrics_bands"


@dataclass(frozen=True, slots=True)
class Chart:
    """How one metric of services/metrics/catalogue.py is drawn."""

    metric: str
    title: str
    names: Mapping[str, str]
    """Labels of the series, by their name in the catalogue."""
    nothing: str
    """Text shown instead of the chart when all values are 0."""
    is_good: bool = False
    """Whether 0 is good news."""
    counted: str = ""
    """The metric that is 0 when this chart has no points; an empty string means ``metric``."""
    mark: Literal["line", "bar"] = "line"
    scale: Literal["linear", "log", "symlog"] = "linear"
    unit: str = ""
    factor: float = 1
    """Multiplier from the catalogue's unit to the drawn unit."""
    threshold: Callable[[Limits], Threshold] | None = None


LATENCY = Chart(
    "latency_p95",
    "Response time",
    names.CALL,
    "No call was answered in this time.",
    counted="calls",
    scale="log",
    unit="ms",
    factor=1000,
    threshold=lambda limits: Threshold(
        limits.latency_seconds * 1000, f"{limits.latency_seconds * 1000:,.0f} ms (availability)"
    ),
)
SUCCESS = Chart(
    "success_rate",
    "Success rate",
    names.CALL,
    "No call was made in this time.",
    counted="calls",
    unit="%",
    factor=100,
    threshold=lambda limits: Threshold(limits.success_rate * 100, f"{limits.success_rate * 100:g} % (reservation)"),
)
CHARTS = (
    Chart(
        "failures",
        "Failed orders per minute",
        labels.FAILURE,
        "No order failed because of inventory in this time.",
        is_good=True,
        mark="bar",
    ),
    Chart(
        "queues",
        "Queues",
        names.QUEUE,
        "Nothing waited in this time.",
        scale="symlog",
        threshold=lambda limits: Threshold(limits.queue_depth, f"{limits.queue_depth:,} (waiting for inventory)"),
    ),
    Chart(
        "orders",
        "Orders per minute by status reached",
        {name: word.text for name, word in labels.ORDER.items()},
        "No order changed its status in this time.",
    ),
    Chart(
        "denied",
        "Calls denied per minute",
        names.CALL,
        "No call was denied by an open breaker in this time.",
        is_good=True,
        mark="bar",
    ),
    Chart(
        "releases",
        "Releases per minute",
        {"released": "Released", "retried": "Retried", "failed": "Failed"},
        "Nothing was released in this time.",
        mark="bar",
    ),
)
"""The charts below those of latencies, success rates and breakers."""


def draw(history: MetricHistory, limits: Limits) -> None:
    """All charts of the page."""
    quantile = str(st.session_state.get("quantile") or "p95")
    with st.grid(2, min_column_width=340):
        _chart(replace(LATENCY, metric=QUANTILES[quantile], title=f"Response time {quantile}"), history, limits)
        _chart(SUCCESS, history, limits)
        _breakers(history)
        for chart in CHARTS:
            _chart(chart, history, limits)


def _chart(chart: Chart, history: MetricHistory, limits: Limits) -> None:
    shown = _time_series(chart, history, limits)
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{chart.title}**")
        if shown.points:
            time_series.draw(shown, key=f"time_series_{chart.title}", on_select=_pick_interval)
        elif not _is_zero(history, chart.counted or chart.metric):
            empty.no_data_yet("No data: nothing is known of this time.")
        elif chart.is_good:
            empty.nothing_wrong(chart.nothing)
        else:
            empty.no_data_yet(chart.nothing)


def _time_series(chart: Chart, history: MetricHistory, limits: Limits) -> TimeSeries:
    """The metric with its labels; series that are 0 throughout are left out."""
    points = history.lines(chart.metric)
    shown = {series for _, series, value in points if value}
    return TimeSeries(
        name=chart.title,
        points=[
            (at, labels.named(chart.names, series), value * chart.factor)
            for at, series, value in points
            if series in shown
        ],
        start=history.span.start,
        end=history.span.end,
        bands=history.interruptions,
        threshold=chart.threshold(limits) if chart.threshold else None,
        unit=chart.unit,
        mark=chart.mark,
        scale=chart.scale,
        step=history.span.step,
    )


def _is_zero(history: MetricHistory, metric: str) -> bool:
    """Whether the metric is known to be 0 throughout; False when it is unknown.

    Prometheus extrapolates, so that one event may read as a fraction: less than half an event counts as none.
    """
    lines = history.lines(metric)
    is_known = bool(lines) and metric not in history.measured.missing
    return is_known and not any(value for _, _, value in lines) and sum(history.total(metric).values()) < 0.5


def _pick_interval(key: str) -> None:
    if found := time_series.brushed(key):
        incident_impact.pick(IncidentInterval(*found))


def _breakers(history: MetricHistory) -> None:
    with st.container(border=True, height="stretch"):
        st.markdown("**Circuit breakers** :gray[:small[click an open band to see the affected orders]]")
        bands = [band for band in history.bands if band.breaker in NAMES]
        if bands:
            charts.states(bands, history.span.start, key=BANDS, on_select=lambda: incident_impact.pick_band(BANDS))
        else:
            empty.no_data_yet("No breaker was reported in this time.")
