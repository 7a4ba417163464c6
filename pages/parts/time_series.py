"""Charts of time series: lines or stacked bars with an alert threshold, over bands of breakers that were not closed.

A drag over a chart selects an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import streamlit as st

from pages.parts import charts

HEIGHT = 250
DAYS = timedelta(hours=36)
"""Maximum interval whose time axis has no dates."""
POWERS = [1, 10, 100, 1000, 10_000, 100_000]
TICKS = {"log": {"values": POWERS}, "symlog": {"values": [0, *POWERS]}}
BRUSH = {"name": "brush", "select": {"type": "interval", "encodings": ["x"]}}
TONES = ("blue", "orange", "green", "red", "violet", "gray", "teal")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [1, 3])


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of an alert: a line with its name."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """At least one point ``(time, series, value)``, oldest first, and the way to draw the points."""

    name: str
    points: Sequence[tuple[datetime, str, float]]
    start: datetime
    end: datetime
    bands: Sequence[tuple[datetime, datetime]] = ()
    """Intervals in which a breaker was not closed."""
    threshold: Threshold | None = None
    unit: str = ""
    mark: Literal["line", "bar"] = "line"
    scale: Literal["linear", "log", "symlog"] = "linear"
    step: timedelta = timedelta(minutes=1)


def draw(shown: TimeSeries, *, key: str, on_select: Callable[[str], None]) -> None:
    """Draw the chart. ``on_select`` receives ``key`` when an interval is selected or deselected."""
    names = sorted({series for _, series, _ in shown.points}, key=_rank)
    middle = shown.step / 2 if shown.mark == "bar" else timedelta()
    rows: list[dict[str, Any]] = [
        {"t": _millis(at + middle), "until": None, "n": value, "series": series, "what": "point"}
        for at, series, value in shown.points
    ]
    rows += [
        {"t": _millis(max(begin, shown.start)), "until": _millis(min(end, shown.end)), "n": None, "series": None}
        | {"what": "band"}
        for begin, end in shown.bands
        if end > shown.start and begin < shown.end
    ]
    if shown.threshold:
        rows.append({"t": None, "until": None, "n": shown.threshold.value, "series": None, "what": "rule"})
    charts.plot(
        {name: [row[name] for row in rows] for name in rows[0]},
        _spec(shown, names),
        height=HEIGHT,
        key=key,
        on_select=lambda: on_select(key),
        alt=_alt(shown, names),
    )


def _rank(series: str) -> tuple[int, str]:
    """Sort key: outcomes first, in the order of the other pages, then other series by name."""
    outcomes = list(charts.OUTCOMES.values())
    return (outcomes.index(series) if series in outcomes else len(outcomes)), series


def _tones(names: Sequence[str]) -> list[str]:
    """A colour for each series. Outcomes have fixed colours; other series get the remaining colours."""
    own = dict(zip(charts.OUTCOMES.values(), charts.OUTCOME_TONES, strict=True))
    left = (tone for tone in TONES if tone not in {own[name] for name in names if name in own})
    return [own[name] if name in own else next(left, TONES[-1]) for name in names]


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


def _spec(shown: TimeSeries, names: Sequence[str]) -> dict[str, Any]:
    colors = charts.palette()
    y = {
        "field": "n",
        "type": "quantitative",
        "axis": {"title": shown.unit or None, "tickCount": 4, "titleFontWeight": "normal"} | TICKS.get(shown.scale, {}),
        "scale": _scale(shown),
    }
    x = _time(shown)
    layers = [_bands(x, colors["red"]), _values(shown, names, x, y)]
    if shown.threshold:
        layers += _rule(shown.threshold, y, colors, is_lowest=shown.unit == "%")
    return {"layer": layers}


def _scale(shown: TimeSeries) -> dict[str, Any]:
    scale: dict[str, Any] = {"type": shown.scale, "zero": shown.scale != "log"}
    if shown.unit == "%":
        lowest = min([value for _, _, value in shown.points] + [shown.threshold.value if shown.threshold else 100])
        scale |= {"domain": [max(0, 10 * ((lowest - 1) // 10)), 100], "zero": False, "clamp": True}
    return scale


def _bands(x: Mapping[str, Any], color: str) -> dict[str, Any]:
    return {
        "transform": [{"filter": "datum.what === 'band'"}],
        "mark": {"type": "rect", "color": color, "opacity": 0.13},
        "encoding": {"x": x, "x2": {"field": "until"}},
    }


def _values(shown: TimeSeries, names: Sequence[str], x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    colors = charts.palette()
    tones = [colors[tone] for tone in _tones(names)]
    legend = {"orient": "top", "title": None, "labelLimit": 150, "columns": 2 if len(names) > 2 else 0}
    encoding: dict[str, Any] = {
        "x": x,
        "y": {**y, "stack": "zero" if shown.mark == "bar" else None},
        "color": {
            "field": "series",
            "type": "nominal",
            "scale": {"domain": list(names), "range": tones},
            "legend": legend,
        },
        "tooltip": [
            {"field": "series", "title": shown.name},
            {"field": "t", "type": "temporal", "title": "Time", "format": "%d %b %H:%M:%S"} | charts.in_zone(),
            {"field": "n", "title": shown.unit or "Value", "format": ",.2f"},
        ],
    }
    if shown.mark == "line":
        dashes = {"domain": list(names), "range": list(DASHES)}
        encoding["strokeDash"] = {"field": "series", "type": "nominal", "scale": dashes, "legend": legend}
    width = max(2.0, min(14.0, 560 * (shown.step / (shown.end - shown.start)) * 0.8))
    mark: dict[str, Any] = {"type": "line", "strokeWidth": 2, "point": len(shown.points) <= 2 * len(names)}
    return {
        "params": [BRUSH],
        "transform": [{"filter": "datum.what === 'point'"}],
        "mark": mark if shown.mark == "line" else {"type": "bar", "width": width},
        "encoding": encoding,
    }


def _rule(
    threshold: Threshold, y: Mapping[str, Any], colors: Mapping[str, str], *, is_lowest: bool
) -> list[dict[str, Any]]:
    """The line of a threshold with its name; below the line if ``is_lowest``, because good values are above it."""
    color = colors["quiet"]
    rule = [{"filter": "datum.what === 'rule'"}]
    text: dict[str, Any] = {
        "type": "text",
        "align": "right",
        "baseline": "top" if is_lowest else "bottom",
        "dy": 4 if is_lowest else -3,
        "fontSize": 11,
        "color": color,
        "text": f"alert {threshold.text}",
    }
    halo: dict[str, Any] = {"color": colors["page"], "stroke": colors["page"], "strokeWidth": 5}
    return [
        {
            "transform": rule,
            "mark": {"type": "rule", "color": color, "strokeWidth": 1.5},
            "encoding": {"y": y},
        },
        # The text is drawn twice, first as a wide outline in the page's colour, so that it is readable across lines.
        *(
            {"transform": rule, "mark": text | more, "encoding": {"x": {"value": "width"}, "y": y}}
            for more in (halo, {})
        ),
    ]


def _time(shown: TimeSeries) -> dict[str, Any]:
    labels = "%d %b" if shown.end - shown.start > 4 * DAYS else "%d %b %H:%M"
    if shown.end - shown.start <= DAYS:
        labels = "%H:%M"
    axis = {
        "title": None,
        "grid": False,
        "tickCount": 6,
        "labelOverlap": True,
        "labelFlush": charts.FLUSH,
        "format": labels,
    }
    ends = charts.time_scale() | {"domain": [_millis(shown.start), _millis(shown.end)]}
    return {"field": "t", "type": "temporal", "axis": axis, "scale": ends}


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)
