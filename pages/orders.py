"""Find orders: by order, user or product id, by status and by time; newest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

import streamlit as st

from pages.parts import address, frame, incidents, labels, listing
from pages.parts.widgets import clock, list_filters, orders, paging
from services.console.facade import console
from services.console.orders import OrderFilter, OrderRow
from services.console.paging import Paged

TIMES = {
    "hour": ("Last hour", timedelta(hours=1)),
    "day": ("Last day", timedelta(days=1)),
    "week": ("Last week", timedelta(weeks=1)),
}
NAME = "orders"
FILTER_KEYS = ("q", "status", "payment", "time", "flagged")
# Key and parameter of a filter that is not bound: the address has the statuses themselves, not their labels.
INVENTORY = "inventory"


def _newest() -> None:
    paging.reset(NAME)


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        listing.search("Search", "q", "Order, user or product id", _newest, width=260)
        _statuses("Status", "status", labels.ORDER, "Every status")
        _inventory_statuses()
        _statuses("Payment", "payment", labels.PAYMENT, "Every payment status")
        listing.choice("Created", "time", list(TIMES), "Any time", _newest, name=lambda time: TIMES[time][0])
        st.toggle("Flagged only", key="flagged", bind="query-params", on_change=_newest)
        list_filters.search_button("q", "Order, user or product id", _clear)
        chosen = _chosen()
        list_filters.csv(
            "orders", lambda: console().orders.csv(_wanted(chosen)), key="orders_csv", what="The orders that match"
        )
    since, until = chosen["between"]
    if since or until:
        ends = " to ".join(clock.at(end, console().now()) if end else "" for end in (since, until))
        listing.tag(f"Created {ends}", "schedule", _drop_between, "Any time", "drop_between")
    if chosen["incident"]:
        affected = f"Affected {incidents.name(chosen['incident'], console().now())}"
        listing.tag(affected, "troubleshoot", _drop_incident, "All orders", "drop_incident", "red")


def _statuses(
    label: str,
    key: str,
    table: Mapping[str, labels.Word],
    every: str,
    bind: Literal["query-params"] | None = "query-params",
    changed: Callable[[], None] = _newest,
) -> None:
    st.multiselect(
        label,
        list(table),
        key=key,
        placeholder=every,
        format_func=lambda status: labels.word(table, status).text,
        bind=bind,
        width=list_filters.HALF,
        on_change=changed,
    )


def _inventory_statuses() -> None:
    # The address decides, also after a step back.
    asked = address.get(INVENTORY).split(",")
    st.session_state[INVENTORY] = [status for status in labels.INVENTORY if status in asked]
    every = "Every inventory status"
    _statuses("Inventory", INVENTORY, labels.INVENTORY, every, None, _inventory_changed)


def _inventory_changed() -> None:
    address.put(INVENTORY, ",".join(st.session_state[INVENTORY]))
    _newest()


def _drop_between() -> None:
    address.drop("from", "to")
    _newest()


def _drop_incident() -> None:
    address.drop(incidents.PARAMETER)
    _newest()


def _clear() -> None:
    st.session_state.update({"q": "", "status": [], INVENTORY: [], "payment": [], "time": None, "flagged": False})
    address.drop(INVENTORY, "from", "to", incidents.PARAMETER)
    _newest()


def _chosen() -> dict[str, Any]:
    """The values of the filters and of the address."""
    values = {key: st.session_state.get(key) for key in (*FILTER_KEYS, INVENTORY)}
    between = clock.given(address.get("from")), clock.given(address.get("to"))
    return values | {"between": between, "incident": incidents.picked()}


def _wanted(chosen: Mapping[str, Any]) -> OrderFilter:
    since, until = chosen["between"]
    return OrderFilter(
        text=labels.typed(chosen["q"]),
        statuses=tuple(sorted(chosen["status"] or ())),
        inventory_statuses=tuple(sorted(chosen[INVENTORY] or ())),
        payment_statuses=tuple(sorted(chosen["payment"] or ())),
        since=listing.since(TIMES, chosen["time"]) or since,
        until=until,
        flagged=bool(chosen["flagged"]),
        incident=chosen["incident"].window if chosen["incident"] else None,
    )


def found() -> None:
    """Draw one page of the matching orders."""
    chosen = _chosen()
    wanted = _wanted(chosen)
    is_filtered = not wanted.is_empty
    listing.draw(
        NAME,
        console().orders.page(wanted, paging.place(NAME)),
        # The filters as chosen: a relative time becomes a new instant, but the list stays the same.
        chosen,
        lambda row: row.order.order_id,
        _row,
        summary=lambda page: listing.matches(page, "order", is_filtered=is_filtered),
        nothing=lambda: listing.nothing("order", "No order has been placed yet.", _clear, is_filtered=is_filtered),
    )


def _row(row: OrderRow, page: Paged[OrderRow], *, gone: bool, grey: bool) -> None:
    order = row.order
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"row_{order.order_id}"):
        orders.link(order.order_id, marks=paging.link_parameters(NAME, page))
        st.markdown(labels.badge(labels.ORDER, order.status, grey=grey), width=148)
        st.markdown(labels.badge(labels.INVENTORY, order.inventory_status, grey=grey), width=168)
        star = " · :material/star: high priority" * order.is_high_priority
        flag = " · :material/flag: flagged" * bool(row.open_reviews)
        st.caption(
            f"{orders.short(order.user_id)} · {orders.units(order)}{star}{flag}{labels.GONE * gone}", width="stretch"
        )
        st.caption(clock.both(order.created_at, console().now()), width="content")


frame.page("Orders", found, fixed=filters, filter_keys=FILTER_KEYS)
