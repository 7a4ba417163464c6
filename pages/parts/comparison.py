"""Compare: the four columns of an order's state beside its inventory status."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, labels
from pages.parts.widgets import clock, orders
from services.console.facade import console, same_sight_key
from services.console.reviews import LookupView
from services.domain.orders.model import Order
from services.domain.reconciliation import is_fresh
from state.commands import Command

ASKED = "asked_theirs"


def draw(
    order: Order,
    say: LookupView,
    *,
    advice: str | None = None,
    review_id: str | None = None,
    grey: bool = False,
) -> None:
    """Draw the order's state, its inventory status with the time of the lookup, and a button for a new lookup.

    Any page can call it: ``draw(order, console().reviews.inventory_lookup(order_id).value)``. The first drawing of a
    case or an order stores a lookup, unless a fresh answer exists.
    """
    _ask_once(order, say, review_id)
    with st.grid(2, min_column_width=260):
        with st.container(border=True, height="stretch", gap="xsmall", key=f"ours_{order.order_id}"):
            st.caption("Ours")
            st.markdown(_ours(order, grey=grey))
        with st.container(border=True, height="stretch", gap="xsmall", key=f"theirs_{order.order_id}"):
            with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
                st.caption("Theirs: the Inventory Service", width="content")
                _ask_button(order, say, review_id)
            st.markdown(_theirs(order, say, grey=grey))
    if advice:
        st.info(advice, icon=":material/compare_arrows:")


def _ours(order: Order, *, grey: bool) -> str:
    states = (
        ("Order", labels.badge(labels.ORDER, order.status, grey=grey)),
        ("Inventory", labels.badge(labels.INVENTORY, order.inventory_status, grey=grey)),
        ("Payment", labels.badge(labels.PAYMENT, order.payment_status, grey=grey)),
    )
    lines = [f"{label} {badge}" for label, badge in states]
    lines.append(f":small[Reservation {_reservation(order.reservation_id)}{orders.reservation_left(order)}]")
    return "  \n".join(lines)


def _reservation(reservation_id: str | None) -> str:
    return labels.plain(reservation_id) if reservation_id else "none"


def _theirs(order: Order, say: LookupView, *, grey: bool) -> str:
    answer = say.answer
    if answer is None:
        is_asking = actions.is_waiting(say.asking) and access.write_block() is None
        return ":gray[Asking...]" if is_asking else ":gray[Not asked yet.]"
    said, now = answer.result, console().now()
    asked = f":small[Asked {clock.both(answer.asked_at, now)} by {labels.plain(answer.asked_by)}]"
    if answer.asked_at < order.updated_at:
        asked += "  \n:small[:orange[:material/update: From before the order last changed: it decides nothing.]]"
    if said.stock is None:
        silence = labels.badge(labels.LOOKUP_PROBLEM, said.problem or "NO_ANSWER", grey=grey)
        return f"Stock {silence}  \n{_silence(said.problem)}  \n{asked}"
    word = f" :small[they say {labels.plain(said.said)}]" if said.said else ""
    ends = f" · ends {clock.at(said.expires_at, now)}" if said.expires_at and said.stock == "HELD" else ""
    reservation = f":small[Reservation {_reservation(said.reservation_id)}{ends}]"
    return f"Stock {labels.badge(labels.STOCK_STATE, said.stock, grey=grey)}{word}  \n{reservation}  \n{asked}"


def _silence(problem: str | None) -> str:
    if problem == "CANNOT_ANSWER":
        return ":small[It has no question for one order's stock; our side alone decides what is offered.]"
    return ":small[It did not answer; our side alone decides what is offered.]"


def _key(order: Order, asking: Command | None) -> str:
    return same_sight_key("ask_theirs", order.order_id, 0, asking)


def _ask(order_id: str, review_id: str | None, key: str) -> None:
    actions.store_silently(
        lambda actor: console().reviews.look_up_inventory(order_id, actor=actor, command_id=key, review_id=review_id)
    )


def _ask_once(order: Order, say: LookupView, review_id: str | None) -> None:
    """Store a lookup once per opened case or order, and once more after each change of the order."""
    # The order's version is part of the key, because an earlier answer belongs to an earlier state of the order.
    here = f"{review_id or order.order_id} {order.version}"
    if st.session_state.get(ASKED) == here or access.write_block() or actions.is_waiting(say.asking):
        return
    st.session_state[ASKED] = here
    if say.answer is None or not is_fresh(say.answer.asked_at, console().now(), order.updated_at):
        _ask(order.order_id, review_id, _key(order, say.asking))


def _ask_button(order: Order, say: LookupView, review_id: str | None) -> None:
    waiting = actions.is_waiting(say.asking)
    reason = access.write_block() or ("They are being asked." if waiting else None)
    st.button(
        "Ask again" if say.answer else "Ask",
        key=f"ask_theirs_{order.order_id}",
        icon=":material/sync:",
        type="tertiary",
        disabled=reason is not None,
        help=reason or access.write_note(),
        on_click=_ask,
        args=(order.order_id, review_id, _key(order, say.asking)),
    )
