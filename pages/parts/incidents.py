"""Incidents: the openings of breakers, and the orders that failures affected within a picked interval.

The URL has the interval as ``incident``, so that a link shows the same orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import streamlit as st

from pages.parts import address, charts, frame, labels, names
from pages.parts.widgets import clock, empty, orders, paging
from services.breakers.overview import Band
from services.console.cache import Reading
from services.console.facade import console
from services.console.incidents import PAGE_SIZE, AffectedOrderRow, Incident, IncidentInterval
from services.domain.orders.events import timestamp
from state.breakers import BreakerTransition
from state.incident_impacts import MAX_WINDOW

PARAMETER, PAGE = "incident", "hurt_page"
TILES = (
    ("denied", "Calls denied", "refused by an open breaker"),
    ("fallback", "Fallbacks served", "went on unverified, or wait"),
    ("flagged", "Orders flagged", "cases for a person"),
    ("refused", "Orders refused", "told to come back"),
    ("timeout", "Timed out", "outcome unknown at first"),
)


def picked() -> IncidentInterval | None:
    """The interval in the address."""
    return IncidentInterval.parse(address.get(PARAMETER))


def pick(interval: IncidentInterval) -> None:
    """Callback: show the orders affected within an interval."""
    address.drop(PAGE)
    address.put(PARAMETER, str(interval))


def bands(title: str, found: Sequence[Band], since: datetime, *, key: str, nothing: str) -> None:
    """Draw the states of breakers over time; a click on an open band picks its interval."""
    st.markdown(f"**{title}** :gray[:small[click an open band to see the affected orders]]")
    if found:
        charts.states(found, since, key=key, on_select=partial(_pick_band, key))
    else:
        empty.no_data_yet(nothing)


def _pick_band(key: str) -> None:
    chosen = st.session_state.get(key, {}).get("selection", {}).get("picked") or []
    interval = IncidentInterval.parse(str(chosen[0].get("interval"))) if chosen else None
    if interval:
        pick(interval)


def name(interval: IncidentInterval, now: datetime) -> str:
    """The interval as text, in the zone of the viewer."""
    until = clock.at(interval.end, now) if interval.end else "now"
    of = f" · {labels.breaker(interval.breaker)}" if interval.breaker else ""
    return f"{clock.at(interval.start, now)} to {until}{of}"


def panel() -> None:
    """Draw the orders affected within the picked interval. Draws nothing without a picked interval."""
    interval = picked()
    if interval is None:
        return
    now = console().now()
    with st.container(border=True, key="incident_impact"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            length = clock.span((interval.end or now) - interval.start)
            st.markdown(
                f":material/troubleshoot: **Affected orders** {name(interval, now)} "
                f":gray[{length} · {clock.zone_name()}]",
                width="content",
            )
            st.button(
                "Close", key="drop_incident", icon=":material/close:", type="tertiary", on_click=address.drop,
                args=(PARAMETER, PAGE),
            )  # fmt: skip
        reading = console().incidents.of(interval, paging.number(PAGE))
        if (incident := empty.value_of(reading)) is None:
            return
        _incident(incident, reading)


def _incident(incident: Incident, reading: Reading[Incident]) -> None:
    frame.as_of(reading, _summary(incident))
    if not incident.orders:
        empty.nothing_wrong("No order was affected in this time: no denied call, fallback, flagged or refused order.")
        _links(incident.interval)
        return
    with st.grid(5, min_column_width=130):
        for kind, label, note in TILES:
            st.metric(label, frame.shade(f"{incident.count(kind):,}", reading), delta=None, delta_description=note)
    for row in incident.rows:
        _row(row, grey=bool(reading.problem))
    paging.numbered(PAGE, incident.orders, PAGE_SIZE)
    _links(incident.interval)


def _summary(incident: Incident) -> str:
    count = f"{labels.count(incident.orders, 'order')} affected"
    return f"the last {MAX_WINDOW:,} impacts, {count}" if incident.is_capped else count


def _row(row: AffectedOrderRow, *, grey: bool) -> None:
    now = console().now()
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"hurt_{row.affected.order_id}"):
        orders.link(row.affected.order_id)
        if row.order:
            st.markdown(labels.badge(labels.ORDER, row.order.status, grey=grey), width=158)
        st.markdown(_said(row, grey=grey), width="stretch")
        st.caption(clock.both(row.affected.first_at, now), width=170, text_alignment="right")


def _said(row: AffectedOrderRow, *, grey: bool) -> str:
    """The impacts by inventory call as badges, such as ``Call denied`` ``Flagged`` reservation."""
    kinds: dict[str, list[str]] = {}
    for impact in row.affected.impacts:
        badge = labels.badge(labels.IMPACT, impact.kind, grey=grey)
        if badge not in kinds.setdefault(impact.call, []):
            kinds[impact.call].append(badge)
    return " ".join(
        f"{' '.join(badges)} :small[{labels.plain(labels.named(names.CALL, operation)).lower()}]"
        for operation, badges in kinds.items()
    )


def _links(interval: IncidentInterval) -> None:
    with st.container(horizontal=True, gap="medium"):
        st.page_link(
            "orders.py",
            label="These orders on the Orders page",
            icon=":material/receipt_long:",
            query_params={PARAMETER: str(interval)},
        )
        received = {"from": timestamp(interval.start)} | ({"to": timestamp(interval.end)} if interval.end else {})
        st.page_link("orders.py", label="Every order received then", icon=":material/inbox:", query_params=received)


SPAN = timedelta(minutes=30)
SHOWN_OPENINGS = 10
COUNTED = (("denied", "denied", "denied"), ("fallback", "fallback", "fallbacks"), ("flagged", "flagged", "flagged"))


def breaker_history() -> None:
    """The bands of states over the last half hour, and the openings of the last day."""
    reading, changes = console().status.trends(), console().status.transitions()
    if reading.value is None:
        return
    with st.container(border=True):
        since = console().now() - SPAN
        found = [band for band in reading.value.bands if band.end > since]
        nothing = "No breaker has been reported yet."
        bands("States over the last half hour", found, since, key="breaker_bands", nothing=nothing)
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
            st.button(
                "Affected orders",
                key=f"impact_{opened.replica}_{opened.breaker}_{opened.at.timestamp()}",
                icon=":material/troubleshoot:",
                type="tertiary",
                on_click=pick,
                args=(interval,),
                disabled=is_harmless,
                help="No order was affected in this time." if is_harmless else None,
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
    parts = [f"{labels.count(incident.orders, 'order')}"]
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
