"""Find orders: by order, user or product id, by status and by time; newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from pages.parts import address, frame, incidents, labels
from pages.parts.widgets import clock, empty, list_filters, orders, paging
from services.console.facade import console
from services.console.orders import COUNT_LIMIT, OrderFilter, OrderRow, OrdersPage
from services.domain.orders.model import InventoryStatus, OrderStatus, PaymentStatus

TIMES = {
    "hour": ("Last hour", timedelta(hours=1)),
    "day": ("Last day", timedelta(days=1)),
    "week": ("Last week", timedelta(weeks=1)),
}
NAME = "orders"
FILTER_KEYS = ("q", "status", "inventory", "payment", "time", "flagged")


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Search",
            key="q",
            type="search",
            placeholder="Order, user or product id",
            bind="query-params",
            width=260,
            max_chars=128,
            icon=":material/search:",
            on_change=_newest,
        )
        _states("Status", "status", tuple(OrderStatus), labels.ORDER, "Every status")
        _states("Inventory", "inventory", tuple(InventoryStatus), labels.INVENTORY, "Every inventory status")
        _states("Payment", "payment", tuple(PaymentStatus), labels.PAYMENT, "Every payment status")
        st.selectbox(
            "Created",
            list(TIMES),
            index=None,
            key="time",
            placeholder="Any time",
            format_func=lambda name: TIMES[name][0],
            bind="query-params",
            width=list_filters.HALF,
            on_change=_newest,
        )
        st.toggle("Flagged only", key="flagged", bind="query-params", on_change=_newest)
        list_filters.search_button("q", "Order, user or product id", _clear)
        said = _said()
        list_filters.csv(
            "orders", lambda: console().orders.csv(_wanted(said)), key="orders_csv", what="The orders that match"
        )
    _between()
    _incident()


def _states(label: str, key: str, states: Sequence[str], table: dict[str, labels.Word], every: str) -> None:
    st.multiselect(
        label,
        list(states),
        key=key,
        placeholder=every,
        format_func=lambda state: labels.word(table, state).text,
        bind="query-params",
        width=list_filters.HALF,
        on_change=_newest,
    )


def _between() -> None:
    """Draw the time interval in the address, which a link from another page sets, and a button that removes it."""
    since, until = _stretch()
    if since is None and until is None:
        return
    now = console().now()
    ends = [clock.at(moment, now) if moment else "" for moment in (since, until)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(f"Created {' to '.join(ends)}", icon=":material/schedule:", color="blue")
        st.button("Any time", key="drop_between", type="tertiary", icon=":material/close:", on_click=_drop_between)


def _stretch() -> tuple[datetime | None, datetime | None]:
    return clock.given(address.get("from")), clock.given(address.get("to"))


def _drop_between() -> None:
    address.drop("from", "to")
    _newest()


def _incident() -> None:
    """Draw the incident in the address and a button that removes it. The list then has only its affected orders."""
    interval = incidents.picked()
    if interval is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(f"Affected {incidents.name(interval, console().now())}", icon=":material/troubleshoot:", color="red")
        st.button("All orders", key="drop_incident", type="tertiary", icon=":material/close:", on_click=_drop_incident)


def _drop_incident() -> None:
    address.drop(incidents.PARAMETER)
    _newest()


def _newest() -> None:
    paging.reset(NAME)


def _clear() -> None:
    st.session_state.update({"q": "", "status": [], "inventory": [], "payment": [], "time": None, "flagged": False})
    _drop_between()
    _drop_incident()


def _said() -> dict[str, Any]:
    """The values of the filters and of the address."""
    values = {key: st.session_state.get(key) for key in FILTER_KEYS}
    return values | {"between": _stretch(), "incident": incidents.picked()}


def _wanted(said: Mapping[str, Any]) -> OrderFilter:
    """The order filter; a relative time begins at a full minute, so that all viewers share one reading."""
    since, until = said["between"]
    if time := said["time"]:
        since = console().now().replace(second=0, microsecond=0) - TIMES[time][1]
    return OrderFilter(
        text=labels.typed(said["q"]),
        statuses=tuple(sorted(said["status"] or ())),
        inventory_statuses=tuple(sorted(said["inventory"] or ())),
        payment_statuses=tuple(sorted(said["payment"] or ())),
        since=since,
        until=until,
        flagged=bool(said["flagged"]),
        incident=said["incident"].window if said["incident"] else None,
    )


def found() -> None:
    """Draw one page of the matching orders."""
    said = _said()
    wanted = _wanted(said)
    reading = console().orders.page(wanted, paging.place(NAME))
    page = reading.value
    if page is None:
        empty.no_source(reading)
        return
    # The key has the values of the filters: a relative time becomes a new instant, but the list stays the same.
    window = paging.window(NAME, said, page.rows, lambda row: row.order.order_id)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        frame.as_of(reading, _summary(page, wanted))
        paging.pause_button(NAME, window)
    if not window.rows:
        _nothing(wanted)
    else:
        marks = paging.link_parameters(NAME, page.rows)
        with st.container(border=True, gap="small"):
            for order_id, row in window.rows.items():
                _row(row, marks, gone=order_id in window.gone, grey=bool(reading.problem))
    paging.page_buttons(NAME, window)


def _summary(page: OrdersPage, wanted: OrderFilter) -> str:
    count = f"{COUNT_LIMIT:,} or more" if page.is_count_capped else f"{page.count:,}"
    one = page.count == 1
    match = "" if wanted.is_empty else " matches" if one else " match"
    return f"{count} {'order' if one else 'orders'}{match}"


def _nothing(wanted: OrderFilter) -> None:
    if wanted.is_empty:
        empty.no_data_yet("No order has been placed yet.")
    else:
        empty.nothing_matches("No order matches. Ids are searched as a whole, not in part.", _clear)


def _row(row: OrderRow, marks: Mapping[str, str], *, gone: bool, grey: bool) -> None:
    order = row.order
    now = console().now()
    grey = grey or gone
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"row_{order.order_id}"):
        orders.link(order.order_id, marks=marks)
        st.markdown(labels.badge(labels.ORDER, order.status, grey=grey), width=148)
        st.markdown(labels.badge(labels.INVENTORY, order.inventory_status, grey=grey), width=168)
        st.caption(
            f"{orders.short(order.user_id)} · {orders.units(order)}{_flags(row)}{labels.GONE if gone else ''}",
            width="stretch",
        )
        st.caption(clock.both(order.created_at, now), width="content")


def _flags(row: OrderRow) -> str:
    star = " · :material/star: high priority" if row.order.is_high_priority else ""
    flag = " · :material/flag: flagged" if row.open_reviews else ""
    return star + flag


frame.page("Orders", found, fixed=filters, filter_keys=FILTER_KEYS)
