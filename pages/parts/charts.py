"""Charts as Vega-Lite specifications: what all charts share, the states of breakers, and the window of a breaker.

A specification stays constant, so that a refresh only replaces the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import streamlit as st

from pages.parts import labels
from pages.parts.widgets import clock
from services.breakers.overview import Band, ReplicaBreaker
from services.console.facade import console
from services.console.incidents import IncidentInterval
from services.metrics.health import NAMES

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
DAYS = timedelta(hours=36)
"""Maximum interval whose time axis has no dates."""
LEGEND = {"orient": "top", "title": None}
PICKED = {"name": "picked", "select": {"type": "point", "fields": ["interval"]}}
LABELLED = timedelta(seconds=90)
"""Minimum length of a band with a label. The state of a shorter band is in its tooltip only."""
STATE_TONES = {
    "closed": "green",
    "half_open": "orange",
    "open": "red",
    "forced_closed": "orange",
    "forced_open": "red",
}


def palette() -> dict[str, str]:
    """The status, text and background colours of the current theme.

    While the database is away all status colours are grey, those of bad states darker.
    """
    colors = DARK if st.context.theme.type == "dark" else LIGHT
    if not console().status.live().problem:
        return colors
    bad, well = ("red", "orange"), ("blue", "green", "violet", "teal")
    return colors | dict.fromkeys(bad, colors["gray"]) | dict.fromkeys(well, colors["faded"])


def plot(rows: pa.Table, spec: dict[str, Any], **options: Any) -> None:
    """Call ``st.vega_lite_chart`` with readable labels, because Streamlit's labels are too faint."""
    quiet = palette()["quiet"]
    words = {"labelColor": quiet, "titleColor": quiet}
    st.vega_lite_chart(rows, spec | {"config": {"axis": words, "legend": words}}, **options)


def layer(condition: str, mark: Mapping[str, Any], **encoding: Any) -> dict[str, Any]:
    """A layer that draws the rows for which ``condition`` is true."""
    return {"transform": [{"filter": condition}], "mark": mark, "encoding": encoding}


def by_name(field: str, values: Mapping[str, Any], legend: Mapping[str, Any] | None) -> dict[str, Any]:
    """The encoding that gives each name in ``field`` its own colour or dashes."""
    scale = {"domain": list(values), "range": list(values.values())}
    return {"field": field, "type": "nominal", "scale": scale, "legend": legend}


def time_axis(field: str, first: datetime, last: datetime) -> dict[str, Any]:
    """The encoding of time on the horizontal axis, in the chosen zone. Vega supports the browser's zone and UTC."""
    length = last - first
    at = "%H:%M:%S" if length < SHORT else "%H:%M" if length <= DAYS else "%d %b %H:%M"
    axis = {
        "title": None,
        "grid": False,
        "tickCount": 6,
        "labelOverlap": True,
        # Pixels from an end of the axis within which a label is moved inwards, so that it is not cut.
        "labelFlush": 20,
        "format": "%d %b" if length > 4 * DAYS else at,
    }
    scale = {"type": "utc" if clock.is_utc() else "time", "domain": [millis(first), millis(last)]}
    return {"field": field, "type": "temporal", "axis": axis, "scale": scale}


def time_tip(field: str, title: str, form: str) -> dict[str, Any]:
    """A time in a tooltip, in the chosen zone."""
    zone = {"timeUnit": "utcyearmonthdatehoursminutesseconds"} if clock.is_utc() else {}
    return {"field": field, "type": "temporal", "title": title, "format": form} | zone


def millis(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def states(bands: Sequence[Band], since: datetime, *, key: str, on_select: Callable[[], None]) -> None:
    """Draw the states of each breaker over time. Needs at least one band.

    A band that is not closed has a label and can be clicked: the selection ``picked`` under ``key`` then has its
    ``interval``.
    """
    several = len({band.replica for band in bands}) > 1
    last = max(band.end for band in bands)
    rows = [
        {
            "breaker": NAMES.get(band.breaker, band.breaker) + (f" · {band.replica}" if several else ""),
            "state": labels.word(labels.BREAKER, band.state).text,
            "start": millis(max(band.start, since)),
            "end": millis(band.end),
            "label": _band_label(band, last),
            "thick": 8 if band.state == "closed" else 20,
            "interval": str(IncidentInterval(band.start, band.end, band.breaker)),
        }
        for band in bands
    ]
    lanes = len({row["breaker"] for row in rows})
    plot(
        pa.Table.from_pylist(rows),
        _states_spec(time_axis("start", max(since, min(band.start for band in bands)), last)),
        height=56 + 42 * lanes,
        key=key,
        on_select=on_select,
        alt="States of each breaker over time",
    )


def _band_label(band: Band, last: datetime) -> str:
    # The last band needs more room, because the end of the chart would cut off its label.
    has_room = band.end - band.start >= (LABELLED if band.end < last else 4 * LABELLED)
    return labels.word(labels.BREAKER, band.state).text if has_room and band.state != "closed" else ""


def _states_spec(x: Mapping[str, Any]) -> dict[str, Any]:
    """A closed breaker is a thin line, every other state a thick bar, so that states differ without colour."""
    colors = palette()
    tones = {labels.BREAKER[state].text: colors[tone] for state, tone in STATE_TONES.items()}
    encoding = {
        "x": x,
        "x2": {"field": "end"},
        "color": by_name("state", tones, None),
        "tooltip": [
            {"field": "breaker", "title": "Breaker"},
            {"field": "state", "title": "State"},
            time_tip("start", "From", "%H:%M:%S"),
            time_tip("end", "To", "%H:%M:%S"),
        ],
    }
    thin, thick = (
        layer(f"datum.thick === {height}", {"type": "bar", "height": height, "cornerRadius": 2}, **encoding)
        for height in (8, 20)
    )
    text = {
        "mark": {"type": "text", "align": "left", "dx": 1, "dy": -16, "fontSize": 10},
        "encoding": {"x": x, "text": {"field": "label"}, "color": {"value": colors["ink"]}},
    }
    axis = {"title": None, "labelLimit": 220, "grid": False}
    return {
        "encoding": {"y": {"field": "breaker", "type": "nominal", "sort": None, "axis": axis}},
        "layer": [thin, thick | {"params": [PICKED]}, text],
    }


def window(replica: ReplicaBreaker) -> None:
    """Draw the buckets of the rolling window: answered calls, with failed calls stacked on top."""
    calls, failing = (sum(counts) for counts in zip(*replica.buckets, strict=True)) if replica.buckets else (0, 0)
    if not calls:
        st.markdown(":gray[:material/hourglass_empty: No calls in the window.]")
        return
    rows = [
        {"bucket": number - len(replica.buckets), "kind": kind, "n": count, "order": order}
        for number, (answered, failed) in enumerate(replica.buckets)
        for order, (kind, count) in enumerate((("answered", answered - failed), ("failed", failed)))
    ]
    colors = palette()
    axis = {"title": None, "labelAngle": 0, "grid": False, "ticks": False}
    spec = {
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "x": {"field": "bucket", "type": "ordinal", "axis": axis},
            "y": {"field": "n", "type": "quantitative", "axis": {"title": None, "tickCount": 3, "tickMinStep": 1}},
            "order": {"field": "order"},
            "color": by_name("kind", {"answered": colors["blue"], "failed": colors["red"]}, LEGEND),
        },
    }
    alt = f"Calls per bucket of the window, {failing} of {calls} failed"
    plot(pa.Table.from_pylist(rows), spec, height=185, alt=alt)
