"""Compare: our record of an order beside its inventory status."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, labels
from pages.parts.widgets import clock, orders
from services.console.facade import console, same_sight_key
from services.console.reviews import LookupView
from services.domain.commands import CommandKind
from services.domain.conservation import StockState
from services.domain.orders.model import Order
from services.domain.reconciliation import is_fresh
from state.commands import Command

LOOKED_UP = "inventory_looked_up"
"""In the session: the case or order, with its version, that has been looked up without a click."""


def draw(
    order: Order,
    lookup: LookupView,
    *,
    advice: str | None = None,
    review_id: str | None = None,
    grey: bool = False,
) -> None:
    """Draw our record of the order, its inventory status with the time of the lookup, and a button for a new lookup.

    Any page can call it: ``draw(order, console().reviews.inventory_lookup(order_id).value)``. The first drawing of a
    case or an order stores a lookup, unless a fresh answer exists.
    """
    _look_up_once(order, lookup, review_id)
    with st.grid(2, min_column_width=260):
        with st.container(border=True, height="stretch", gap="xsmall", key=f"record_{order.order_id}"):
            st.caption("Our record")
            st.markdown(_record(order, grey=grey))
        with st.container(border=True, height="stretch", gap="xsmall", key=f"inventory_status_{order.order_id}"):
            with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
                st.caption("Inventory status", width="content")
                access.button(
                    "Ask again" if lookup.answer else "Ask",
                    f"look_up_{order.order_id}",
                    icon="sync",
                    type="tertiary",
                    refused=actions.if_waiting(lookup.asking, "A lookup is under way."),
                    hint=access.write_note(),
                    on_click=_look_up,
                    args=(order.order_id, review_id, _key(order, lookup.asking)),
                )
            st.markdown(_inventory_status(order, lookup, grey=grey))
    if advice:
        st.info(advice, icon=":material/compare_arrows:")


def _record(order: Order, *, grey: bool) -> str:
    lines = [f"{label} {badge}" for label, badge in orders.states(order, grey=grey)]
    lines.append(f":small[Reservation {_reservation(order.reservation_id)}{orders.reservation_left(order)}]")
    return "  \n".join(lines)


def _reservation(reservation_id: str | None) -> str:
    return labels.plain(reservation_id) if reservation_id else "none"


def _inventory_status(order: Order, lookup: LookupView, *, grey: bool) -> str:
    answer = lookup.answer
    if answer is None:
        is_asking = actions.is_waiting(lookup.asking) and access.write_block() is None
        return ":gray[Asking...]" if is_asking else ":gray[Not asked yet.]"
    found, now = answer.result, console().now()
    asked = f":small[Asked {clock.both(answer.asked_at, now)} by {labels.plain(answer.asked_by)}]"
    if answer.asked_at < order.updated_at:
        asked += "  \n:small[:orange[:material/update: From before the order last changed: it decides nothing.]]"
    if found.stock is None:
        problem = labels.badge(labels.LOOKUP_PROBLEM, found.problem or "NO_ANSWER", grey=grey)
        cannot = "It cannot be asked about the stock of one order" if found.problem == "CANNOT_ANSWER" else "No answer"
        return f"Stock {problem}  \n:small[{cannot}; our record alone decides what is offered.]  \n{asked}"
    status = f" :small[answered as {labels.plain(found.said)}]" if found.said else ""
    expires_at = found.expires_at if found.stock == StockState.RESERVED else None
    ends = f" · ends {clock.at(expires_at, now)}" if expires_at else ""
    reservation = f":small[Reservation {_reservation(found.reservation_id)}{ends}]"
    return f"Stock {labels.badge(labels.STOCK_STATE, found.stock, grey=grey)}{status}  \n{reservation}  \n{asked}"


def _key(order: Order, asking: Command | None) -> str:
    return same_sight_key(CommandKind.LOOK_UP_INVENTORY, order.order_id, 0, asking)


def _look_up(order_id: str, review_id: str | None, key: str) -> None:
    actions.store_silently(
        actions.command(CommandKind.LOOK_UP_INVENTORY, order_id, key, {"reviewId": review_id} if review_id else {})
    )


def _look_up_once(order: Order, lookup: LookupView, review_id: str | None) -> None:
    """Store a lookup once per opened case or order, and once more after each change of the order."""
    # The order's version is part of the key, because an earlier answer belongs to an earlier state of the order.
    here = f"{review_id or order.order_id} {order.version}"
    if st.session_state.get(LOOKED_UP) == here or access.write_block() or actions.is_waiting(lookup.asking):
        return
    st.session_state[LOOKED_UP] = here
    answer = lookup.answer
    if answer is None or not is_fresh(answer.asked_at, console().now(), order.updated_at):
        _look_up(order.order_id, review_id, _key(order, lookup.asking))
