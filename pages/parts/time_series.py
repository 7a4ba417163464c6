"""Charts of time series: lines or stacked bars with an alert threshold, over bands of breakers that were not closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import cycle
from typing import Any, Generic, Literal, TypeVar

import pyarrow as pa
import streamlit as st

from pages.parts import charts
from services.metrics.trends import BIN, Trends

S = TypeVar("S")
T = TypeVar("T")

OUTCOMES = {"PLACED": "Placed", "PENDING_INVENTORY": "Waiting for inventory", "REJECTED": "Rejected"}
OUTCOME_TONES = {"Placed": "blue", "Waiting for inventory": "orange", "Rejected": "red"}
POWERS = [1, 10, 100, 1000, 10_000, 100_000]
TICKS = {"log": {"values": POWERS}, "symlog": {"values": [0, *POWERS]}}
BRUSH = {"name": "brush", "select": {"type": "interval", "encodings": ["x"]}}
TONES = ("blue", "orange", "green", "red", "violet", "gray", "teal")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 3])
SCHEMA = pa.schema([
    ("what", pa.string()), ("t", pa.float64()), ("until", pa.float64()), ("series", pa.string()), ("n", pa.float64())
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of an alert: a line with its name."""

    value: float
    text: str


@dataclass(frozen=True)
class TimeSeries:
    """At least one point ``(time, series, value)``, oldest first, and the way to draw the points."""

    name: str
    points: Sequence[tuple[datetime, str, float]]
    start: datetime
    end: datetime
    step: timedelta
    bands: Sequence[tuple[datetime, datetime]] = ()
    """Intervals in which a breaker was not closed."""
    band_label: str = ""
    threshold: Threshold | None = None
    unit: str = ""
    mark: Literal["line", "bar"] = "line"
    scale: Literal["linear", "log", "symlog"] = "linear"
    legend_columns: int = 2

    @cached_property
    def rows(self) -> pa.Table:
        """Points, bands and the threshold as rows of the chart; ``what`` is the kind of a row."""
        middle = self.step / 2 if self.mark == "bar" else timedelta()
        rows: list[dict[str, Any]] = [
            {"what": "point", "t": charts.millis(at + middle), "series": series, "n": value}
            for at, series, value in self.points
        ]
        rows += [
            {
                "what": "band",
                "t": charts.millis(max(begin, self.start)),
                "until": charts.millis(min(end, self.end)),
            }
            for begin, end in self.bands
            if end > self.start and begin < self.end
        ]
        if self.threshold:
            rows.append({"what": "rule", "n": self.threshold.value})
        return pa.Table.from_pylist(rows, SCHEMA)


class Derived(Generic[S, T]):
    """A pure function of a reading's value that caches its last result.

    One result is enough, because all open pages draw the same value until the next load. The threads of the pages
    share the result, so it must not be changed.
    """

    def __init__(self, make: Callable[[S], T]) -> None:
        self._make = make
        self._last: tuple[S, T] | None = None

    def of(self, source: S) -> T:
        """The result for ``source``, which is compared by identity."""
        last = self._last
        if last is None or last[0] is not source:
            last = self._last = (source, self._make(source))
        return last[1]


def _orders_per_minute(trends: Trends) -> TimeSeries:
    bins = trends.orders_per_minute
    points = [(at, name, counts.get(status, 0.0)) for at, counts in bins for status, name in OUTCOMES.items()]
    return TimeSeries(
        "Orders per minute by outcome",
        points,
        start=bins[0][0],
        end=bins[-1][0] + BIN,
        step=BIN,
        bands=trends.interruptions,
        band_label="breaker opened",
        legend_columns=len(OUTCOMES),
    )


orders_per_minute = Derived(_orders_per_minute)
"""Orders per minute by outcome, from trends with at least one bin."""


def draw(
    shown: TimeSeries, *, height: int = 250, key: str | None = None, on_select: Callable[[], None] | None = None
) -> None:
    """Draw the chart. With ``on_select``, which runs at each change, a drag selects an interval; see brushed()."""
    names = sorted({series for _, series, _ in shown.points}, key=_rank)
    charts.plot(
        shown.rows,
        _spec(shown, names, [BRUSH] if on_select else []),
        height=height,
        key=key,
        on_select=on_select or "ignore",
        alt=_alt(shown, names),
    )


def _rank(series: str) -> tuple[int, str]:
    """Sort key: outcomes first, in the order of the other pages, then other series by name."""
    outcomes = list(OUTCOME_TONES)
    return (outcomes.index(series) if series in outcomes else len(outcomes)), series


def _tones(names: Sequence[str]) -> dict[str, str]:
    """A colour for each series. Outcomes have fixed colours; other series get the remaining colours."""
    fixed = {OUTCOME_TONES[name] for name in names if name in OUTCOME_TONES}
    left = (tone for tone in TONES if tone not in fixed)
    colors = charts.palette()
    return {name: colors[OUTCOME_TONES.get(name) or next(left, TONES[-1])] for name in names}


def brushed(key: str) -> tuple[datetime, datetime] | None:
    """The interval selected on a chart; None without one."""
    chosen = st.session_state.get(key, {}).get("selection", {}).get("brush") or {}
    ends = chosen.get("t") or []
    if len(ends) != 2 or ends[0] == ends[1]:
        return None
    first, last = (datetime.fromtimestamp(float(end) / 1000, UTC) for end in sorted(ends))
    return first, last


def _alt(shown: TimeSeries, names: Sequence[str]) -> str:
    parts = [f"{shown.name}: {', '.join(names)}" if names else shown.name]
    if shown.threshold:
        parts.append(f"alert threshold {shown.threshold.text}")
    if shown.bands:
        parts.append("shaded where a breaker was not closed")
    return "; ".join(parts)


def _spec(shown: TimeSeries, names: Sequence[str], params: list[dict[str, Any]]) -> dict[str, Any]:
    colors = charts.palette()
    y = {
        "field": "n",
        "type": "quantitative",
        "axis": {"title": shown.unit or None, "tickCount": 4, "titleFontWeight": "normal"} | TICKS.get(shown.scale, {}),
        "scale": _scale(shown),
    }
    x = charts.time_axis("t", shown.start, shown.end)
    band = {"type": "rect", "color": colors["red"], "opacity": 0.13}
    layers = [
        charts.layer("datum.what === 'band'", band, x=x, x2={"field": "until"}),
        _values(shown, names, x, y) | {"params": params},
    ]
    if shown.band_label:
        layers += _band_starts(shown.band_label, x, colors["red"])
    if shown.threshold:
        layers += _rule(shown.threshold, y, colors, is_lowest=shown.unit == "%")
    return {"layer": layers}


def _scale(shown: TimeSeries) -> dict[str, Any]:
    scale: dict[str, Any] = {"type": shown.scale, "zero": shown.scale != "log"}
    if shown.unit == "%":
        lowest = min([value for _, _, value in shown.points] + [shown.threshold.value if shown.threshold else 100])
        scale |= {"domain": [max(0, 10 * ((lowest - 1) // 10)), 100], "zero": False, "clamp": True}
    return scale


def _values(shown: TimeSeries, names: Sequence[str], x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    legend = charts.LEGEND | {"labelLimit": 150, "columns": shown.legend_columns if len(names) > 2 else 0}
    encoding: dict[str, Any] = {
        "x": x,
        "y": {**y, "stack": "zero" if shown.mark == "bar" else None},
        "color": charts.by_name("series", _tones(names), legend),
        "tooltip": [
            {"field": "series", "title": shown.name},
            charts.time_tip("t", "Time", "%d %b %H:%M:%S"),
            {"field": "n", "title": shown.unit or "Value", "format": ",.2f"},
        ],
    }
    if shown.mark == "line":
        dashes = dict(zip(names, cycle(DASHES), strict=False))
        encoding["strokeDash"] = charts.by_name("series", dashes, legend)
        mark = {"type": "line", "strokeWidth": 2, "point": len(shown.points) <= 2 * len(names)}
    else:
        width = 560 * (shown.step / (shown.end - shown.start)) * 0.8
        mark = {"type": "bar", "width": max(2.0, min(14.0, width))}
    return charts.layer("datum.what === 'point'", mark, **encoding)


def _band_starts(text: str, x: Mapping[str, Any], color: str) -> list[dict[str, Any]]:
    """A line and a label at the start of each band."""
    rule = {"type": "rule", "color": color, "strokeDash": [4, 3]}
    label = {"type": "text", "text": text, "color": color, "align": "right", "baseline": "bottom", "dx": 6}
    return [
        charts.layer("datum.what === 'band'", rule, x=x),
        charts.layer("datum.what === 'band'", label | {"fontSize": 11}, x=x, y={"value": -3}),
    ]


def _rule(
    threshold: Threshold, y: Mapping[str, Any], colors: Mapping[str, str], *, is_lowest: bool
) -> list[dict[str, Any]]:
    """The line of a threshold with its name; below the line if ``is_lowest``, because good values are above it."""
    line = {"type": "rule", "color": colors["quiet"], "strokeWidth": 1.5}
    text = {
        "type": "text",
        "align": "right",
        "baseline": "top" if is_lowest else "bottom",
        "dy": 4 if is_lowest else -3,
        "fontSize": 11,
        "color": colors["quiet"],
        "text": f"alert {threshold.text}",
    }
    # The text is drawn twice, first as a wide outline in the page's colour, so that it is readable across lines.
    outline = text | {"color": colors["page"], "stroke": colors["page"], "strokeWidth": 5}
    return [
        charts.layer("datum.what === 'rule'", line, y=y),
        *(charts.layer("datum.what === 'rule'", mark, x={"value": "width"}, y=y) for mark in (outline, text)),
    ]
