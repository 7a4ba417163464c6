"""Charts as Vega-Lite specifications. A specification stays constant, so that a refresh only replaces the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import streamlit as st

from pages.parts import labels as words
from pages.parts.widgets import clock
from services.console.facade import console
from services.console.incidents import IncidentInterval
from services.console.status import NAMES, Band, ReplicaBreaker, Trends, interruptions

S = TypeVar("S")
T = TypeVar("T")

OUTCOMES = {"PLACED": "Placed", "PENDING_INVENTORY": "Waiting for inventory", "REJECTED": "Rejected"}
OUTCOME_TONES = ("blue", "orange", "red")
DASHES = ([1, 0], [6, 3], [2, 2])
ORDERS_SCHEMA = pa.schema({"t": pa.int64(), "until": pa.float64(), "n": pa.float64(), "series": pa.string()})
LIGHT = {
    "blue": "#3B82F6",
    "orange": "#AC6600",
    "red": "#D23A57",
    "green": "#199470",
    "violet": "#7C3AED",
    "gray": "#64748B",
    "teal": "#0E7490",
    "ink": "#0F1726",
    "quiet": "#566274",
    "page": "#FFFFFF",
    "faded": "#B4BDCB",
}
DARK = {
    "blue": "#5B9BFF",
    "orange": "#E0A030",
    "red": "#F0687D",
    "green": "#34C48F",
    "violet": "#A78BFA",
    "gray": "#94A3B8",
    "teal": "#3BC9DB",
    "ink": "#E6EAF2",
    "quiet": "#A9B4C5",
    "page": "#0D131E",
    "faded": "#475569",
}
SHORT = timedelta(minutes=8)
"""A shorter time axis has several ticks within one minute, so that its labels need seconds."""
FLUSH = 20
"""Pixels from an end of the time axis within which a label is moved inwards, so that it is not cut."""
PICKED = {"name": "picked", "select": {"type": "point", "fields": ["interval"]}}
LABELLED = timedelta(seconds=90)
"""Minimum length of a band with a label. The state of a shorter band is in its tooltip only."""


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


def palette() -> dict[str, str]:
    """The status, text and background colours of the current theme.

    While the database is away all status colours are grey, those of bad states darker.
    """
    colors = DARK if st.context.theme.type == "dark" else LIGHT
    if not console().status.live().problem:
        return colors
    bad, well = ("red", "orange"), ("blue", "green", "violet", "teal")
    return colors | dict.fromkeys(bad, colors["gray"]) | dict.fromkeys(well, colors["faded"])


def plot(rows: object, spec: dict[str, Any], **options: Any) -> None:
    """Call ``st.vega_lite_chart`` with readable labels, because Streamlit's labels are too faint."""
    quiet = palette()["quiet"]
    words_of = {"labelColor": quiet, "titleColor": quiet}
    st.vega_lite_chart(rows, spec | {"config": {"axis": words_of, "legend": words_of}}, **options)


def orders(trends: Trends) -> None:
    """Draw orders per minute by outcome, over bands in which a breaker was not closed. Needs at least one bin."""
    drawn = _orders_rows.of(trends)
    summary = "Orders per minute by outcome" + ("; shaded where a breaker was open" if drawn.is_shaded else "")
    first, last = trends.orders_per_minute[0][0], trends.orders_per_minute[-1][0]
    plot(drawn.rows, _orders_spec(_time("t", first, last)), height=290, alt=summary)


class _OrdersRows(NamedTuple):
    """The rows of the chart of orders."""

    rows: pa.Table
    is_shaded: bool


def _make_orders_rows(trends: Trends) -> _OrdersRows:
    rows: list[dict[str, Any]] = [
        {"t": _millis(at), "until": None, "n": counts.get(status, 0.0), "series": name}
        for at, counts in trends.orders_per_minute
        for status, name in OUTCOMES.items()
    ]
    first = trends.orders_per_minute[0][0]
    shaded = [
        {"t": _millis(max(start, first)), "until": _millis(end), "n": None, "series": "band"}
        for start, end in interruptions(trends.bands)
        if end > first
    ]
    return _OrdersRows(pa.table(_columns(rows + shaded), ORDERS_SCHEMA), bool(shaded))


_orders_rows = Derived(_make_orders_rows)


def _orders_spec(x: Mapping[str, Any]) -> dict[str, Any]:
    colors = palette()
    names = list(OUTCOMES.values())
    return {
        "layer": [
            *_opened_bands(x, colors["red"]),
            {
                "transform": [{"filter": "datum.series !== 'band'"}],
                "mark": {"type": "line", "strokeWidth": 2, "tooltip": True},
                "encoding": {
                    "x": x,
                    "y": {"field": "n", "type": "quantitative", "axis": {"title": None, "tickCount": 4}},
                    "color": {
                        "field": "series",
                        "type": "nominal",
                        "scale": {"domain": names, "range": [colors[name] for name in OUTCOME_TONES]},
                        "legend": {"orient": "top", "title": None},
                    },
                    "strokeDash": {
                        "field": "series",
                        "type": "nominal",
                        "scale": {"domain": names, "range": list(DASHES)},
                        "legend": {"orient": "top", "title": None},
                    },
                },
            },
        ]
    }


def _opened_bands(x: Mapping[str, Any], color: str) -> list[dict[str, Any]]:
    """The intervals in which a breaker was not closed, each with a line and a label at its start."""
    bands = [{"filter": "datum.series === 'band'"}]
    label = {
        "type": "text",
        "text": "breaker opened",
        "color": color,
        "align": "right",
        "baseline": "bottom",
        "dx": 6,
        "fontSize": 11,
    }
    return [
        {
            "transform": bands,
            "mark": {"type": "rect", "color": color, "opacity": 0.13},
            "encoding": {"x": x, "x2": {"field": "until"}},
        },
        {
            "transform": bands,
            "mark": {"type": "rule", "color": color, "strokeDash": [4, 3]},
            "encoding": {"x": x},
        },
        {"transform": bands, "mark": label, "encoding": {"x": x, "y": {"value": -3}}},
    ]


def states(
    bands: Sequence[Band], since: datetime, *, key: str | None = None, on_select: Callable[[], None] | None = None
) -> None:
    """Draw the states of each breaker over time. Needs at least one band; bands that are not closed have a label.

    With ``on_select`` such a band can be clicked: the selection ``picked`` under ``key`` then has its ``interval``.
    """
    several = len({band.replica for band in bands}) > 1
    last = max(band.end for band in bands)
    rows = [
        {
            "breaker": NAMES.get(band.breaker, band.breaker) + (f" · {band.replica}" if several else ""),
            "state": words.word(words.BREAKER, band.state).text,
            "start": _millis(max(band.start, since)),
            "end": _millis(band.end),
            "label": _band_label(band, last),
            "thick": 8 if band.state == "closed" else 20,
            "interval": str(IncidentInterval(band.start, band.end, band.breaker)),
        }
        for band in bands
    ]
    lanes = len({row["breaker"] for row in rows})
    x = _time("start", max(since, min(band.start for band in bands)), last)
    plot(
        _columns(rows),
        _states_spec(x, can_pick=on_select is not None),
        height=56 + 42 * max(lanes, 1),
        key=key,
        on_select=on_select or "ignore",
        alt="States of each breaker over time",
    )


def _band_label(band: Band, last: datetime) -> str:
    # The last band needs more room, because the end of the chart would cut off its label.
    has_room = band.end - band.start >= (LABELLED if band.end < last else 4 * LABELLED)
    return words.word(words.BREAKER, band.state).text if has_room and band.state != "closed" else ""


def _states_spec(x: Mapping[str, Any], *, can_pick: bool) -> dict[str, Any]:
    colors = palette()
    axis = {"title": None, "labelLimit": 220, "grid": False}
    return {
        "encoding": {"y": {"field": "breaker", "type": "nominal", "sort": None, "axis": axis}},
        "layer": [
            _state_bars(8, x, colors),
            _state_bars(20, x, colors) | ({"params": [PICKED]} if can_pick else {}),
            {
                "mark": {"type": "text", "align": "left", "dx": 1, "dy": -16, "fontSize": 10},
                "encoding": {"x": x, "text": {"field": "label"}, "color": {"value": colors["ink"]}},
            },
        ],
    }


def _state_bars(thick: int, x: Mapping[str, Any], colors: Mapping[str, str]) -> dict[str, Any]:
    """A closed breaker is a thin line, every other state a thick bar, so that states differ without colour."""
    names = [words.BREAKER[state].text for state in ("closed", "half_open", "open", "forced_closed", "forced_open")]
    tones = [colors[name] for name in ("green", "orange", "red", "orange", "red")]
    return {
        "transform": [{"filter": f"datum.thick === {thick}"}],
        "mark": {"type": "bar", "height": thick, "cornerRadius": 2},
        "encoding": {
            "x": x,
            "x2": {"field": "end"},
            "color": {
                "field": "state",
                "type": "nominal",
                "scale": {"domain": names, "range": tones},
                "legend": None,
            },
            "tooltip": [
                {"field": "breaker", "title": "Breaker"},
                {"field": "state", "title": "State"},
                {"field": "start", "type": "temporal", "title": "From", "format": "%H:%M:%S"} | in_zone(),
                {"field": "end", "type": "temporal", "title": "To", "format": "%H:%M:%S"} | in_zone(),
            ],
        },
    }


def window(replica: ReplicaBreaker) -> None:
    """Draw the buckets of the rolling window: answered calls, with failed calls stacked on top."""
    if not any(calls for calls, _ in replica.buckets):
        st.markdown(":gray[:material/hourglass_empty: No calls in the window.]")
        return
    last = len(replica.buckets)
    rows = [
        {"bucket": number - last, "kind": kind, "n": count, "order": order}
        for number, (calls, failed) in enumerate(replica.buckets)
        for order, (kind, count) in enumerate((("answered", calls - failed), ("failed", failed)))
    ]
    failing = sum(failed for _, failed in replica.buckets)
    plot(
        _columns(rows),
        _window_spec(),
        height=185,
        alt=f"Calls per bucket of the window, {failing} of {sum(calls for calls, _ in replica.buckets)} failed",
    )


def _window_spec() -> dict[str, Any]:
    colors = palette()
    return {
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "x": {
                "field": "bucket",
                "type": "ordinal",
                "axis": {"title": None, "labelAngle": 0, "grid": False, "ticks": False},
            },
            "y": {"field": "n", "type": "quantitative", "axis": {"title": None, "tickCount": 3, "tickMinStep": 1}},
            "order": {"field": "order"},
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": ["answered", "failed"], "range": [colors["blue"], colors["red"]]},
                "legend": {"orient": "top", "title": None},
            },
        },
    }


def _time(field: str, first: datetime, last: datetime) -> dict[str, Any]:
    """The encoding of time on the horizontal axis."""
    labels = "%H:%M:%S" if last - first < SHORT else "%H:%M"
    axis = {"title": None, "grid": False, "tickCount": 7, "labelOverlap": True, "labelFlush": FLUSH, "format": labels}
    return {"field": field, "type": "temporal", "axis": axis, "scale": time_scale()}


def time_scale() -> dict[str, Any]:
    """The scale of a time axis in the chosen zone. Vega supports the browser's zone and UTC."""
    return {"type": "utc" if clock.is_utc() else "time"}


def in_zone() -> dict[str, str]:
    """The encoding that shows the time of a tooltip in the chosen zone."""
    return {"timeUnit": "utcyearmonthdatehoursminutesseconds"} if clock.is_utc() else {}


def _millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
