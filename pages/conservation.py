"""The Conservation page: differences between orders, stock and money, and the action that settles each."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, dialogs, frame, labels
from pages.parts.widgets import clock, empty, orders, paging
from services.console.conservation import ConservationPage, DifferenceRow
from services.console.facade import console
from services.console.paging import PAGE_SIZE
from services.domain.conservation import COMPENSATIONS


def differences() -> None:
    """Draw every unsettled difference with the compensation that is offered."""
    reading = console().conservation.page(paging.number("difference_page"))
    if (found := empty.value_of(reading)) is None:
        return
    frame.as_of(reading, _summary(found))
    if not found.rows:
        _nothing(found)
        return
    with st.container(border=True, gap="small"):
        for row in found.rows:
            _row(row, grey=bool(reading.problem))
    paging.numbered("difference_page", found.count, PAGE_SIZE, keys=True)


def _summary(page: ConservationPage) -> str:
    return f"{page.compared:,} comparisons, {labels.count(page.count, 'difference')}"


def _nothing(page: ConservationPage) -> None:
    if page.compared:
        empty.nothing_wrong("Every unit and every payment adds up between the services.")
    else:
        empty.no_data_yet("Nothing has been compared yet: an order is compared a minute after its last change.")


def _row(row: DifferenceRow, *, grey: bool) -> None:
    known = row.difference
    with st.container(gap="xxsmall", key=f"difference_{known.order_id}_{known.kind}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            orders.link(known.order_id)
            st.markdown(labels.badge(labels.DIFFERENCE, known.kind, grey=grey), width=170)
            st.markdown(labels.badge(labels.DIFFERENCE_STATE, known.state, grey=grey), width="content")
            st.markdown(f":small[known {clock.ago(known.first_seen_at, console().now())}]", width="content")
            _button(row)
        st.caption(f"{labels.sentence(known.detail)} Offered: {COMPENSATIONS.get(known.kind, 'nothing')}")
        actions.draw(row.command)


def _button(row: DifferenceRow) -> None:
    known = row.difference
    reason = None
    if known.state != "OPEN":
        reason = (
            "It is settled once our record and the other services agree, or once the case that was opened is closed."
        )
    elif actions.is_waiting(row.command):
        reason = "A command on this difference is under way."
    with st.container(horizontal=True, horizontal_alignment="right"):
        key = f"compensate_{known.order_id}_{known.kind}"
        if access.button("Compensate", key, refused=reason, hint=COMPENSATIONS.get(known.kind)):
            dialogs.compensate(known)


NOTE = "Orders are compared with the stock and the money of the other services a minute after they last changed."
frame.page("Conservation", differences, note=NOTE)
