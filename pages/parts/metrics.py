"""The parts of the Metrics page: the time range, one chart per metric, and the objective with its error budget.

A drag over a chart or a click on an open band picks an interval, whose affected orders are then listed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

import streamlit as st

from pages.parts import address, frame, incidents, labels, names, tiles, time_series
from pages.parts.time_series import Threshold, TimeSeries
from pages.parts.widgets import clock, empty
from services.console.cache import Reading
from services.console.facade import console
from services.console.incidents import IncidentInterval
from services.console.metric_history import Limits, MetricHistory
from services.console.metric_span import PRESETS, Wanted
from services.metrics.health import NAMES
from services.metrics.objective import PERIOD, Budget

QUANTILES = {"p50": "latency_p50", "p95": "latency_p95", "p99": "latency_p99"}


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


def charts_of(history: MetricHistory, limits: Limits) -> None:
    """All charts of the page."""
    quantile = str(st.session_state.get("quantile") or "p95")
    with st.grid(2, min_column_width=340):
        _chart(replace(LATENCY, metric=QUANTILES[quantile], title=f"Response time {quantile}"), history, limits)
        _chart(SUCCESS, history, limits)
        with st.container(border=True, height="stretch"):
            bands = [band for band in history.bands if band.breaker in NAMES]
            nothing = "No breaker was reported in this time."
            incidents.bands("Circuit breakers", bands, history.span.start, key="metrics_bands", nothing=nothing)
        for chart in CHARTS:
            _chart(chart, history, limits)


def _chart(chart: Chart, history: MetricHistory, limits: Limits) -> None:
    shown = _time_series(chart, history, limits)
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{chart.title}**")
        if shown.points:
            key = f"time_series_{chart.title}"
            time_series.draw(shown, key=key, on_select=partial(_pick_interval, key))
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
        incidents.pick(IncidentInterval(*found))


KEY, FROM, TO = "range", "from", "to"
CUSTOM = "custom"
DEFAULT = "1h"


def range_picker() -> None:
    """Presets as buttons; ``custom`` adds two inputs for times."""
    with st.container(horizontal=True, vertical_alignment="bottom", width="content"):
        st.segmented_control(
            "Time range",
            [*PRESETS, CUSTOM],
            key=KEY,
            default=DEFAULT,
            required=True,
            bind="query-params",
            on_change=_changed,
        )
        if st.session_state.get(KEY) == CUSTOM:
            wanted = chosen_range()
            for name, label, at in ((FROM, "From", wanted.start), (TO, "To", wanted.end)):
                st.datetime_input(
                    f"{label} ({clock.zone_name()})",
                    value=clock.local(at).replace(tzinfo=None) if at else None,
                    key=f"at_{name}",
                    step=timedelta(minutes=1),
                    width=210,
                    on_change=_typed,
                )


def chosen_range() -> Wanted:
    """The time range in the URL; an invalid one counts as the last hour."""
    preset = str(st.session_state.get(KEY) or DEFAULT)
    if preset != CUSTOM:
        return Wanted(preset)
    end = clock.given(address.get(TO)) or console().now().replace(second=0, microsecond=0)
    start = clock.given(address.get(FROM)) or end - timedelta(hours=1)
    return Wanted(CUSTOM, start, end) if start < end else Wanted(DEFAULT)


def show_range(start: datetime, end: datetime) -> None:
    """Callback: show the interval between two times."""
    st.session_state[KEY] = CUSTOM
    for name, moment in ((FROM, start), (TO, end)):
        address.put(name, moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
        st.session_state.pop(f"at_{name}", None)


def last_hour() -> None:
    """Callback: show the last hour."""
    st.session_state[KEY] = DEFAULT
    address.drop(FROM, TO, incidents.PARAMETER, incidents.PAGE)


def _changed() -> None:
    if st.session_state.get(KEY) != CUSTOM:
        address.drop(FROM, TO)


def _typed() -> None:
    start, end = (st.session_state.get(f"at_{name}") for name in (FROM, TO))
    if start and end:
        show_range(clock.instant(start), clock.instant(end))


# The warnings have icons and no colour, because Streamlit draws notes too faintly for a readable colour.
USED_UP = " · :material/error: used up"
TOO_FAST = " · :material/local_fire_department: too fast"
BURN_RATE = "1 uses the budget up exactly within the period. Too fast: both windows are at the limit or above."


def objective(reading: Reading[Budget]) -> None:
    """Objective, budget and burn rates of reservations."""
    with st.container(border=True):
        st.markdown(
            "**Objective: reservations answered** "
            ":gray[:small[technical success; calls denied by an open breaker count as failures]]"
        )
        if reading.value is None and reading.problem is None:
            empty.no_data_yet("The objective is being computed.")
        elif reading.value is None:
            empty.no_source(reading)
        else:
            _budget(reading.value, reading)


def _budget(budget: Budget, reading: Reading[Budget]) -> None:
    frame.as_of(reading, f"target {budget.target * 100:g} % over {clock.span(PERIOD)}")
    tile = partial(tiles.number, grey=bool(reading.problem))
    calls = budget.calls
    failed = round(calls.total - calls.good)
    allowed = round(calls.total * (1 - budget.target))
    used_up = USED_UP if budget.is_used_up else ""
    with st.grid(4, min_column_width=170):
        tile("Success", tiles.percent(calls.success_rate), f"{round(calls.total):,} calls in {clock.span(PERIOD)}")
        left = "n/a" if budget.left is None else f"{max(-9.99, budget.left) * 100:.0f} %"
        tile("Error budget left", left, f"{failed:,} failed of {allowed:,} allowed{used_up}")
        for burn in budget.burns:
            pace = burn.pace
            verdict = TOO_FAST if burn.is_too_fast else ""
            tile(
                f"{pace.name} ({clock.span(pace.long)})",
                _burn_rate(burn.long),
                f"{_burn_rate(burn.short)} in {clock.span(pace.short)} · limit {pace.limit:g}{verdict}",
                help=BURN_RATE,
            )


def _burn_rate(rate: float | None) -> str:
    if rate is None:
        return "no calls"
    return "∞" if math.isinf(rate) else f"{rate:.1f} x"
