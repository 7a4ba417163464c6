"""The incident impact: the orders that failures of the Inventory Service affected within a picked interval.

The URL has the interval as ``incident``, so that a link shows the same orders.
"""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from pages.parts import address, frame, labels, names
from pages.parts.widgets import clock, empty, orders, paging
from services.console.cache import Reading
from services.console.facade import console
from services.console.incidents import MAX_WINDOW, PAGE_SIZE, AffectedOrderRow, Incident, IncidentInterval

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
    paging.reset(PAGE)
    address.put(PARAMETER, str(interval))


def pick_band(key: str) -> None:
    """Callback: pick the interval of the band clicked in the chart of breaker states ``key``."""
    chosen = st.session_state.get(key, {}).get("selection", {}).get("picked") or []
    interval = IncidentInterval.parse(str(chosen[0].get("interval"))) if chosen else None
    if interval:
        pick(interval)


def drop() -> None:
    """Callback: drop the interval from the address."""
    paging.reset(PARAMETER, PAGE)


def button(interval: IncidentInterval, label: str, key: str, *, why_not: str | None = None) -> None:
    """A button that picks an interval."""
    st.button(
        label, key=key, icon=":material/troubleshoot:", type="tertiary", on_click=pick, args=(interval,),
        disabled=why_not is not None, help=why_not,
    )  # fmt: skip


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
            st.markdown(
                f":material/troubleshoot: **Affected orders** {name(interval, now)} "
                f":gray[{clock.span((interval.end or now) - interval.start)} · {clock.zone_name()}]",
                width="content",
            )
            st.button("Close", key="drop_incident", icon=":material/close:", type="tertiary", on_click=drop)
        reading = console().incidents.of(interval, paging.number(PAGE))
        if reading.value is None:
            empty.no_source(reading)
            return
        _incident(reading.value, reading)


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
    count = f"{incident.orders:,} {'order' if incident.orders == 1 else 'orders'} affected"
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
        received = {"from": interval.start.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        if interval.end:
            received["to"] = interval.end.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        st.page_link("orders.py", label="Every order received then", icon=":material/inbox:", query_params=received)
