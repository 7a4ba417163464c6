"""The history of the breakers: bands of states over the last half hour, and openings with their affected orders."""

from __future__ import annotations

from datetime import datetime, timedelta

import streamlit as st

from pages.parts import charts, frame, incident_impact, labels
from pages.parts.widgets import clock, empty
from services.console.facade import console
from services.console.incidents import Incident, IncidentInterval
from services.console.status import BreakerTransition

SPAN = timedelta(minutes=30)
SHOWN_OPENINGS = 10
BANDS = "breaker_bands"
COUNTED = (("denied", "denied", "denied"), ("fallback", "fallback", "fallbacks"), ("flagged", "flagged", "flagged"))


def draw() -> None:
    """The bands of states, and the openings of the last day."""
    reading, changes = console().status.trends(), console().status.transitions()
    if reading.value is None:
        return
    with st.container(border=True):
        st.markdown("**States over the last half hour** :gray[:small[click an open band to see the affected orders]]")
        since = console().now() - SPAN
        bands = [band for band in reading.value.bands if band.end > since]
        if bands:
            charts.states(bands, since, key=BANDS, on_select=lambda: incident_impact.pick_band(BANDS))
        else:
            empty.no_data_yet("No breaker has been reported yet.")
        frame.as_of(reading)
    with st.container(border=True):
        st.markdown("**Openings in the last day**")
        _openings(_open_intervals(changes.value or ())[:SHOWN_OPENINGS], grey=bool(changes.problem))


def _openings(openings: list[tuple[BreakerTransition, datetime | None]], *, grey: bool) -> None:
    """Each interval from opening to closing, with the number of affected orders and a button to them."""
    if not openings:
        empty.nothing_wrong("No breaker has opened in the last day.")
    now = console().now()
    intervals = [IncidentInterval(opened.at, closed_at, opened.breaker) for opened, closed_at in openings]
    counted = console().incidents.counted(intervals).value or {}
    for number, ((opened, closed_at), interval) in enumerate(zip(openings, intervals, strict=True)):
        length = clock.span((closed_at or now) - opened.at)
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"opening_{number}"):
            badge = _opening(opened.to_state, is_over=closed_at is not None, grey=grey)
            st.markdown(f"{badge} **{labels.breaker(opened.breaker)}**", width=230)
            until = clock.at(closed_at, now) if closed_at else "now"
            st.markdown(f"{clock.at(opened.at, now)} to {until} · {length}", width=220)
            incident = counted.get(interval)
            st.caption(_affected(incident), width="stretch")
            st.caption(labels.plain(opened.replica), width="content")
            is_harmless = closed_at is not None and incident is not None and not incident.orders
            incident_impact.button(
                interval,
                "Affected orders",
                f"impact_{opened.replica}_{opened.breaker}_{opened.at.timestamp()}",
                why_not="No order was affected in this time." if is_harmless else None,
            )


def _opening(state: str, *, is_over: bool, grey: bool) -> str:
    """The state as a badge; the state of a finished opening is grey."""
    if not is_over:
        return labels.badge(labels.BREAKER, state, grey=grey)
    return f":gray-badge[:material/history: Was {labels.text(labels.BREAKER, state).lower()}]"


def _affected(incident: Incident | None) -> str:
    if incident is None:
        return ""
    if not incident.orders:
        return "no order affected"
    parts = [f"{incident.orders:,} {'order' if incident.orders == 1 else 'orders'}"]
    parts += [
        f"{count:,} {one if count == 1 else many}" for kind, one, many in COUNTED if (count := incident.count(kind))
    ]
    return " · ".join(parts)


def _open_intervals(changes: tuple[BreakerTransition, ...]) -> list[tuple[BreakerTransition, datetime | None]]:
    """Openings newest first, each with the time at which the breaker closed; None while it is open."""
    found: list[tuple[BreakerTransition, datetime | None]] = []
    openings: dict[tuple[str, str], BreakerTransition] = {}
    for change in sorted(changes, key=lambda change: change.at):
        key = (change.replica, change.breaker)
        if change.to_state in ("open", "forced_open"):
            openings.setdefault(key, change)
        elif change.to_state in ("closed", "forced_closed") and key in openings:
            found.append((openings.pop(key), change.at))
    found += [(opened, None) for opened in openings.values()]
    return sorted(found, key=lambda interval: interval[0].at, reverse=True)
