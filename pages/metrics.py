"""The history of the integration: the five key metrics of the seed and more, over any stretch of time.

From a spike, brushed on a chart, it is one look to exactly the orders in it. Source: seed 9.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import streamlit as st

from pages.parts import charts, incident_impact, labels, live, objective, ranges, tiles, time_series
from pages.parts.time_series import Threshold, TimeSeries
from pages.parts.widgets import clock, empty
from services.console.cache import Reading
from services.console.facade import console
from services.console.incidents import IncidentInterval
from services.console.metric_history import Limits, MetricHistory, Wanted
from services.console.status import CHECK, NAMES, RESERVE

QUANTILES = {"p50": "latency_p50", "p95": "latency_p95", "p99": "latency_p99"}
EVERY = "5s"
NO_DATA, UNKNOWN = "no data", "n/a"


def filters() -> None:
    """The time range, and which latency is drawn."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        ranges.picker()
        st.segmented_control(
            "Latency", list(QUANTILES), key="quantile", default="p95", required=True, bind="query-params"
        )


def everything() -> None:
    incident_impact.panel()
    _zoom()
    wanted = ranges.chosen()
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
    _charts(history, console().metrics.limits)
    objective.panel(console().metrics.budget())


def _nothing(wanted: Wanted) -> None:
    if wanted == Wanted(ranges.DEFAULT):
        empty.no_data_yet("Nothing has been measured in the last hour; the worker measures every few seconds.")
    else:
        empty.nothing_matches("Nothing was recorded in this time.", ranges.last_hour, key="last_hour")


def _zoom() -> None:
    """Beside a picked stretch: look at it closely."""
    if interval := incident_impact.picked():
        end = interval.end or console().now()
        around = (end - interval.start) / 4 + timedelta(seconds=30)
        st.button(
            "Zoom in",
            key="zoom_in",
            icon=":material/zoom_in:",
            on_click=ranges.show,
            args=(interval.start - around, min(end + around, console().now())),
        )


def _source(history: MetricHistory, reading: Reading[MetricHistory]) -> None:
    """Where the numbers come from and how old they are; a stand-in says so."""
    now = console().now()
    newest = history.measured.newest_at
    age = f"newest measurement {clock.ago(newest, now)}" if newest else "no measurement yet"
    ends = f"{clock.at(history.span.start, now)} to {clock.at(history.span.end, now)} {clock.zone_name()}"
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        with st.container(width="stretch"):
            live.as_of(
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


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _tiles(history: MetricHistory, *, grey: bool) -> None:
    """The seed's five key metrics over the whole stretch."""
    p95, p50, p99 = (history.total(f"latency_p{number}") for number in (95, 50, 99))
    technical, business, calls = (history.total(name) for name in ("success_rate", "business_rate", "calls"))
    failures = history.total("failures")
    shut = sum((end - start for start, end in _within(history)), timedelta())
    shown = [
        (
            "Availability p95",
            tiles.milliseconds(p95.get(CHECK)),
            f"p50 {tiles.milliseconds(p50.get(CHECK))} · p99 {tiles.milliseconds(p99.get(CHECK))}",
        ),
        *(
            (label, tiles.percent(technical.get(name)), _of_calls(calls.get(name), business.get(name)))
            for label, name in (("Availability success", CHECK), ("Reservation success", RESERVE))
        ),
        (
            "Breakers not closed",
            clock.span(shut) if shut else "never" if history.bands else UNKNOWN,
            _times(len(_within(history))) if shut else "all closed throughout" if history.bands else NO_DATA,
        ),
        ("Failed orders", f"{round(sum(failures.values())):,}" if failures else UNKNOWN, _worst(failures)),
    ]
    with st.grid(5, min_column_width=150):
        for label, value, note in shown:
            explained = tiles.TWO_RATES if label.endswith("success") else None
            tiles.number(label, value, note=note, grey=grey, chart=False, help=explained)


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


def _charts(history: MetricHistory, limits: Limits) -> None:
    quantile = str(st.session_state.get("quantile") or "p95")
    latency = _time_series(
        history,
        QUANTILES[quantile],
        f"Response time {quantile}",
        labels.CALL,
        factor=1000,
        unit="ms",
        scale="log",
        threshold=Threshold(limits.latency_seconds * 1000, f"{limits.latency_seconds * 1000:,.0f} ms (availability)"),
    )
    success = _time_series(
        history,
        "success_rate",
        "Success rate",
        labels.CALL,
        factor=100,
        unit="%",
        threshold=Threshold(limits.success_rate * 100, f"{limits.success_rate * 100:g} % (reservation)"),
    )
    failures = _time_series(history, "failures", "Failed orders per minute", labels.FAILURE, mark="bar")
    queues = _time_series(
        history,
        "queues",
        "Queues",
        labels.QUEUE,
        scale="symlog",
        threshold=Threshold(limits.queue_depth, f"{limits.queue_depth:,} (waiting for inventory)"),
    )
    statuses = {name: word.text for name, word in labels.ORDER.items()}
    orders = _time_series(history, "orders", "Orders per minute by status reached", statuses)
    denied = _time_series(history, "denied", "Calls denied per minute", labels.CALL, mark="bar")
    outcomes = {"released": "Released", "retried": "Retried", "failed": "Failed"}
    releases = _time_series(history, "releases", "Releases per minute", outcomes, mark="bar")
    with st.grid(2, min_column_width=340):
        _panel(latency, _nothing_of(history, "calls", "No call was answered in this time."))
        _panel(success, _nothing_of(history, "calls", "No call was made in this time."))
        _breakers(history)
        none_failed = _nothing_of(history, "failures", "No order failed because of inventory in this time.")
        _panel(failures, none_failed, is_good=True)
        _panel(queues, _nothing_of(history, "queues", "Nothing waited in this time."))
        _panel(orders, _nothing_of(history, "orders", "No order changed its status in this time."))
        none_denied = _nothing_of(history, "denied", "No call was denied by an open breaker in this time.")
        _panel(denied, none_denied, is_good=True)
        _panel(releases, _nothing_of(history, "releases", "Nothing was released in this time."))


def _nothing_of(history: MetricHistory, metric: str, nothing: str) -> str | None:
    """What an empty chart says; None where nothing is known, which is no news and above all no good news."""
    lines = history.lines(metric)
    is_known = bool(lines) and metric not in history.measured.missing
    return (
        nothing if is_known and not any(value for _, _, value in lines) and not _is_counted(history, metric) else None
    )


def _is_counted(history: MetricHistory, metric: str) -> bool:
    """Whether at least half an event was counted: Prometheus extrapolates, so one event may read as a fraction."""
    return sum(history.total(metric).values()) >= 0.5


def _time_series(
    history: MetricHistory, metric: str, name: str, called: Mapping[str, str], *, factor: float = 1, **more: object
) -> TimeSeries:
    """One metric in words; series that are nothing throughout are left out."""
    points = history.lines(metric)
    alive = {series for _, series, value in points if value}
    return TimeSeries(
        name=name,
        points=[(at, labels.named(called, series), value * factor) for at, series, value in points if series in alive],
        start=history.span.start,
        end=history.span.end,
        bands=history.interruptions,
        step=history.span.step,
        **more,  # type: ignore[arg-type]
    )


def _panel(shown: TimeSeries, nothing: str | None, *, is_good: bool = False) -> None:
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{shown.name}**")
        if shown.points:
            time_series.draw(shown, key=f"time_series_{shown.name}", on_select=_picked)
        elif nothing is None:
            empty.no_data_yet("No data: nothing is known of this time.")
        elif is_good:
            empty.nothing_wrong(nothing)
        else:
            empty.no_data_yet(nothing)


def _picked(key: str) -> None:
    if found := time_series.brushed(key):
        incident_impact.pick(IncidentInterval(*found))


def _breakers(history: MetricHistory) -> None:
    with st.container(border=True, height="stretch"):
        st.markdown("**Circuit breakers** :gray[:small[click an open band to see the affected orders]]")
        bands = [band for band in history.bands if band.breaker in NAMES]
        if bands:
            charts.states(bands, history.span.start, key="metrics_bands", on_select=_pick_band)
        else:
            empty.no_data_yet("No breaker was reported in this time.")


def _pick_band() -> None:
    chosen = st.session_state.get("metrics_bands", {}).get("selection", {}).get("picked") or []
    interval = IncidentInterval.parse(str(chosen[0].get("interval"))) if chosen else None
    if interval:
        incident_impact.pick(interval)


frame = live.header("Metrics")
filters()
live.body(frame, everything, every=EVERY)
