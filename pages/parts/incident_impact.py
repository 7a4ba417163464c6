"""The incident lens: the orders that trouble hurt within a picked stretch of time, exactly those.

The stretch stands in the address as ``incident``, so that a link to it shows the same.
"""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from pages.parts import address, clock, empty, labels, live, orders, paging
from services.console import Reading, console
from services.console.incidents import MAX_WINDOW, PAGE_SIZE, HurtRow, Incident, Stretch

PARAMETER, PAGE = "incident", "hurt_page"
TILES = (
    ("denied", "Calls denied", "refused by an open breaker"),
    ("fallback", "Fallbacks served", "went on unverified, or wait"),
    ("flagged", "Orders flagged", "cases for a person"),
    ("refused", "Orders refused", "told to come back"),
    ("timeout", "Timed out", "outcome unknown at first"),
)


def picked() -> Stretch | None:
    """The stretch of the address."""
    return Stretch.parse(address.get(PARAMETER))


def pick(stretch: Stretch) -> None:
    """For callbacks: show what a stretch hurt."""
    paging.reset(PAGE)
    address.put(PARAMETER, str(stretch))


def drop() -> None:
    """For callbacks: back to the page without a stretch."""
    paging.reset(PARAMETER, PAGE)


def button(stretch: Stretch, label: str, key: str, *, why_not: str | None = None) -> None:
    """Picks a stretch."""
    st.button(
        label, key=key, icon=":material/troubleshoot:", type="tertiary", on_click=pick, args=(stretch,),
        disabled=why_not is not None, help=why_not,
    )  # fmt: skip


def name(stretch: Stretch, now: datetime) -> str:
    """A stretch in words, in the viewer's zone."""
    until = clock.at(stretch.end, now) if stretch.end else "now"
    of = f" · {labels.breaker(stretch.breaker)}" if stretch.breaker else ""
    return f"{clock.at(stretch.start, now)} to {until}{of}"


def panel() -> None:
    """What the picked stretch hurt; nothing when none is picked."""
    stretch = picked()
    if stretch is None:
        return
    now = console().now()
    with st.container(border=True, key="incident_lens"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown(
                f":material/troubleshoot: **Orders hurt** {name(stretch, now)} "
                f":gray[{clock.span((stretch.end or now) - stretch.start)} · {clock.zone_name()}]",
                width="content",
            )
            st.button("Close", key="drop_incident", icon=":material/close:", type="tertiary", on_click=drop)
        reading = console().incidents.of(stretch, paging.number(PAGE))
        if reading.value is None:
            empty.no_source(reading)
            return
        _incident(reading.value, reading)


def _incident(incident: Incident, reading: Reading[Incident]) -> None:
    live.as_of(reading, _summary(incident))
    if not incident.orders:
        empty.nothing_wrong("No order was hurt in this time: no call denied, no fallback, nothing flagged or refused.")
        _links(incident.stretch)
        return
    with st.grid(5, min_column_width=130):
        for kind, label, note in TILES:
            st.metric(label, live.shade(f"{incident.count(kind):,}", reading), delta=None, delta_description=note)
    for row in incident.rows:
        _row(row, grey=bool(reading.problem))
    paging.numbered(PAGE, incident.orders, PAGE_SIZE)
    _links(incident.stretch)


def _summary(incident: Incident) -> str:
    count = f"{incident.orders:,} {'order' if incident.orders == 1 else 'orders'} hurt"
    return f"the last {MAX_WINDOW:,} impacts, {count}" if incident.is_capped else count


def _row(row: HurtRow, *, grey: bool) -> None:
    now = console().now()
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"hurt_{row.hurt.order_id}"):
        orders.link(row.hurt.order_id)
        if row.order:
            st.markdown(labels.badge(labels.ORDER, row.order.status, grey=grey), width=158)
        st.markdown(_said(row, grey=grey), width="stretch")
        st.caption(clock.both(row.hurt.first_at, now), width=170, text_alignment="right")


def _said(row: HurtRow, *, grey: bool) -> str:
    """What happened, per operation: ``Call denied, Flagged`` reservation."""
    kinds: dict[str, list[str]] = {}
    for impact in row.hurt.impacts:
        badge = labels.badge(labels.IMPACT, impact.kind, grey=grey)
        if badge not in kinds.setdefault(impact.operation, []):
            kinds[impact.operation].append(badge)
    return " ".join(
        f"{' '.join(badges)} :small[{labels.plain(labels.named(labels.CALL, operation)).lower()}]"
        for operation, badges in kinds.items()
    )


def _links(stretch: Stretch) -> None:
    with st.container(horizontal=True, gap="medium"):
        st.page_link(
            "orders.py",
            label="These orders on the Orders page",
            icon=":material/receipt_long:",
            query_params={PARAMETER: str(stretch)},
        )
        received = {"from": stretch.start.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        if stretch.end:
            received["to"] = stretch.end.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        st.page_link("orders.py", label="Every order received then", icon=":material/inbox:", query_params=received)
